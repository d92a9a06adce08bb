"""Weights mixed with weights of another time, in float32 and in place: what several interventions are made of."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def mix(masters: Mapping[str, Tensor], keep: float, others: Mapping[str, Tensor] | None) -> None:
    """theta <- keep * theta + (1 - keep) * other, every weight; without others towards 0. At 1 nothing is touched."""
    if keep == 1:
        return
    for name, master in masters.items():
        master.mul_(keep)
        if others is not None:
            master.add_(others[name].to(master.device, master.dtype), alpha=1 - keep)


def perturb(masters: Mapping[str, Tensor], sigma: float, generator: torch.Generator) -> None:
    """theta <- theta + sigma * noise, normal, drawn on the CPU so that every device adds the same. At 0: nothing."""
    if sigma == 0:
        return
    for master in masters.values():
        noise = torch.randn(master.shape, generator=generator, dtype=torch.float32)
        master.add_(noise.to(master.device, master.dtype), alpha=sigma)
