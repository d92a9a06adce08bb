"""Weighted rewards: A = sum_i w_i * A_i, w on the simplex and moved by how much each component helps all.

Symbols: A_i the leave-one-out advantage of component i of the score; w_i its weight, kept from step to step. The
gradient form moves them by the influence of each component's gradient g_i on the sum of all,

    I_i = sum_j <g_i, g_j>          w <- softmax(log w + rate * I)          rate = lr / mu

so that a component whose gradient agrees with the others gains weight. The learner gives the inner products once a
step, of all weights: one backward pass for each component, so a step of C components costs about 1 + C updates and C
copies of the gradient. The weights that come out hold from the next step. `weighted_rate: 0` is the fixed weighted
sum, the method's baseline, and costs nothing. `weighted_components` names the components and the weights that they
start with (made to sum to 1); without names all count alike, and a step with other components begins anew.

Entropy: neutral; as `rloo`. Hazard: components of different size: the largest dominates. Give them one unit.

Empty cases: a group of one gives 0; a component that a score does not have is an error that names it.

Source: Learning to Optimize Multi-Objective Alignment Through Dynamic Reward Weighting, arXiv 2509.11452, the
gradient-based form; its code is yining610/dynamic-reward-weighting.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, field_validator

from policies.objectives.errors import ObjectiveError
from policies.objectives.estimators import rloo
from policies.objectives.parts import (
    Estimator,
    Outcomes,
    Part,
    PartInfo,
    PartOptions,
    PartState,
    Products,
    Tensor,
)

SOURCE = "arXiv 2509.11452"
INFO = PartInfo(
    missing="the rate: the released scripts have .01 or .1, ours is 1; and theirs weighs a step by the weights that "
    "the same step moved, ours by those of the step before",
    memory_of=("weighted_components",),
    components="weighted_components",
)


class Config(PartOptions):
    weighted_components: Mapping[str, float] = Field(default_factory=dict)
    """Weight of each component at the start, by its name; made to sum to 1. Empty: all components, alike."""
    weighted_rate: float = Field(1.0, ge=0)
    """lr / mu: what one unit of influence adds to the logarithm of a weight, a step; the authors have .01 or .1."""

    @field_validator("weighted_components")
    @classmethod
    def _weights_are_positive(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        if none := [name for name, weight in value.items() if weight <= 0]:
            raise ValueError(f"the weight of `{none[0]}` is {value[none[0]]:g}: it must be above 0 to be able to move")
        return value


def create(config: Config) -> Estimator:
    def components(outcomes: Outcomes) -> dict[str, Tensor]:
        values = outcomes.chosen_components(config.weighted_components, "weighted_components")
        return {name: rloo.estimate(value_B, outcomes.group_B) for name, value_B in values.items()}

    def apply(outcomes: Outcomes, memory: PartState) -> Tensor:
        advantages = components(outcomes)
        weights = _weights(memory.kept, advantages, config)
        memory.log.update({f"weighted_weight_{name}": weight for name, weight in weights.items()})
        return combine(advantages, weights)

    def hear(products: Products, memory: PartState) -> None:
        update_weights(memory.kept, influence(products), config)

    if config.weighted_rate == 0:
        return Part(apply)
    return Part(apply, components=components, hear=hear)


def combine(advantages: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Advantages [B] from one of each component [B]."""
    first, *others = [weights[name] * advantage_B for name, advantage_B in advantages.items()]
    return sum(others, first)


def influence(products: Products) -> dict[str, float]:
    return {name: math.fsum(row.values()) for name, row in products.items()}


def moved(weights: Sequence[float], influences: Sequence[float], rate: float) -> list[float]:
    """softmax(log w + rate * I)."""
    pairs = zip(weights, influences, strict=True)
    logits = [math.log(weight) + rate * one if weight > 0 else -math.inf for weight, one in pairs]
    largest = max(logits)
    terms = [math.exp(logit - largest) for logit in logits]
    whole = math.fsum(terms)  # exact: a resumed run has another order of components
    return [term / whole for term in terms]


def update_weights(kept: dict[str, Any], influences: Mapping[str, float], config: Config) -> dict[str, float]:
    """Move the weights in the estimator's memory by one step's influences, and return them."""
    weights = kept.get("weights", {})
    if set(weights) != set(influences):
        raise ObjectiveError(
            f"influences of {sorted(influences)} were given, and the weighted components are {sorted(weights)}: give "
            "one of each, after the first step's advantages were estimated"
        )
    names = list(weights)
    after = moved([weights[n] for n in names], [influences[n] for n in names], config.weighted_rate)
    kept["weights"] = dict(zip(names, after, strict=True))
    return dict(kept["weights"])


def _weights(kept: dict[str, Any], values: Mapping[str, Tensor], config: Config) -> dict[str, float]:
    """The weights that hold in this step; in the first one, those to begin with."""
    if set(kept.get("weights", {})) != set(values):
        start = {name: config.weighted_components.get(name, 1.0) for name in values}
        kept["weights"] = {name: weight / sum(start.values()) for name, weight in start.items()}
    return dict(kept["weights"])
