"""The distribution that tokens are drawn from.

Dimension letters: R rows, V vocabulary, T positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from policies.samplers.contracts import Sampling


def filter_logits(logits_RV: Tensor, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Set logits outside the k largest, then outside the smallest set whose mass reaches p, to -inf.

    At least one token stays. Sorting ascending and dropping while the running mass is at most 1 - p is vLLM's order.
    """
    if 0 < top_k < logits_RV.shape[-1]:
        smallest_kept = logits_RV.topk(top_k, dim=-1).values[..., -1:]
        logits_RV = logits_RV.masked_fill(logits_RV < smallest_kept, -torch.inf)
    if top_p < 1:
        ascending, order = logits_RV.sort(dim=-1, stable=True)
        dropped = ascending.softmax(-1).cumsum(-1, dtype=torch.float64) <= 1 - top_p
        dropped[..., -1] = False
        logits_RV = logits_RV.masked_fill(torch.zeros_like(dropped).scatter(-1, order, dropped), -torch.inf)
    return logits_RV


def log_distribution(logits_RV: Tensor, sampling: Sampling) -> Tensor:
    """Compute log q over the vocabulary in float32: temperature, then top-k, then top-p, then log-softmax."""
    scaled = logits_RV.float()
    if sampling.temperature != 1:
        scaled = scaled / sampling.temperature
    return torch.log_softmax(filter_logits(scaled, sampling.top_k, sampling.top_p), dim=-1)


def draw(prob_RV: Tensor, uniform_R: Tensor) -> Tensor:
    """Draw one token a row by inverse CDF, summed in float64: the first whose running mass exceeds the uniform.

    The probabilities may sum to a little more or less than 1: the uniform is scaled by what they sum to. Where they
    are no numbers it is the last token, whose log-prob then tells.
    """
    mass_RV = prob_RV.cumsum(-1, dtype=torch.float64)
    threshold_R1 = (uniform_R * mass_RV[:, -1])[:, None]
    return torch.searchsorted(mass_RV, threshold_R1, right=True)[:, 0].clamp_(max=prob_RV.shape[-1] - 1)
