"""REPO: A' = A - beta * L, a push on entropy by the score function, without gradient through the distribution.

Symbols: L the centred log-prob of the sampled token (`centred_lp`), beta the `strength`. beta > 0 raises
entropy, beta < 0 lowers it. To first order it adds eta * beta * E[pi * L^2] to the entropy change of a step.

It acts where A = 0 too, so groups without a signal drift; it can flip the sign of A, which changes the side on
which the ratio rule clips; and it subtracts, so it comes before any shaper that multiplies. With a beta that
nothing can lower it destroyed the policy on tasks of several tokens (measured: beta .03, exact centring, entropy
from .4 nat to its ceiling and accuracy 0 within 50 steps): keep a controller.

With `per_environment` the beta of environment e is beta * min(1, m_e / m), m the mean |advantage| of the update's
tokens, m_e that of its own: one with hardly any signal is then not pushed as hard as the one beside it earns. Where
nothing has a signal beta is as it is (ours, not verified).

With `per: response` beta is divided by the mean number of tokens of the update's responses, so that one strength serves
answers of one token and of several (ours; measured with 1 and 6 tokens only, docs/results/repo_adaptive.md).

Empty cases: L of padding is never read; `batch` centring takes its mean from the whole step, not from these rows.

Source: Entropy-Preserving Reinforcement Learning, arXiv 2603.11682; no official code, two descriptions agree.
"""

from __future__ import annotations

from typing import Literal

from policies.objectives.contracts import ShapedRows, Totals
from policies.objectives.parts import Part, PartInfo, PartOptions, Shaped, Shaper, Tensor
from policies.objectives.statistics import Centre, centred_lp, centring_needs, environments

SOURCE = "arXiv 2603.11682"
INFO = PartInfo(knob="strength", pushes_entropy=True, subtracts=True, by_environment=True)


class Config(PartOptions):
    strength: float = 1e-3
    """The coefficient beta: the fixed value, or where the controller starts."""
    centre: Centre = "exact"
    """Which mean log-prob is subtracted."""
    per: Literal["token", "response"] = "token"
    """What the strength is of: each token, or a whole response, whose tokens then share it."""
    per_environment: bool = False
    """Whether an environment that has less signal than the update as a whole is pushed less, in proportion."""


def create(config: Config) -> Shaper:
    def apply(advantage_BT: Tensor, rows: ShapedRows, totals: Totals) -> Shaped:
        beta = rows.strengths.get("strength", config.strength)
        if config.per == "response":
            beta = beta * (totals.num_sequences / max(totals.num_tokens, 1))
        if config.per_environment:
            beta = beta * signal_share(rows, totals)
        return Shaped(shape(advantage_BT, centred_lp(rows, totals, config.centre), beta))

    return Part(apply, centring_needs(config.centre))


def signal_share(rows: ShapedRows, totals: Totals) -> Tensor:
    """min(1, m_e / m) of each row's environment, [B, 1]; 1 where nothing has a signal."""
    share_B1 = rows.mask_BT.new_ones((len(rows.mask_BT), 1), dtype=rows.lp_BT.dtype)
    if totals.signal:
        for name, is_own_B in environments(rows, totals).items():
            share_B1[is_own_B] = min(1.0, totals.signals[name] / totals.signal)
    return share_B1


def shape(advantage_BT: Tensor, centred_BT: Tensor, beta: float | Tensor) -> Tensor:
    return advantage_BT - beta * centred_BT
