"""Overlong shaping: r' = r + min(0, -(n - (L - buffer)) / buffer * factor), a soft penalty on nearly too long answers.

Symbols: n the tokens that the policy wrote (of all turns), L the longest that an answer may be (`overlong_max_length`,
which should be the sampler's budget of tokens), `buffer` the last part of it. Nothing is charged up to L - buffer; from
there the penalty rises linearly, to `factor` at L. Longer than L counts as L. To leave answers that were cut off out of
the loss instead, say `cut_off: mask` in the sampler's section and take no `overlong`: they have no length then, and
still count in their group's mean.

Entropy: indirect. Under a group estimator a long correct answer of a solved group gets a negative advantage. Hazard: it
makes spread where the verifier saw none. The bandit's signal and dynamic sampling read rewards without this.

Empty cases: an answer without a token is not too long.

Source: DAPO, arXiv 2503.14476, equation 13; checked against verl `verl/workers/reward_manager/dapo.py`.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from policies.objectives.parts import Outcomes, Part, PartInfo, PartOptions, PartState, RewardMap, Tensor

SOURCE = "arXiv 2503.14476"
INFO = PartInfo(reads_tokens=True)


class Config(PartOptions):
    overlong_max_length: int = Field(20480, ge=1)
    """The longest that an answer may be, tokens: usually the sampler's `max_tokens`."""
    overlong_buffer: int = Field(4096, ge=1)
    """How many tokens before that the penalty begins."""
    overlong_factor: float = Field(1.0, ge=0)
    """The penalty at the longest, in the unit of the reward."""

    @model_validator(mode="after")
    def _buffer_is_inside(self) -> Config:
        if self.overlong_buffer > self.overlong_max_length:
            raise ValueError(
                f"overlong_buffer {self.overlong_buffer} is the last part of overlong_max_length "
                f"{self.overlong_max_length}, and longer than it"
            )
        return self


def create(config: Config) -> RewardMap:
    def apply(outcomes: Outcomes, memory: PartState) -> Tensor:
        num_B = outcomes.num_tokens_B.clamp(max=config.overlong_max_length).double()
        num_over_B = num_B - (config.overlong_max_length - config.overlong_buffer)
        penalty_B = (-num_over_B / config.overlong_buffer * config.overlong_factor).clamp(max=0)
        return outcomes.reward_B + penalty_B

    return Part(apply)
