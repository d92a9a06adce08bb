"""Rewards of other projects' servers, which may have another range, as scores from 0 to 1."""

from __future__ import annotations

from collections.abc import Mapping

from environments.contracts import Score

Range = tuple[float, float]  # what is worth 0, and what is worth 1


def score_of(reward: float, worth: Range, components: Mapping[str, float] | None = None) -> Score:
    """Score a reward on a line; one outside of its range is unscorable, as a value outside of 0..1 always is."""
    low, high = worth
    found = Score.of((reward - low) / (high - low))
    return found if found.value is None else Score(found.value, found.correct, components or {})
