"""Discounted UCB: the arm with the highest optimistic estimate, old steps counting ever less.

    every step:  N_k <- gamma N_k + n_k,  S_k <- gamma S_k + n_k r_k,  for all arms k     (n_k slots of mean reward r_k)
    index_k = S_k / N_k + c_k,  c_k = width sqrt(xi ln n / N_k),  n = sum of N;  the arm of the highest index

Source: arXiv 0805.3415 (Garivier and Moulines, D-UCB), where width = 2 B for rewards in [0, B] and xi > 1/2; curricula
reference, section 3.3. gamma = 1 is the stationary rule, with width 1 and xi 2 UCB1.
Reward: in [0, 1]; width is in its units. The theory's constants explore far too much in practice: on a changing
Bernoulli bandit width 2 costs 2357, .5 costs 697 (section 8.4). With the standardised signal width 2, xi .6, gamma .9
did well (8.2); the default width is half of it for the raw signal, of half the range.
Slots of a batch are filled in turn with virtual counts (`index_rule`). An arm never seen comes first; one not picked
keeps its mean while its bonus grows, and counts as unseen once N < 1e-9. Weight gamma^s after s steps: half-life 6.6
steps at .9. The probability of the best index is 1 before the floor; ties are shared.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from orchestrator.bandits.contracts import BanditConfig, ChooserConfig, Floats
from orchestrator.bandits.discounted_means import DiscountedMeans
from orchestrator.bandits.index_rule import IndexRule, ucb_bonus

SOURCE = "arXiv 0805.3415"


class Options(ChooserConfig):
    """Options of the rule alone, as `change_point` and schedulers use it."""

    type: Literal["discounted_ucb"] = "discounted_ucb"
    discount: float = Field(0.9, gt=0, le=1, description="gamma: weight of the past, per step; 1: no decay.")
    width: float = Field(1.0, gt=0, description="Of the bonus, in units of the reward; 2 B in the paper.")
    xi: float = Field(0.6, gt=0, description="Exploration constant; more than 1/2 in the paper.")


class Config(Options, BanditConfig):
    """Options of discounted UCB as the bandit of a spec."""


class DiscountedUcb(DiscountedMeans, IndexRule):
    """Discounted UCB; N counts slots, or with `by_slot=False` steps, as for schedulers."""

    def __init__(
        self,
        arms: Iterable[str],
        rng: np.random.Generator,
        options: Options,
        floor: float = 0.0,
        *,
        by_slot: bool = True,
    ) -> None:
        super().__init__(arms, rng, options.discount, floor, by_slot=by_slot)
        self.options = options

    def counts(self) -> Floats:
        return self.weight

    def bonus(self) -> float:
        return ucb_bonus(self.options.width, self.options.xi, self.weight)

    def forget(self, at: NDArray[np.intp]) -> None:
        self.weight[at] = self.total[at] = 0.0


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> DiscountedUcb:
    return DiscountedUcb(arms, rng, config, config.floor)
