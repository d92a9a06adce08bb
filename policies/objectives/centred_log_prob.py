"""The centred log-prob L that the REPO family compares tokens by.

    exact   L = lp + H            minus the mean over the vocabulary at that position; needs the entropy
    batch   L = lp - mean(lp)     minus the mean over the step's tokens; mixes positions and environments
    none    L = lp                as REPO-R is published

Source: Entropy-Preserving Reinforcement Learning, arXiv 2603.11682 (objectives.md 1 and 8.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from policies.objectives.contracts import Need, ShapedRows, Totals
from policies.objectives.errors import ObjectiveError

if TYPE_CHECKING:
    from torch import Tensor

Centre = Literal["exact", "batch", "none"]


def centring_needs(centre: Centre) -> frozenset[Need]:
    """What the learner computes for it. The mean is over all rows of the step, silent ones too."""
    needs: dict[Centre, frozenset[Need]] = {
        "exact": frozenset({"entropy"}),
        "batch": frozenset({"mean_lp"}),
        "none": frozenset(),
    }
    return needs[centre]


def centred_lp(rows: ShapedRows, totals: Totals, centre: Centre) -> Tensor:
    """L of each token under the policy being updated, [B, T], nats."""
    if centre == "none":
        return rows.lp_BT
    if centre == "exact":
        if rows.entropy_BT is None:
            raise ObjectiveError("`centre: exact` reads the entropy of every token, and the rows carry none")
        return rows.lp_BT + rows.entropy_BT
    if totals.mean_lp is None:
        raise ObjectiveError(
            "`centre: batch` reads the step's mean log-prob, and `Totals.mean_lp` is missing"
        )
    return rows.lp_BT - totals.mean_lp
