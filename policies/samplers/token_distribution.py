"""The distribution that tokens are drawn from.

Dimension letters: R rows, V vocabulary, T positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from policies.forward import LARGE_VOCABULARY, MASS_UNITS, in_units
from policies.samplers.contracts import Sampling

BLOCK = 128  # tokens


def filter_logits(logits_RV: Tensor, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Set logits outside the k largest, then outside the smallest set whose mass reaches p, to -inf.

    At least one token stays. Sorting ascending and dropping while the running mass is at most 1 - p is vLLM's order.
    """
    if 0 < top_k < logits_RV.shape[-1]:
        smallest_kept = logits_RV.topk(top_k, dim=-1).values[..., -1:]
        logits_RV = logits_RV.masked_fill(logits_RV < smallest_kept, -torch.inf)
    if top_p < 1:
        ascending, order = logits_RV.sort(dim=-1, stable=True)
        dropped = in_units(ascending.softmax(-1)).cumsum(-1) <= (1 - top_p) * MASS_UNITS
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
    """Draw one token a row by inverse CDF: the first whose running mass exceeds the uniform.

    Masses are whole numbers (`in_units`), so that the same token is found whatever sums them, in whatever order. The
    probabilities may sum to a little more or less than 1: the uniform is scaled by what they sum to. Where they are no
    numbers it is any token, whose log-prob then tells.

    A running sum over a large vocabulary takes as long as a fifth of the model's forward. There it is found first in
    which block of tokens the mass is exceeded, then by which token.
    """
    if prob_RV.shape[-1] < LARGE_VOCABULARY:
        mass_RV = in_units(prob_RV).cumsum(-1)
        return _first_above(mass_RV, _share(uniform_R, mass_RV))[:, 0]
    num_rows, num_tokens = prob_RV.shape
    prob_RKB = torch.nn.functional.pad(prob_RV, (0, -num_tokens % BLOCK)).view(num_rows, -1, BLOCK)
    mass_RK = in_units(prob_RKB).sum(-1).cumsum(-1)
    threshold_R1 = _share(uniform_R, mass_RK)
    block_R1 = _first_above(mass_RK, threshold_R1)
    prob_RB = prob_RKB[torch.arange(num_rows, device=prob_RV.device), block_R1[:, 0]]
    before_R1 = mass_RK.gather(-1, (block_R1 - 1).clamp_(min=0)) * (block_R1 > 0)
    token_R1 = _first_above(in_units(prob_RB).cumsum(-1), threshold_R1 - before_R1)
    return (block_R1 * BLOCK + token_R1).clamp_(max=num_tokens - 1)[:, 0]


def _share(uniform_R: Tensor, mass_RN: Tensor) -> Tensor:
    """Give the uniforms' shares of a running mass, int64 [R, 1]: below all of it, as uniforms end 2^-49 below 1."""
    return (uniform_R[:, None] * mass_RN[:, -1:]).long()


def _first_above(mass_RN: Tensor, threshold_R1: Tensor) -> Tensor:
    """Find the first place of each row whose running mass exceeds the threshold, [R, 1]; the last where none does."""
    return torch.searchsorted(mass_RN, threshold_R1, right=True).clamp_(max=mass_RN.shape[-1] - 1)
