"""Hypervolume reward: r' = r * (.5 + 1.5 * tanh(dHV)), more while the policy finds new trade-offs between components.

Symbols: a point is the mean of each named component of the score; the front is every point so far that no other one
beats in all components; HV the volume between the front and a reference point; dHV >= 0 what the newest point adds
to it. A step that adds nothing earns half, one that adds much twice.

The released code takes the point from validation, and where the multiplier enters is partly open. Ours: the point
is that of the step's samples, one for each arm with a front of its own (so that a change in the mix of tasks is no
progress), and the multiplier acts on that arm's rewards in the same step. A front starts at the reference point.

Entropy: none but through the size of the step. Hazard: training means are noisy, and a lucky step stays in the front
for good. Estimators that divide by the group's spread (`grpo`) cancel the multiplier: take `rloo`. The volume is
computed exactly, by slices: for few components.

Empty cases: an arm without samples keeps its front. A component that a score does not have is an error that names it.

Source: Learning to Optimize Multi-Objective Alignment Through Dynamic Reward Weighting, arXiv 2509.11452; checked
against yining610/dynamic-reward-weighting `hypervolumn_contribution.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from pydantic import Field

from policies.objectives.parts import Outcomes, Part, PartInfo, PartOptions, PartState, RewardMap, Tensor

SOURCE = "arXiv 2509.11452"
INFO = PartInfo(
    missing="where the multiplier enters; the point is that of the training samples, not of a validation",
    memory_of=("hypervolume_components",),
    components="hypervolume_components",
)
Point = Sequence[float]


class Config(PartOptions):
    hypervolume_components: Mapping[str, float] = Field(default_factory=dict)
    """Reference value of each component, by its name: below it nothing counts. Empty: all components, from 0."""


def create(config: Config) -> RewardMap:
    return Part(lambda outcomes, memory: scale(outcomes, memory, config))


def scale(outcomes: Outcomes, memory: PartState, config: Config) -> Tensor:
    values = outcomes.chosen_components(config.hypervolume_components, "hypervolume_components")
    reference = [config.hypervolume_components.get(name, 0.0) for name in values]
    factor_B = outcomes.reward_B.new_ones(len(outcomes.reward_B))
    for place, arm in enumerate(outcomes.arms):
        is_here_B = outcomes.arm_B == place
        if not bool(is_here_B.any()):
            continue
        point = [float(value_B[is_here_B].mean()) for value_B in values.values()]
        front = [_in_order(values, kept) for kept in memory.kept.get(arm, [])]
        factor_B[is_here_B] = multiplier(added(front, point, reference))
        memory.kept[arm] = [dict(zip(values, one, strict=True)) for one in pareto([*front, point])]
    memory.log["hypervolume_multiplier"] = float(factor_B.mean())
    return outcomes.reward_B * factor_B


def _in_order(names: Iterable[str], kept: Mapping[str, float] | Point) -> Point:
    """A kept point in the order of these names, which a fork may change; earlier versions kept it without names."""
    return [kept[name] for name in names] if isinstance(kept, Mapping) else kept


def multiplier(gain: float) -> float:
    return 0.5 + 1.5 * math.tanh(gain)


def added(front: Sequence[Point], point: Point, reference: Point) -> float:
    return max(0.0, volume([*front, point], reference) - volume(front, reference))


def volume(points: Sequence[Point], reference: Point) -> float:
    """The volume of all that lies above the reference and below some point: slices along the first component."""
    left = sorted((point for point in points if point[0] > reference[0]), key=lambda point: point[0])
    if len(reference) == 1:
        return left[-1][0] - reference[0] if left else 0.0
    total, below = 0.0, reference[0]
    for place, point in enumerate(left):
        if point[0] > below:
            total += (point[0] - below) * volume([other[1:] for other in left[place:]], reference[1:])
            below = point[0]
    return total


def pareto(points: Sequence[Point]) -> list[list[float]]:
    """The points that no other one equals or beats in all components; of equal ones the first."""
    kept: list[list[float]] = []
    for point in points:
        if not any(_covers(other, point) for other in kept):
            kept = [other for other in kept if not _covers(point, other)] + [list(point)]
    return kept


def _covers(one: Point, other: Point) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True))
