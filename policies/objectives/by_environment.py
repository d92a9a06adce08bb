"""Environments of a step: what is remembered between steps is kept for each, else the first one's is everybody's.

An arm is called "environment/category"; B sequences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.objectives.contracts import ShapedRows, Totals

if TYPE_CHECKING:
    from torch import Tensor


def environments(rows: ShapedRows, totals: Totals) -> dict[str, Tensor]:
    """The sequences of every environment that wrote a token, by its name, in alphabetical order: bool [B]."""
    has_tokens_B = rows.mask_BT.any(-1)
    if rows.arm_B is None:
        return {"": has_tokens_B} if bool(has_tokens_B.any()) else {}
    found: dict[str, Tensor] = {}
    for arm in set(rows.arm_B[has_tokens_B].tolist()):
        name = totals.arms[arm].split("/")[0]
        is_of_arm_B = (rows.arm_B == arm) & has_tokens_B
        found[name] = found[name] | is_of_arm_B if name in found else is_of_arm_B
    return dict(sorted(found.items()))
