"""What surveys take over all tokens of a step: quantiles, and the entropy at its start.

B sequences, T tokens. Nothing here depends on padding, on the order of rows or on how the step is cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from policies.objectives.contracts import ShapedRows
from policies.objectives.errors import ObjectiveError

if TYPE_CHECKING:
    from torch import Tensor


def start_entropy(rows: ShapedRows, part: str) -> Tensor:
    """The entropy of every token at the start of the step, [B, T], nats; `ObjectiveError` when there is none."""
    if rows.entropy_old_BT is None:
        raise ObjectiveError(
            f"`{part}` reads the entropy of every token at the start of the step, and the rows carry none"
        )
    return rows.entropy_old_BT


def quantile(values: Tensor, share: float, between: Literal["linear", "nearest"] = "linear") -> float:
    """The value below which this share of some values lies, at least one; in double precision.

    `between` two values: interpolate, or take the nearer (of two equally near the one with the even place).
    """
    return float(np.quantile(values.double().cpu().numpy(), share, method=between))
