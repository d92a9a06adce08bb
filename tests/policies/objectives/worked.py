"""Shorthand for the worked numbers of objectives.md: small float64 tensors, one row a sequence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from policies.objectives import Rows, Totals

# The four tokens of objectives.md 6 and 17.1.
P_OLD = [0.5, 0.2, 0.9, 0.1]
P_NEW = [0.7, 0.1, 0.95, 0.3]
P_ROLL = [0.45, 0.2, 0.95, 0.02]


def f64(values: Sequence[float] | Sequence[Sequence[float]]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def rows(
    advantage: Sequence[Sequence[float]],
    new: Sequence[Sequence[float]],
    old: Sequence[Sequence[float]] | None = None,
    roll: Sequence[Sequence[float]] | None = None,
    entropy: Sequence[Sequence[float]] | None = None,
    mask: Sequence[Sequence[bool]] | None = None,
) -> Rows:
    """Rows from probabilities [B, T]; `old` and `roll` are `new` unless given."""
    old = new if old is None else old
    return Rows(
        mask_BT=torch.tensor(mask) if mask is not None else torch.ones(f64(new).shape, dtype=torch.bool),
        advantage_BT=f64(advantage),
        lp_BT=f64(new).log(),
        lp_old_BT=f64(old).log(),
        lp_roll_BT=f64(old if roll is None else roll).log(),
        entropy_BT=f64(entropy) if entropy is not None else None,
    )


def totals_of(some: Rows) -> Totals:
    """The totals of an update that consists of these rows."""
    return Totals(
        num_tokens=int(some.mask_BT.sum()),
        num_sequences=int(some.mask_BT.any(-1).sum()),
        mean_lp=float(some.lp_old_BT[some.mask_BT].mean()),
    )


def two_by_two(values: Sequence[float]) -> list[list[float]]:
    """The fixture's four tokens as two sequences of two."""
    return [list(values[:2]), list(values[2:])]
