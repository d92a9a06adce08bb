"""The options that training rollouts share, whatever engine plays them. Importing this does not load torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from policies.config import Options
from policies.samplers.contracts import Sampling

PENALTIES = ("repetition_penalty", "presence_penalty", "frequency_penalty")
HISTORY_DEPENDENT = (*PENALTIES, "min_p", "min_tokens", "logit_bias", "grammar")


class SamplerOptions(Options):
    """How training rollouts are drawn; every engine's `Config` begins with these."""

    temperature: float = Field(default=1.0, gt=0)
    """Logits are divided by it, in the sampler as in the learner."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Must be 1 for training rollouts."""
    top_k: int = Field(default=0, ge=0)
    """Must be 0 (off) for training rollouts."""
    max_tokens: int = Field(default=1024, ge=1)
    """Most tokens that the policy may write in an episode, over all its turns."""
    max_prompt_tokens: int | None = Field(default=None, ge=1)
    """Tasks with longer prompts are left out; null: what the context leaves behind `max_tokens`, at least half of it.
    An environment may set its own."""
    turn_tokens: int | None = Field(default=None, ge=1)
    """Most of them in one turn; null: no limit of its own."""
    max_turns: int = Field(default=16, ge=1)
    """Most turns of an episode; one whose environment goes on after that is cut off."""
    cut_off: Literal["score", "mask", "zero"] = "score"
    """An episode cut off by a budget: `score` what is there; `mask`: no gradient, its score still counts in the
    group's mean; `zero`: it is worth 0."""
    ahead: Literal[0, 1] = 0
    """1: play the next batch while the learner updates. That batch is one version behind."""

    @model_validator(mode="before")
    @classmethod
    def _memoryless(cls, value: Any) -> Any:
        """Refuse what makes a token's probability depend on the text so far."""
        found = [name for name in HISTORY_DEPENDENT if isinstance(value, dict) and name in value]
        if found:
            raise ValueError(
                f"{found[0]} makes the sampling distribution depend on the text so far, which the learner cannot "
                "match; leave it out of training rollouts"
            )
        return value

    @model_validator(mode="after")
    def _full_support(self) -> SamplerOptions:
        if self.top_p < 1 or self.top_k > 0:
            raise ValueError(
                "top_p below 1 and top_k above 0 cut tokens off, and the learner cannot renormalise over the same "
                "tokens: ratios would be biased by the mass kept. Use top_p: 1 and top_k: 0 here; only the "
                "settings of an evaluation may cut"
            )
        return self

    @property
    def longest_row(self) -> int | None:
        """Most tokens in a row that the engine is set up for, prompt and answer together; None: the policy's own."""
        return None

    @property
    def sampling(self) -> Sampling:
        """The distribution of training rollouts."""
        return Sampling(temperature=self.temperature)
