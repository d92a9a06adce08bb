"""The named objectives: each is data over the defaults of `ObjectiveConfig` .

Without overrides an objective is leave-one-out advantages, truncated importance weights, PPO's clip at .2/.28 and
the token mean. Any field can be overridden again in the spec; the ledger keeps what came out.
"""

from __future__ import annotations

from policies.objectives.parts import Preset
from policies.objectives.presets import samples, tokens

__all__ = ["DEFAULT", "FAMILIES", "PRESETS", "Preset"]

DEFAULT = "repo_adaptive"

FAMILIES: dict[str, dict[str, Preset]] = {
    "groups: advantages compare inside a group": samples.GROUPS,
    "clips: how far the ratio may go": tokens.CLIPS,
    "repo: a push on entropy by the score function": tokens.REPO,
    "covariance: the few tokens that cost entropy": tokens.COVARIANCE,
    "tokens: weights and masks on tokens": tokens.TOKENS,
    "entropy terms: added to the loss": tokens.TERMS,
    "rewards: what a sample earns": samples.REWARDS,
    "discriminative: correct answers against wrong ones": samples.DISCRIMINATIVE,
    "plans: which samples are drawn": samples.PLANS,
}

PRESETS: dict[str, Preset] = {name: preset for family in FAMILIES.values() for name, preset in family.items()}


def family_of(name: str) -> str:
    """Say in which family a preset is."""
    return next(family for family, presets in FAMILIES.items() if name in presets)
