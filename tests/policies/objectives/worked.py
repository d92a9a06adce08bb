"""Shorthand for the worked numbers of objectives.md: small float64 tensors, one row a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policies.objectives import ShapedRows, Totals
from policies.objectives.parts import Outcomes, Part, PartState

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
) -> ShapedRows:
    """Rows from probabilities [B, T]; `old` and `roll` are `new` unless given."""
    old = new if old is None else old
    return ShapedRows(
        mask_BT=torch.tensor(mask) if mask is not None else torch.ones(f64(new).shape, dtype=torch.bool),
        advantage_BT=f64(advantage),
        lp_BT=f64(new).log(),
        lp_old_BT=f64(old).log(),
        lp_roll_BT=f64(old if roll is None else roll).log(),
        entropy_BT=f64(entropy) if entropy is not None else None,
    )


def totals_of(some: ShapedRows) -> Totals:
    """The totals of an update that consists of these rows."""
    return Totals(
        num_tokens=int(some.mask_BT.sum()),
        num_sequences=int(some.mask_BT.any(-1).sum()),
        mean_lp=float(some.lp_old_BT[some.mask_BT].mean()),
        drift=float((some.lp_old_BT - some.lp_BT)[some.mask_BT].mean()),
    )


def two_by_two(values: Sequence[float]) -> list[list[float]]:
    """The fixture's four tokens as two sequences of two."""
    return [list(values[:2]), list(values[2:])]


def outcomes(
    rewards: Sequence[float],
    groups: Sequence[int] | None = None,
    lengths: Sequence[int] | None = None,
    **given: object,
) -> Outcomes:
    """A step's outcomes: one group, and one token an answer, unless given otherwise."""
    num = len(rewards)
    num_tokens_B = torch.tensor(lengths if lengths is not None else [1] * num)
    mask_BT = torch.arange(int(num_tokens_B.max()))[None, :] < num_tokens_B[:, None]
    fields: dict[str, Any] = {
        "reward_B": f64(rewards),
        "group_B": torch.tensor(groups if groups is not None else [0] * num),
        "num_tokens_B": num_tokens_B,
        "mask_BT": mask_BT,
        "entropy_BT": torch.zeros(mask_BT.shape, dtype=torch.float64),
        "is_answer_BT": torch.zeros_like(mask_BT),
        "correct_B": f64(rewards) >= 1,
        "components": {},
        "answer_B": torch.arange(num),
        "was_cut_off_B": torch.zeros(num, dtype=torch.bool),
        "arm_B": torch.zeros(num, dtype=torch.int64),
        "arms": ("",),
    }
    return Outcomes(**fields | given)


def memory() -> PartState:
    """What a part remembers before its first step."""
    return PartState({}, np.random.default_rng(0))


def surveyed(part: Part[Any], some: ShapedRows, kept: PartState | None = None) -> tuple[ShapedRows, Totals]:
    """Rows and totals as a part meets them after its survey, these rows being the whole step.

    The survey sees the step at its start: lp_old for lp, and the entropy then, if the rows tell it.
    """
    totals = totals_of(some)
    if part.survey is None:
        return some, totals
    entropy_BT = some.entropy_BT if some.entropy_old_BT is None else some.entropy_old_BT
    start = replace(some, lp_BT=some.lp_old_BT, entropy_BT=entropy_BT, entropy_old_BT=entropy_BT)
    noted = part.survey(start, totals, kept or memory())
    return replace(some, noted=noted.tokens), replace(totals, noted=noted.numbers)
