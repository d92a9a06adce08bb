"""REINFORCE's advantages: A_i = r_i - b, with a constant baseline b, and no comparison inside the group.

Symbols: r_i the reward of sample i; b the `reinforce_baseline`. With b = 0 and rewards of 0 and 1 only correct
samples count, and all are pushed alike: that is imitation of one's own successes (rejection sampling). It works
with one sample a task; leave-one-out (`rloo`) takes a baseline for each task from its group instead.

Entropy: lowers it with b = 0, as everything that was right becomes likelier, also where all are right already. Hazard:
without a comparison the variance is large, and solved tasks go on pushing. The bandit's signal does not read this.

Empty cases: a reward equal to the baseline gives 0; a group of one is like any other.

Source: Williams, Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning, 1992.
"""

from __future__ import annotations

from policies.objectives.parts import Estimator, Part, PartInfo, PartOptions

SOURCE = "Williams 1992"
INFO = PartInfo(compares_groups=False)


class Config(PartOptions):
    reinforce_baseline: float = 0.0
    """The constant b, in the unit of the reward."""


def create(config: Config) -> Estimator:
    return Part(lambda outcomes, memory: outcomes.reward_B - config.reinforce_baseline)
