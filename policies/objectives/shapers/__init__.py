"""Shapers: advantages to advantages, token by token, before the ratio rule (objectives.md 7, 8, 10)."""

from __future__ import annotations

from policies.objectives.contracts import Need
from policies.objectives.parts import Part, Shaped, Shaper, Survey


def surveyed(survey: Survey, noted: str, *needs: Need) -> Shaper:
    """A shaper that multiplies advantages by the weights which its survey noted of tokens."""
    return Part(
        lambda advantage_BT, rows, totals: Shaped(advantage_BT * rows.noted[noted]),
        frozenset(needs),
        zero_stays_zero=True,
        survey=survey,
    )
