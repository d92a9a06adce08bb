"""The named objectives: each is a line of data over the defaults of `ObjectiveConfig` (objectives.md 16).

Without overrides an objective is leave-one-out advantages, truncated importance weights, PPO's clip at .2/.28 and
the token mean. Any field can be overridden again in the spec; the ledger keeps what came out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DEFAULT = "repo_r"


@dataclass(frozen=True)
class Preset:
    """One named objective."""

    about: str  # what it is, in one line
    source: str
    verified: bool  # formula and constants were checked against the authors' or a maintained implementation
    overrides: Mapping[str, Any]


PRESETS: dict[str, Preset] = {
    "rloo": Preset("leave-one-out advantages, clip-higher", "arXiv 2402.14740", True, {}),
    "rloo_on_policy": Preset(
        "leave-one-out advantages, no ratio, one update a step",
        "arXiv 2402.14740",
        True,
        {"ratio": "reinforce"},
    ),
    "grpo": Preset(
        "standardised advantages, every sequence alike",
        "arXiv 2402.03300",
        True,
        {"estimator": "grpo", "clip_high": 0.2, "aggregation": "seq_mean_token_mean"},
    ),
    "dr_grpo": Preset(
        "centred advantages, no division by spread or length",
        "arXiv 2503.20783",
        True,
        {"estimator": "dr_grpo", "clip_high": 0.2, "aggregation": "constant", "max_length": 1024},
    ),
    "repo": Preset(
        "RLOO with a push on entropy, also where no group has a signal; our controller",
        "arXiv 2603.11682",
        False,
        {"shaper": "repo", "controller": {"type": "geometric"}},
    ),
    "repo_r": Preset(
        "RLOO whose advantages lean to rare or to likely tokens so that entropy stays",
        "arXiv 2603.11682",
        True,
        {"shaper": "repo_r", "controller": {"type": "geometric_signed"}},
    ),
    "entropy_bonus": Preset(
        "GRPO with the entropy itself in the loss; our controller",
        "arXiv 1602.01783",
        True,
        {
            "estimator": "grpo",
            "clip_high": 0.2,
            "entropy_bonus": 1e-3,
            "controller": {"type": "geometric", "knob": "entropy_bonus"},
        },
    ),
}
