"""Constrained rewards: A = (N - sum_i s_i) * A_0 + sum_i s_i * A_i, s_i = sigmoid(mu_i), each up to its own limit.

Symbols: N named components of the score; A_i the leave-one-out advantage of component i; theta_i its proxy point,
the mean up to which more of it still means better; mu_i its multiplier, kept from step to step; A_0 the advantage
of a KL penalty.

    mu_i <- clamp(mu_i - rate * (momentum * last change + v_i - theta_i), -bound, bound)     v_i the step's mean of i

A component below its proxy point gains weight, one above loses it, and what the components do not take goes to the
KL: the equality form (its pull may change sign), the best in the paper. The weights of a step are those from before it.
Multipliers start at 0, half the weight for each. `constrained_targets` names the components and their proxy points;
without names all count, each with the proxy point 1, so in time all have their full weight and the KL next to none.

A_0 is charged token by token: -`constrained_kl` * (lp_roll - lp_ref), whose gradient is that of the KL; 0 that no
controller moves leaves it out, and the reference is not asked. The paper has a value function for each reward; we
compare inside the group. The bound is ours: a component that stays below its point for long would else need as long to
lose its weight again. At 5 a weight is .993.

Entropy: the KL keeps it near the reference's; without one, as `rloo`. Hazard: v_i is a mean over the step's mix of
tasks. When the mix moves, so do the multipliers.

Empty cases: a group of one gives A_i = 0; a component that a score does not have is an error that names it.

Source: Confronting Reward Model Overoptimization with Constrained RLHF, arXiv 2310.04373.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydantic import Field

from policies.objectives.estimators import rloo
from policies.objectives.parts import (
    Estimator,
    Outcomes,
    Part,
    PartInfo,
    PartOptions,
    PartState,
    Tensor,
    clamped,
    given,
)

SOURCE = "arXiv 2310.04373"
INFO = PartInfo(
    missing="no code was read: momentum, start and bound of the multipliers are ours", components="constrained_targets"
)


class Config(PartOptions):
    constrained_targets: Mapping[str, float] = Field(default_factory=dict)
    """Proxy point of each component, by its name; empty: all components, each with 1."""
    constrained_kl: float = Field(0.0, ge=0)
    """Coefficient of the KL penalty behind A_0; 0: no A_0."""
    constrained_rate: float = Field(0.1, ge=0)
    """How far a multiplier moves a step, for each unit its component is from the proxy point."""
    constrained_momentum: float = Field(0.1, ge=0, lt=1)
    """How much of a multiplier's last change is added to the next."""
    constrained_bound: float = Field(5.0, gt=0)
    """Largest magnitude of a multiplier."""


def create(config: Config) -> Estimator:
    def apply(outcomes: Outcomes, memory: PartState) -> Tensor:
        values = outcomes.chosen_components(config.constrained_targets, "constrained_targets")
        multipliers = {name: memory.kept.get(name, [0.0, 0.0])[0] for name in values}
        memory.log.update({f"constrained_weight_{name}": _sigmoid(mu) for name, mu in multipliers.items()})
        advantages = {name: rloo.estimate(value_B, outcomes.group_B) for name, value_B in values.items()}
        for name, value_B in values.items():
            mean, target = float(value_B.mean()), config.constrained_targets.get(name, 1.0)
            multiplier, last = memory.kept.get(name, [0.0, 0.0])
            memory.kept[name] = list(dual_step(multiplier, last, mean - target, config))
        return combine(advantages, multipliers, _kl_advantage(outcomes, config.constrained_kl))

    return Part(apply, frozenset() if config.is_off("constrained_kl") else frozenset({"lp_ref"}))


def combine(advantages: Mapping[str, Tensor], multipliers: Mapping[str, float], kl_BT: Tensor) -> Tensor:
    """Advantages [B, T] from one of each component [B] and that of the KL penalty [B, T]."""
    shares = {name: _sigmoid(multipliers[name]) for name in advantages}
    total_BT = (len(shares) - sum(shares.values())) * kl_BT
    for name, advantage_B in advantages.items():
        total_BT = total_BT + shares[name] * advantage_B[:, None]
    return total_BT


def dual_step(multiplier: float, last: float, excess: float, config: Config) -> tuple[float, float]:
    """A multiplier and its change, with momentum, after a step that missed the proxy point by v - theta."""
    change = config.constrained_momentum * last + excess
    moved = multiplier - config.constrained_rate * change
    return max(-config.constrained_bound, min(moved, config.constrained_bound)), change


def _kl_advantage(outcomes: Outcomes, coefficient: float) -> Tensor:
    if coefficient == 0:
        return outcomes.reward_B.new_zeros(outcomes.mask_BT.shape)
    return -coefficient * clamped(given(outcomes.kl_BT, "`constrained_kl` reads the reference's log-probs"))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-max(-500.0, min(500.0, x))))
