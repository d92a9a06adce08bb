"""Drift: how far the policy's distributions moved at states that no update was made for (churn).

    KL(before || now) in nats and whether another token became the likeliest, at every followed token of the frozen rows

Of "before" the likeliest tokens are kept with their log-probs, and the mass of all others as one more outcome. With a
vocabulary that is kept whole the KL is exact; otherwise it is that of the distributions so coarsened, never above the
exact one, and `rest` says how much of the mass that leaves undivided. Log-probs are normalised: no logZ is kept.
Needs log-probs over the vocabulary, a chunk of tokens at a time.

Dimension letters: N tokens of a chunk, P followed tokens, K tokens kept of each, V vocabulary.

Source: arXiv 2206.00730; KL to the base as the measure of forgetting, arXiv 2509.04259; plasticity.md 3.5 and 3.8.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

LEAST = 1e-30  # of a mass whose logarithm is taken


@dataclass(frozen=True)
class Kept:
    """What is kept of the distributions at followed tokens."""

    ids: Tensor  # int32 [P, K], the likeliest first
    lp: Tensor  # float32 [P, K]
    rest: Tensor  # float32 [P], the mass of all others; 0 where the whole vocabulary is kept

    @classmethod
    def of(cls, lp_NV: Tensor, num: int) -> Kept:
        """Keep the likeliest tokens of some distributions."""
        top = lp_NV.topk(min(num, lp_NV.shape[1]))
        return cls(top.indices.int(), top.values.float(), _rest(top.values, lp_NV.shape[1]).float())

    @classmethod
    def join(cls, parts: list[Kept]) -> Kept:
        """Put parts together, one after the other; with as many tokens of each as the one has that kept the fewest.

        A part of no distribution has no say in that.
        """
        parts = [part for part in parts if len(part.ids)] or parts[:1]
        num = min(part.ids.shape[1] for part in parts)
        cut = [part if part.ids.shape[1] == num else part.cut(num) for part in parts]
        return cls(*(torch.cat([getattr(part, name) for part in cut]) for name in ("ids", "lp", "rest")))

    def cut(self, num: int) -> Kept:
        """Keep fewer tokens."""
        dropped = self.lp[:, num:].double().exp().sum(-1).float()
        return Kept(self.ids[:, :num], self.lp[:, :num], self.rest + dropped)

    def take(self, places: Tensor) -> Kept:
        """Take some, in the order of their places."""
        return Kept(self.ids[places], self.lp[places], self.rest[places])

    def to(self, device: torch.device | str) -> Kept:
        """Move them."""
        return Kept(self.ids.to(device), self.lp.to(device), self.rest.to(device))

    def save(self, path: Path) -> None:
        """Write them; the same ones are the same bytes."""
        save_file({name: value.contiguous() for name, value in vars(self).items()}, path)

    @classmethod
    def load(cls, path: Path) -> Kept:
        """Read what `save` wrote."""
        return cls(**load_file(path))


def compare(before: Kept, lp_NV: Tensor) -> tuple[Tensor, Tensor]:
    """Give KL(before || now) [N], float64, nats, and whether another token is the likeliest now, bool [N]."""
    now_NK, before_NK = lp_NV.gather(-1, before.ids.long()).double(), before.lp.double()
    inside_N = (before_NK.exp() * (before_NK - now_NK)).sum(-1)
    rest_N, now_N = before.rest.double(), _rest(now_NK, lp_NV.shape[1])
    outside_N = rest_N * (rest_N.clamp(min=LEAST).log() - now_N.clamp(min=LEAST).log())
    # rounding of what was kept in float32 must not make it negative
    # of equally likely tokens any may stand first: the old one was overtaken, or it was not
    overtaken_N = now_NK[:, 0] < lp_NV.amax(-1).double()
    return (inside_N + outside_N).clamp(min=0), overtaken_N


def _rest(lp_NK: Tensor, size: int) -> Tensor:
    """The mass [N] of all tokens that were not kept, float64."""
    if lp_NK.shape[1] == size:
        return lp_NK.new_zeros(len(lp_NK), dtype=torch.float64)
    return (1 - lp_NK.double().exp().sum(-1)).clamp(min=0)
