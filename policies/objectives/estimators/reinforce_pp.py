"""REINFORCE++: A_t = whiten(R_t), R_t = gamma^(n - t) * r the return from token t on, whitened over all tokens.

Symbols: r the reward of the sample, earned at its last token n; gamma the discount a token (1: every token's return is
the reward). Whitening is over the tokens of the step (`whitened`): a reward is compared with the mean over all tokens,
not with its group. Tokens are counted over those that the policy wrote, and the return goes on across what an
environment says in between, as in verl 0.9. The paper also charges a KL token by token: the term `kl` with `kl_form:
k2`, or the reward map `kl_reward`.

Entropy: as GRPO, whose division it shares, over the step instead of the group. Hazard: easy tasks get a positive
advantage for being easy and hard ones a negative one. In a mixed batch that is the difference between arms, not between
answers: take `reinforce_pp_baseline`.

Empty cases: equal returns everywhere, and a step of one token, give 0. An answer without a token is in no mean.

Source: REINFORCE++, arXiv 2501.03262; checked against verl `core_algos.py`
(`compute_reinforce_plus_plus_outcome_advantage`).
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.parts import Estimator, Outcomes, Part, PartInfo, PartOptions, Tensor
from policies.objectives.statistics import whitened

SOURCE = "arXiv 2501.03262"
INFO = PartInfo(compares_groups=False)


class Config(PartOptions):
    reinforce_pp_gamma: float = Field(1.0, gt=0, le=1)
    """Discount of the reward for each token that the policy wrote behind a token; 1: none."""


def create(config: Config) -> Estimator:
    gamma = config.reinforce_pp_gamma
    return Part(lambda outcomes, memory: whitened(returns(outcomes, gamma), outcomes.mask_BT))


def returns(outcomes: Outcomes, gamma: float) -> Tensor:
    """The return from each token on, [B, T], for a reward that is earned at the last token."""
    nth_BT = outcomes.mask_BT.cumsum(-1)
    num_behind_BT = outcomes.num_tokens_B[:, None] - nth_BT
    return outcomes.reward_B[:, None] * gamma**num_behind_BT * outcomes.mask_BT
