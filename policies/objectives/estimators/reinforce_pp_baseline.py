"""REINFORCE++ with a baseline: A_t = whiten(r_i - mean of the group), spread over tokens, whitened over all tokens.

Symbols: r_i the reward of sample i; whitening is over the tokens of the step (`whitened`). The group gives the
baseline, the step the scale: no group is magnified because its own spread is small. A group without spread gets minus
the mean over tokens, a small push that is the same for all such groups; `rloo` is silent there. The bandit's signal is
taken before whitening.

Entropy: as GRPO, without its magnification of nearly solved groups. Hazard: long answers weigh more in mean and
variance; the shift moves groups without a signal.

Empty cases: a group of one has nothing to compare with, so that its value before whitening is 0. (verl takes its mean
as 0, so that the value is the reward.) Equal values everywhere give 0. Missing members are left out, not counted as 0.

Source: REINFORCE++, arXiv 2501.03262; checked against verl `core_algos.py`
(`compute_reinforce_plus_plus_baseline_outcome_advantage`).
"""

from __future__ import annotations

from policies.objectives.parts import Estimator, Outcomes, Part, PartOptions, PartState, Tensor
from policies.objectives.statistics import centred, whitened

SOURCE = "arXiv 2501.03262"


Config = PartOptions


def create(config: Config) -> Estimator:
    def apply(outcomes: Outcomes, memory: PartState) -> Tensor:
        centred_B = centred(outcomes.reward_B, outcomes.group_B)
        return whitened(centred_B[:, None] * outcomes.mask_BT, outcomes.mask_BT)

    return Part(apply)
