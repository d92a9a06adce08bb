"""Ranks of features: in how many directions the hidden states of prompts differ.

F [n, d] has a row a prompt, the hidden state of its last token after a layer; sigma are its singular values.

    erank            exp(-sum p log p), p = sigma / sum sigma                      Roy & Vetterli
    stable_rank      sum sigma^2 / sigma_1^2
    srank            smallest k with sum_{i<=k} sigma / sum sigma >= 1 - delta     delta .01, arXiv 2010.14498
    approx_rank      the same of sigma^2, to a share of .99
    participation    (sum sigma^2)^2 / sum sigma^4

Of F as it is, and of F with its columns centred: one large mean direction hides all others. Only d numbers a prompt are
read, and what is kept is the Gram matrix [d, d] in float64. With n < 2d the number of prompts would be measured, and
not the features. Needs the module. Source: plasticity.md 3.4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

DELTA, SHARE = 0.01, 0.99
TOLERANCE = 1e-12  # sums of shares round
QUARTERS = (1, 2, 3, 4)


class Gram:
    """F^T F and the column sums of features that come a few rows at a time."""

    def __init__(self) -> None:
        self.num = 0
        self.products_FF: Tensor | None = None
        self.sum_F: Tensor | None = None

    def add(self, features_NF: Tensor) -> None:
        """Add rows."""
        own_NF = features_NF.double()
        products_FF, sum_F = own_NF.T @ own_NF, own_NF.sum(0)
        self.num += len(own_NF)
        self.products_FF = products_FF if self.products_FF is None else self.products_FF + products_FF
        self.sum_F = sum_F if self.sum_F is None else self.sum_F + sum_F

    def singular_values(self, *, centred: bool = False) -> Tensor:
        """Give sigma, falling, float64 on the CPU; of the features less their column means if asked."""
        assert self.products_FF is not None, "no features were added"
        assert self.sum_F is not None, "no features were added"
        products_FF = self.products_FF.cpu()
        if centred:
            sum_F = self.sum_F.cpu()
            products_FF = products_FF - torch.outer(sum_F, sum_F) / self.num
        squared: Tensor = torch.linalg.eigvalsh(products_FF)
        return squared.flip(0).clamp(min=0).sqrt()


def erank(sigma: Tensor) -> float:
    """Effective rank."""
    p = sigma / sigma.sum()
    return math.exp(-float(torch.xlogy(p, p).sum()))


def stable_rank(sigma: Tensor) -> float:
    """The classical stable rank."""
    return float(sigma.square().sum() / sigma.square().max())


def srank(sigma: Tensor, delta: float = DELTA) -> int:
    """How many singular values make up all but a share delta of their sum."""
    cumulated = sigma.cumsum(0) / sigma.sum()
    return int((cumulated < 1 - delta - TOLERANCE).sum()) + 1


def approx_rank(sigma: Tensor, share: float = SHARE) -> int:
    """How many make up this share of the variance."""
    return srank(sigma.square(), 1 - share)


def participation(sigma: Tensor) -> float:
    """Participation ratio of the variances."""
    return float(sigma.square().sum().square() / sigma.pow(4).sum())


RANKS = {
    "erank": erank,
    "stable_rank": stable_rank,
    "srank": srank,
    "approx_rank": approx_rank,
    "participation": participation,
}


def numbers(gram: Gram) -> dict[str, float | None]:
    """All ranks of a layer's features by metric, raw and centred.

    None of features that are all 0, and centred also of those that are all alike: what differs then is rounding.
    """
    found: dict[str, float | None] = {}
    squares = float(gram.singular_values().square().sum())
    rounding = gram.num * torch.finfo(torch.float64).eps * squares
    for suffix, is_centred in (("", False), ("_centred", True)):
        sigma = gram.singular_values(centred=is_centred)
        is_any = float(sigma.square().sum()) > rounding
        for name, rank in RANKS.items():
            found[name + suffix] = float(rank(sigma)) if is_any else None
    return found


def measured_layers(num_layers: int) -> list[int]:
    """Where ranks are taken: after a quarter, half, three quarters and all of the layers, each once."""
    return sorted({math.ceil(num_layers * quarter / 4) - 1 for quarter in QUARTERS})
