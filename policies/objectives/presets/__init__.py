"""The named objectives: each is data over the defaults of `ObjectiveConfig` (objectives.md 16), a file a family.

Without overrides an objective is leave-one-out advantages, truncated importance weights, PPO's clip at .2/.28 and
the token mean. Any field can be overridden again in the spec; the ledger keeps what came out.
"""

from __future__ import annotations

from policies.objectives.presets import (
    clips,
    covariance,
    discriminative,
    entropy_terms,
    groups,
    plans,
    repo,
    rewards,
    tokens,
)
from policies.objectives.presets.preset import Preset

__all__ = ["DEFAULT", "FAMILIES", "PRESETS", "Preset"]

DEFAULT = "repo_r"

FAMILIES: dict[str, dict[str, Preset]] = {
    "groups: advantages compare inside a group": groups.PRESETS,
    "clips: how far the ratio may go": clips.PRESETS,
    "repo: a push on entropy by the score function": repo.PRESETS,
    "covariance: the few tokens that cost entropy": covariance.PRESETS,
    "tokens: weights and masks on tokens": tokens.PRESETS,
    "entropy terms: added to the loss": entropy_terms.PRESETS,
    "rewards: what a sample earns": rewards.PRESETS,
    "discriminative: correct answers against wrong ones": discriminative.PRESETS,
    "plans: which samples are drawn": plans.PRESETS,
}

PRESETS: dict[str, Preset] = {name: preset for family in FAMILIES.values() for name, preset in family.items()}


def family_of(name: str) -> str:
    """Say in which family a preset is."""
    return next(family for family, presets in FAMILIES.items() if name in presets)
