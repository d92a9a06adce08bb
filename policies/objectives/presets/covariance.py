"""Presets of the family `covariance`."""

from __future__ import annotations

from policies.objectives.presets.preset import Preset

PRESETS: dict[str, Preset] = {
    "clip_cov": Preset(
        "GRPO that leaves out a few random tokens of large covariance, in wide clips",
        "arXiv 2505.22617",
        {"estimator": "grpo", "shaper": "clip_cov", "clip_low": 1.0, "clip_high": 1.0, "updates": 4},
        entropy="slows the fall",
        use="long answers: the loss of entropy hangs on few tokens",
        beware="the ratio is tuned per model, and there is no target",
    ),
    "kl_cov": Preset(
        "GRPO without a clip that holds the few tokens of largest covariance near the start of the step",
        "arXiv 2505.22617",
        {
            "estimator": "grpo",
            "ratio": "ratio",
            "terms": ["entropy_bonus", "kl", "kl_cov"],
            "updates": 4,
        },
        entropy="slows the fall",
        use="long answers: the loss of entropy hangs on few tokens; stronger than `clip_cov` in the paper",
        beware="the fraction is tuned per model (.002 for 7B, .0002 for 32B); nothing bounds the ratio of other tokens",
    ),
}
