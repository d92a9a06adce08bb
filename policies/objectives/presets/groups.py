"""Presets whose point is the estimator: advantages that compare inside a group, or correct answers with wrong ones.

The latter have a constraint on the KL in the place of clips.
"""

from __future__ import annotations

from typing import Any

from policies.objectives.presets.preset import Preset

GROUPS: dict[str, Preset] = {
    "rloo": Preset(
        "leave-one-out advantages, clip-higher",
        "arXiv 2402.14740",
        entropy="neutral",
        use="the plain baseline, in the unit of the reward",
    ),
    "rloo_on_policy": Preset(
        "leave-one-out advantages, no ratio, one update a step",
        "arXiv 2402.14740",
        {"ratio": "reinforce"},
        use="the baseline every study should hold: strictly on-policy in full precision",
        beware="more than one update a step: nothing notices stale samples",
    ),
    "grpo": Preset(
        "standardised advantages, every sequence alike",
        "arXiv 2402.03300",
        {"estimator": "grpo", "clip_high": 0.2, "aggregation": "seq_mean_token_mean"},
        differs="the sampler's gap is weighed (`mismatch: tis`), which the paper does not do, and no KL acts unless "
        "`kl` says its strength (.04 there)",
        entropy="lowers",
        use="comparison with published runs",
        beware="the division by a small spread magnifies nearly solved and nearly hopeless groups",
    ),
    "dr_grpo": Preset(
        "centred advantages, no division by spread or length",
        "arXiv 2503.20783",
        {"estimator": "dr_grpo", "clip_high": 0.2, "aggregation": "constant", "max_length": 1024},
        use="answers of very different lengths",
    ),
    "reinforce_pp": Preset(
        "REINFORCE++ with a group baseline: the group centres, the step scales",
        "arXiv 2501.03262",
        {"estimator": "reinforce_pp_baseline", "clip_high": 0.2, "kl_form": "k2"},
        entropy="lowers",
        use="a scale of advantages that does not hang on single groups; add `kl: 0.001` as in the paper",
        beware="groups without a spread are pushed by the shift of the mean, which long answers make",
    ),
    "maxrl": Preset(
        "advantages over the group's mean reward: towards maximum likelihood of success",
        "arXiv 2602.02710",
        {"estimator": "maxrl", "clip_high": 0.2},
        entropy="slows the fall on solved tasks, speeds it on nearly hopeless ones",
        use="hard tasks, where a success is rare and should count",
        beware="one lucky success, or one mistake of the verifier, counts as much as the group is large",
    ),
    "risk": Preset(
        "RiskPO: what the tails of a bundle of tasks are worth, split over its members",
        "arXiv 2510.00911",
        {"estimator": "risk", "clip_high": 0.2},
        entropy="slows the fall",
        use="tasks at the edge of what the policy can do: the lower tail keeps its weight",
        beware="needs several tasks of an arm in a batch; small bundles are only scaled up",
    ),
    "copo": Preset(
        "COPO: groups whose answers agree are compared with other tasks of their arm",
        "arXiv 2508.04138",
        {"estimator": "copo", "clip_high": 0.2},
        missing="the constants: hijih/copo-code has bits and b of .5 or 1; two losses are added as advantages",
        use="groups that mostly agree, on tasks with many different answers",
        beware="with two possible answers only the comparison of tasks is left",
    ),
}

COMMON: dict[str, Any] = {
    "shaper": "disco",
    "mismatch": "none",
    "ratio": "reinforce",
    "terms": ["disco_constraint"],
    "aggregation": "seq_mean_token_mean",
    "updates": 4,
}

DISCRIMINATIVE: dict[str, Preset] = {
    "disco": Preset(
        "DisCO: mean log-prob of correct answers against a soft maximum over wrong ones",
        "arXiv 2505.12366",
        {"estimator": "disco", **COMMON},
        entropy="holds",
        use="rewards of 0 and 1, where GRPO's division favours tasks of middle difficulty",
        beware="0/1 rewards only; nothing but the constraint holds the policy near the start of the step",
    ),
    "drpo": Preset(
        "DisCO whose correct answers count by their shortness",
        "arXiv 2510.04474",
        {"estimator": "drpo", **COMMON},
        differs="the longest answer is an option; the released code takes the padded width",
        entropy="holds",
        use="shorter answers without punishing long correct ones",
        beware="give `drpo_max_length`; a small `drpo_lambda` leaves one correct answer a task",
    ),
}
