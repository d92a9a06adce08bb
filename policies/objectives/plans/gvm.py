"""GVM, samples where they lower the variance of the gradient most: n_i ~ G_i / sqrt(p_i + alpha / p_i^(beta - 1)).

Symbols: n_i the samples of task i, p_i its pass rate and G_i the mean gradient norm of its correct samples, both from
`gvm_pilot` samples of each task; alpha, beta bound what a hardly ever solved task may ask for. A task with p_i = 0 or
G_i = 0 asks for nothing.

What a step has to give is what it would have played anyway: groups * group_size samples, less the pilots. Shares are
rounded down and what is left goes to the largest remainders, at equal ones to the earlier task. `gvm_floor` samples go
to each task before that: without them a task that nothing solved in the pilot would have the pilot for ever.

Ours: pilots are members of their groups (the released code throws them away), samples are handed out inside each arm,
so that the bandit's choice stands, and G is the norm through the head (`policies/gradients.py`), of the sum of a
sample's log-probs; the released code takes that of the embedding or of the head.

Entropy: neutral, as far as is known. Groups are of unequal size, so pair it with `aggregation: prompt_mean`: the
variance that is made small is that of a sum of group means. Hazards: how many samples a group gets depends on its first
ones, which biases its mean slightly (optional stopping). A gradient norm costs a forward pass of each correct pilot
sample and another pass of it through the head. Playing waits for it, so it cannot be done ahead of the learner.

Empty cases: if no task asks for anything, all get the same. One task gets all there is.

Source: Optimizing Chain-of-Thought Reasoners via Gradient Variance Minimization, arXiv 2505.02391, and its code
(RLHFlow/GVM `em/stage_2_calc_sample_size.py`: alpha 1e-3, beta 2; `stage_2_calc_acceptRates_grads.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from policies.objectives.parts import PartInfo, PartOptions

SOURCE = "arXiv 2505.02391"
INFO = PartInfo(
    missing="pilots inside a step, as members of their groups, are ours: the paper plays them apart",
    plan="sizes_groups",
    cost="another pass over the pilot, and through the head again",
)


class Config(PartOptions):
    gvm_pilot: int = Field(4, ge=2)
    """Samples of every task from which its pass rate and gradient norm are read; fewer than `step.group_size`."""
    gvm_floor: int = Field(1, ge=0)
    """Further samples of every task, whatever the pilot says."""
    gvm_alpha: float = Field(1e-3, gt=0)
    """Weight of the bound on tasks that are hardly ever solved."""
    gvm_beta: float = Field(2.0, ge=1)
    """How fast that bound grows as the pass rate falls."""


@dataclass(frozen=True)
class Gvm:
    pilot: int
    floor: int
    alpha: float
    beta: float

    def sizes(self, rates: Sequence[float], norms: Sequence[float], num: int) -> list[int]:
        """Hand out `num` further samples among the tasks of one arm, by their pass rates and gradient norms."""
        if not rates:
            return []
        floor = min(self.floor, num // len(rates))
        rest = largest_remainders(shares(rates, norms, self.alpha, self.beta), num - floor * len(rates))
        return [floor + size for size in rest]


def create(config: Config) -> Gvm:
    return Gvm(config.gvm_pilot, config.gvm_floor, config.gvm_alpha, config.gvm_beta)


def shares(rates: Sequence[float], norms: Sequence[float], alpha: float, beta: float) -> list[float]:
    """What share of the samples each task gets, from pass rates p and gradient norms G; equal if none asks."""
    asked = [
        norm / math.sqrt(rate + alpha / rate ** (beta - 1)) if rate > 0 else 0.0
        for rate, norm in zip(rates, norms, strict=True)
    ]
    total = sum(asked)
    return [one / total for one in asked] if total > 0 else [1 / len(asked)] * len(asked)


def largest_remainders(parts: Sequence[float], num: int) -> list[int]:
    """Split `num` by shares that add up to 1: rounded down, what is left to the largest remainders."""
    exact = [part * num for part in parts]
    sizes = [math.floor(one) for one in exact]
    by_remainder = sorted(range(len(parts)), key=lambda k: (sizes[k] - exact[k], k))
    for k in by_remainder[: num - sum(sizes)]:
        sizes[k] += 1
    return sizes
