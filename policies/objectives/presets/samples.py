"""Presets whose point is which samples are drawn and what they earn: estimators, reward maps, several rewards, plans.

The discriminative ones, correct answers against wrong ones, have a constraint on the KL in the place of clips. Those
over components of the score take all components that it has; name them in their options otherwise.
"""

from __future__ import annotations

from typing import Any

from policies.objectives.parts import Preset

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

REWARDS: dict[str, Preset] = {
    "pear": Preset(
        "GRPO that charges correct answers for uncertain thinking: shorter answers",
        "arXiv 2510.08026",
        {"estimator": "grpo", "clip_high": 0.2, "reward_maps": ["pear"]},
        missing="how the penalty joins the reward",
        entropy="lowers",
        use="answers that should become shorter, of models that think between tags",
        beware="it lowers entropy by design: collapse comes sooner",
    ),
    "ares": Preset(
        "GRPO with a bonus on length by difficulty, counted in high-entropy tokens",
        "arXiv 2510.08457",
        {"estimator": "grpo", "clip_high": 0.2, "reward_maps": ["ares"]},
        entropy="indirect",
        use="comparison; models that think long on easy tasks",
        beware="complex and tuned to one family of models; lengths make a spread where the verifier saw none",
    ),
    "constrained": Preset(
        "several rewards, each up to the point where it stops meaning better, the rest to the KL",
        "arXiv 2310.04373",
        {"estimator": "constrained", "constrained_kl": 0.01, "clip_high": 0.2},
        missing="no code was read; momentum, start and bound of the multipliers and the KL's coefficient are ours",
        entropy="held near the reference",
        use="learned rewards that are gamed beyond a known value",
        beware="proxy points have to be known: give `constrained_targets`",
    ),
    "weighted": Preset(
        "a weighted sum of rewards whose weights move by the influence of their gradients",
        "arXiv 2509.11452",
        {"estimator": "weighted"},
        missing="the rate (.01 or .1 in the released scripts), and that weights moved by a step hold from the next one",
        use="several rewards of one size, when it is not known how much each should count",
        beware="components of different size: the largest dominates; a backward pass for each component",
    ),
    "hypervolume": Preset(
        "rewards count more while the policy finds new trade-offs between components",
        "arXiv 2509.11452",
        {"reward_maps": ["hypervolume"]},
        missing="where the multiplier enters; the point is that of the training samples",
        use="a few components that pull apart",
        beware="training means are noisy; an estimator that divides by the spread cancels it",
    ),
}

TEMPERATURE = "tempered_temperature"

PLANS: dict[str, Preset] = {
    "aepo": Preset(
        "GRPO, and correct samples drawn hotter or cooler beside it, whichever brings entropy to its target",
        "arXiv 2510.08141",
        {
            "estimator": "grpo",
            "plans": ["tempered"],
            "tempered_weight": 1.0,
            "tempered_only_better": True,
            "tempered_most": 60,
            "clip_high": 0.2,
            "controller": {"type": "switch", "knob": TEMPERATURE, "target": 0.75, "target_in": "nats"},
        },
        missing="side rows are added, where the released code lets them replace rows of the batch",
        entropy="two-way, controlled",
        use="entropy is to be held at a number of nats, and tasks are solved now and then",
        beware="its target, .75 nat, is one model's: say your own, or `target_in: fraction`. A quarter more to play",
    ),
    "scope": Preset(
        "GRPO, and correct samples drawn at a temperature that follows the distance of entropy from its target",
        "arXiv 2510.08141",
        {
            "estimator": "grpo",
            "plans": ["tempered"],
            "tempered_temperature": 1.0,
            "tempered_weight": 1 / 64,
            "clip_high": 0.2,
            "controller": {"type": "affine", "knob": TEMPERATURE, "target": 0.5, "target_in": "nats"},
        },
        missing="no code of its second version was read, only descriptions",
        entropy="two-way, controlled",
        use="as `aepo`, with a weaker and steadier pull",
        beware="its target, .5 nat, is one model's: say your own, or `target_in: fraction`. A quarter more to play",
    ),
    "gvm": Preset(
        "GRPO whose samples go to the tasks where they lower the variance of the gradient most",
        "arXiv 2505.02391",
        {"estimator": "grpo", "plans": ["gvm"], "clip_high": 0.2, "aggregation": "prompt_mean"},
        missing="pilots inside a step are ours, and that every group weighs alike is our reading of the theory",
        entropy="indirect",
        use="tasks of one arm differ widely in difficulty, and playing is dear",
        beware="plays in two rounds with a gradient pass between them, so never ahead of the learner",
    ),
}
