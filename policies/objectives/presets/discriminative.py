"""Presets that make correct answers likelier than wrong ones, with a constraint on the KL in the place of clips."""

from __future__ import annotations

from typing import Any

from policies.objectives.presets.preset import Preset

COMMON: dict[str, Any] = {
    "shaper": "disco",
    "mismatch": "none",
    "ratio": "reinforce",
    "terms": ["disco_constraint"],
    "aggregation": "seq_mean_token_mean",
    "updates": 4,
}

PRESETS: dict[str, Preset] = {
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
