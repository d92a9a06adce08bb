"""Tempered side rows: correct samples drawn at another temperature are learned from with a fixed advantage alpha.

    g = g_main + alpha * mean over samples at temperature T of [R * grad lp]

Symbols: T the temperature of the side rows, moved by a controller (`switch` in version 1 of the paper, `affine` in
version 2); R 1 where the sample is correct; alpha their advantage. Hotter samples that were correct pull the policy
to what it would rarely write: entropy up; cooler ones pull it together: entropy down.

A share of the batch's tasks, at even distances so that the mix is the chosen one, is played a second time, a whole
group each, at T. Of those groups the chosen samples become rows of the update with A = alpha. `tempered_only_better`
chooses as version 1 does: correct, and better than the rest of its own side group by more than .05 of its standard
deviation (a group all correct gives none); then at most `tempered_most` of them, half as many where they are cooler
than the batch.

Ours: rows are ADDED, while version 1 lets them replace the first rows of the batch. They are in no group statistics, in
no reading of entropy (version 1 reads the mean surprisal of the mixed batch, which tempered rows bias), no observation
for the bandit, no groups in the ledger; their number is a metric. The mean is that of the aggregation, over all rows of
the update, theirs among them.

`lp_roll` of a side row is at T, while lp and lp_old stay at the main temperature: the one exception to "one
temperature everywhere". The mismatch weight exp(lp_old - lp_roll) corrects for it, and has to be capped: T = 1.2 makes
rare tokens likelier than they are. What is logged of the gap between sampler and learner has these rows in it.

Hazards: a batch grows by `tempered_share` of its samples to play. Without a controller T is fixed, and the pull is in
one direction for ever. Only tasks that are solved now and then give rows.

Empty cases: nothing correct, no rows. At T equal to the sampler's temperature it is imitation of correct samples.

Source: Arbitrary Entropy Policy Optimization, arXiv 2510.08141; version 1 checked against 597358816/AEPO
`verl/trainer/ray_trainer.py`; version 2 is known as SCOPE-RL, from its description only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from policies.objectives.parts import PartInfo, PartOptions

SOURCE = "arXiv 2510.08141"
INFO = PartInfo(
    knob="tempered_temperature",
    plan="adds_tempered_rows",
    cost="a side batch at another temperature",
    raises_entropy=("tempered_temperature",),
)
BETTER = 0.05  # standardised advantage in its side group, above which version 1 takes a sample


class Config(PartOptions):
    tempered_temperature: float = Field(1.2, gt=0)
    """Temperature of the side rows: the fixed value, or where the controller starts."""
    tempered_share: float = Field(0.25, gt=0, le=1)
    """Share of the batch's tasks that are also played at it."""
    tempered_weight: float = Field(1 / 64, gt=0)
    """The advantage alpha of a side row."""
    tempered_only_better: bool = False
    """Only samples better than the rest of their side group (version 1), or every correct one."""
    tempered_most: int | None = Field(None, ge=1)
    """Most side rows of a step; null: no limit."""


@dataclass(frozen=True)
class Tempered:
    temperature: float
    share: float
    weight: float
    only_better: bool
    most: int | None

    def places(self, num: int) -> list[int]:
        """Which of `num` tasks are played again: at least one, at even distances, the last among them."""
        count = max(1, round(num * self.share))
        return [(k + 1) * num // count - 1 for k in range(count)]

    def chosen(self, groups: Sequence[Sequence[tuple[float, bool]]], main: float) -> list[tuple[int, int]]:
        """Choose (group, member) to learn from by rewards and correctness; `main`: the temperature of the batch."""
        found = [
            (g, k)
            for g, group in enumerate(groups)
            for k, is_better in enumerate(better_than_the_rest([reward for reward, _ in group]))
            if group[k][1] and (is_better or not self.only_better)
        ]
        if self.most is None:
            return found
        return found[: self.most // 2 if self.temperature < main else self.most]


def create(config: Config) -> Tempered:
    return Tempered(
        config.tempered_temperature,
        config.tempered_share,
        config.tempered_weight,
        config.tempered_only_better,
        config.tempered_most,
    )


def better_than_the_rest(rewards: Sequence[float]) -> list[bool]:
    """Whether each of rewards [G] has a standardised advantage (n - 1 form) above .05; none of a lone one."""
    if len(rewards) < 2 or max(rewards) == min(rewards):
        return [False] * len(rewards)
    mean = math.fsum(rewards) / len(rewards)
    std = math.sqrt(math.fsum((r - mean) ** 2 for r in rewards) / (len(rewards) - 1))
    return [(r - mean) / (std + 1e-6) > BETTER for r in rewards]
