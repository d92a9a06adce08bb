"""What a sampler is: it plays token ids forward and is honest about the probabilities it used."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Finish = Literal["stop", "length", "lost"]
Prompt = tuple[int, ...]  # token ids


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


class Sampler(ABC):
    """An engine that generates. One call plays a whole batch; there is no generator state between calls."""

    version: int = 0  # of the weights it plays with
    entropy: str = "exact"  # what `Generation.entropies` are; "sampled": None, the surprisal stands for them
    context: int | None = None  # most tokens in a row, where that may be fewer than the policy reads
    plays_a_copy: bool = False  # of the weights: it may play on while the learner updates its own

    @abstractmethod
    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation]:
        """Generate one row a request, in the order of the requests.

        Raises:
            NonFiniteLogits: the policy has diverged; `sync` may find it first.
        """

    @abstractmethod
    def sync(self, version: int) -> None:
        """Play with the learner's weights, which are of this version, from now on. Never called while it plays."""

    def take_news(self) -> list[str]:
        """Say what happened since it was last asked that people should know: a server left out, rows lost."""
        return []

    def close(self) -> None:  # noqa: B027 - most own nothing
        """Let go of processes and memory; it is not used afterwards."""
