"""Whitening over the tokens of a step: (x - mean) / sqrt(var + 1e-8), mean and n - 1 variance over valid tokens.

Longer answers count more, as every token of them is a value of its own. A value equal to the mean becomes 0, so a
group whose values were 0 does not stay at 0: it gets the shift of the mean.

Empty cases: no token, one token, or equal values give exactly 0.

Source: REINFORCE++, arXiv 2501.03262; checked against verl `torch_functional.py` (`masked_whiten`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

EPS = 1e-8


def whitened(value_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The values of all valid tokens, whitened, [B, T]; 0 off the mask."""
    valid = value_BT[mask_BT]
    if not len(valid) or bool(valid.min() == valid.max()):
        return value_BT.new_zeros(value_BT.shape)
    white_BT = (value_BT - valid.mean()) / (valid.var() + EPS).sqrt()
    return white_BT.masked_fill(~mask_BT, 0.0)
