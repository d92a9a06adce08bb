"""Presets whose point is which samples are drawn, or what one earns: data plans, maps on rewards, several rewards.

Those over components of the score take all components that it has; name them in their options otherwise.
"""

from __future__ import annotations

from policies.objectives.presets.preset import Preset

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
            "controller": {
                "type": "switch",
                "knob": "tempered_temperature",
                "target": 0.75,
                "target_in": "nats",
                "low": 0.8,
                "high": 1.2,
            },
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
            "controller": {
                "type": "affine",
                "knob": "tempered_temperature",
                "target": 0.5,
                "target_in": "nats",
                "low": 0.8,
                "high": 1.2,
            },
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
