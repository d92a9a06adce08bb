"""Presets whose point is which samples are drawn: where, how many, and at which temperature."""

from __future__ import annotations

from policies.objectives.presets.preset import Preset

PRESETS: dict[str, Preset] = {
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
