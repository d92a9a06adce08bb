"""Dormant units: the share of an MLP's hidden units that are nearly silent on the frozen rows.

    s_u = E|h_u| / mean over the layer's units of E|h|        dormant at tau: s_u <= tau
    functional: the same of E|h_u| * ||W_down[:, u]||, which also sees units that nobody reads

h is the tensor that enters the MLP's down-projection (`act(gate) * up` where it is gated), at the tokens that predict
the frozen answers. A layer that is silent throughout is dormant throughout. Smooth gated units are hardly ever silent:
a share of 0 says nothing there, the quantiles of log s do. Needs the module; memory is layers x units.

Source: arXiv 2302.12902 (ReDo), google/dopamine `weight_recyclers.py`; plasticity.md 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from policies.adapters import merged_weight
from policies.layers import is_conv

TAUS = (0.025, 0.1)
QUANTILES = (0.01, 0.05, 0.5)
LEAST = 1e-12  # of a score whose logarithm is taken: a unit that never fired

Numbers = dict[tuple[str, int], float]  # by metric and layer, -1 for all


class UnitSums:
    """Running sums of |h| of every unit, layer by layer."""

    def __init__(self, num_layers: int) -> None:
        self.sums: list[Tensor | None] = [None] * num_layers
        self.num = 0  # tokens

    def add(self, layer: int, h_NU: Tensor) -> None:
        """Add some tokens of a layer."""
        own_U, before = h_NU.float().abs().sum(0, dtype=torch.float64), self.sums[layer]
        self.sums[layer] = own_U if before is None else before + own_U

    def means(self) -> list[Tensor]:
        """E|h| [U] of every layer, float64, on the CPU."""
        return [sum_U.cpu() / max(1, self.num) for sum_U in self.sums if sum_U is not None]


def output_norms(projection: nn.Module) -> Tensor:
    """Give the norm [U] of the weights by which each of a projection's inputs is read on, float64."""
    norm_U: Tensor = merged_weight(projection).double().norm(dim=1 if is_conv(projection) else 0)
    return norm_U


def scores(mean_U: Tensor, norm_U: Tensor | None = None) -> Tensor:
    """Give s of a layer's units, float64 [U]; with the norms of their output weights the functional score."""
    mean_U = mean_U.double() if norm_U is None else mean_U.double() * norm_U.double()
    whole = mean_U.mean()
    return mean_U / whole if whole > 0 else torch.zeros_like(mean_U)


def share(score_U: Tensor, tau: float) -> float:
    """Give the share of units that are dormant at tau."""
    return float((score_U <= tau).double().mean())


def numbers(means: Sequence[Tensor], norms: Sequence[Tensor]) -> Numbers:
    """Everything that is told of the units: layer by layer, and over all units of the model together (-1)."""
    plain = [scores(mean_U) for mean_U in means]
    functional = [scores(mean_U, norm_U.cpu()) for mean_U, norm_U in zip(means, norms, strict=True)]
    found: Numbers = {}
    whole = (torch.cat(plain), torch.cat(functional))
    for layer, (s_U, u_U) in enumerate([whole, *zip(plain, functional, strict=True)]):
        for tau in TAUS:
            found[f"dormant_{tau:g}", layer - 1] = share(s_U, tau)
            found[f"dormant_functional_{tau:g}", layer - 1] = share(u_U, tau)
        at = torch.tensor(QUANTILES, dtype=torch.float64)
        for q, value in zip(QUANTILES, s_U.clamp(min=LEAST).log().quantile(at).tolist(), strict=True):
            found[f"log_activation_q{100 * q:02.0f}", layer - 1] = value
    return found
