"""What a sampler is: it plays token ids forward and is honest about the probabilities it used. Does not load torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from policies.config import Options
from policies.errors import PolicyError

Finish = Literal["stop", "length", "lost"]
Prompt = tuple[int, ...]  # token ids

PENALTIES = ("repetition_penalty", "presence_penalty", "frequency_penalty")
HISTORY_DEPENDENT = (*PENALTIES, "min_p", "min_tokens", "logit_bias", "grammar")


@dataclass(frozen=True)
class Sampling:
    """The sampling distribution q: logits / temperature, then top-k, then top-p on the rest."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0: off
    greedy: bool = False  # the most likely token; its log-probs are stored, never trained on

    @property
    def is_plain(self) -> bool:
        """Whether q is the model's own distribution (T = 1, nothing cut off)."""
        return self.temperature == 1.0 and self.top_p == 1.0 and self.top_k == 0 and not self.greedy


CutOff = Literal["score", "mask", "zero"]  # what an episode is worth that a budget cut off


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
    """Most turns of an episode; one whose environment goes on after that is cut off. Left out, an environment whose own
    `turns` are more has those."""
    cut_off: CutOff = "score"
    """An episode cut off by a budget: `score` what is there; `mask`: no gradient, its score still counts in the
    group's mean (but for `estimator: disco`, `drpo` and `reinforce_pp`, which leave it out; parts that read lengths
    are refused); `zero`: it is worth 0."""
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


@dataclass(frozen=True)
class Request:
    """One row to generate."""

    ids: Prompt  # requests with equal ids share their prefill
    seed: int  # 63 bits, of this row alone: its tokens do not depend on the rest of the batch
    budget: int  # at most this many new tokens, at least 1


@dataclass(frozen=True)
class Span:
    """Which weights wrote tokens [start, end)."""

    version: int
    start: int
    end: int


@dataclass(frozen=True)
class Generation:
    """The new tokens of one row. T = number of new tokens, the stop token included when it was sampled."""

    ids: tuple[int, ...]  # [T]
    logprobs: NDArray[np.float32]  # [T] log q of each sampled token, nats
    entropies: NDArray[np.float32] | None  # [T] entropy of q at each position, nats; see `Sampler.entropy`
    finish: Finish  # "stop": a stop token was sampled; "length": the budget ran out; "lost": see `lost`
    spans: tuple[Span, ...]

    @classmethod
    def lost(cls) -> Generation:
        """Make the generation of a row that the engine could not play: no tokens, so its episode is unscorable."""
        return cls((), np.zeros(0, np.float32), None, "lost", ())


class RowStream(ABC):
    """Rows that are generated beside each other, each asked for when its turn has come. Used by one thread.

    A row's tokens are those that `Sampler.generate` gives for its request.
    """

    def expect(self, num_episodes: int) -> None:  # noqa: B027 - most do not need to know
        """Hear, before the first row, how many episodes the batch has; few of them may be under way at a time."""

    @abstractmethod
    def submit(self, request: Request, episode: int) -> Future[Generation]:
        """Ask for a row; an episode's rows go to where its earlier ones were played. `PolicyError`: no such row can be.

        What `generate` raises is the future's to raise.
        """

    def advance(self) -> bool:
        """Write a little more of the rows, where that takes the caller's thread; give whether it does."""
        return False

    @abstractmethod
    def finish(self) -> frozenset[int]:
        """End, once all rows are there; give the episodes to play anew: other weights than those meant had a part.

        Raises `PolicyError`: that goes on.
        """

    @abstractmethod
    def abandon(self) -> None:
        """End, with rows under way that nobody waits for."""


class Sampler(ABC):
    """An engine that generates. One call plays a whole batch; there is no generator state between calls."""

    version: int = 0  # of the weights it plays with
    entropy: str = "exact"  # what `Generation.entropies` are; "sampled": None, the surprisal stands for them
    context: int | None = None  # most tokens in a row, where that may be fewer than the policy reads
    plays_a_copy: bool = False  # of the weights: it may play on while the learner updates its own

    @abstractmethod
    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation]:
        """Generate one row a request, in the order of the requests. Raises `NonFiniteLogits`: the policy has diverged;
        `sync` may find it first.
        """

    def stream(self, sampling: Sampling) -> RowStream | None:
        """Begin a batch whose rows are asked for one by one; None, by default: it plays whole batches only."""
        return None

    @abstractmethod
    def sync(self, version: int) -> None:
        """Play with the learner's weights, which are of this version, from now on. Never called while it plays."""

    @staticmethod
    def require_fitting(requests: Sequence[Request], context: int | None, what: str, remedy: str) -> None:
        """Refuse rows that are longer than a context; `what` has it: "tiny is played with a context of"."""
        longest = max((len(request.ids) + request.budget for request in requests), default=0)
        if context is not None and longest > context:
            raise PolicyError(f"a prompt and its budget need {longest} tokens, {what} {context}: {remedy}")

    def make_room(self) -> None:  # noqa: B027 - most share no memory with the learner, or none that they could do without
        """Let go of memory of the learner's devices until it is next asked to play. Never called while it plays."""

    def take_news(self) -> list[str]:
        """Say what happened since it was last asked that people should know: a server left out, rows lost."""
        return []

    def close(self) -> None:  # noqa: B027 - most own nothing
        """Let go of processes and memory; it is not used afterwards."""
