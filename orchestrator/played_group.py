"""A played group: the episodes of one task, whose choice it was, and what it is worth, from player to bandit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from policies.objectives.contracts import Trajectory
from store.records import EventRecord

if TYPE_CHECKING:
    from environments import Message, Score, Task
    from orchestrator.bandits.contracts import Pick
    from policies.samplers.contracts import Finish, Span
    from store.records import Level, Role

THINK_END = "</think>"


@dataclass(frozen=True)
class Slot:
    """One group's place in a batch: what will be played there, and whose decision that was."""

    index: int
    environment: str
    category: str
    role: Role
    level: Level
    bandit: str  # the environment's, or EVERYTHING
    pick: Pick
    drawn_with: float | None = None  # the probability with which a rule of replay drew the environment; None: none did


@dataclass(frozen=True)
class Sample:
    """One episode as it was played, and its score. L = length of the whole row, prompt and replies included."""

    ids: NDArray[np.int64]  # [L] prompt, policy tokens, environment replies, in order
    mask: NDArray[np.bool_]  # [L] True on tokens the policy wrote
    logprobs: NDArray[np.float32]  # [L] log q of the sampler on the mask, 0 elsewhere; nats
    entropies: NDArray[np.float32]  # [L] of q on the mask (or `Sampler.entropy`), 0 elsewhere; nats
    spans: tuple[Span, ...]  # which weights wrote which masked positions
    messages: tuple[Message, ...]  # the conversation up to the last completion
    completion: str  # the last one, as the environment read it; empty where it was lost
    num_turns: int  # that were written
    finish: Finish  # "stop": it ended; "length": a budget cut it off; "lost": a turn of it could not be played
    score: Score
    has_gradient: bool = True  # False: cut off, and only its score counts, in its group's mean
    turn_starts: tuple[int, ...] = ()  # positions at which its turns begin

    @property
    def num_tokens(self) -> int:
        """Tokens the policy wrote."""
        return int(np.count_nonzero(self.mask))

    @property
    def entropy_sum(self) -> float:
        """Sum of the entropies of q over the tokens written, nats."""
        return float(np.add.reduce(self.entropies[self.mask], dtype=np.float64))

    @property
    def can_teach(self) -> bool:
        """Whether there is anything in it that a gradient could come from."""
        return self.has_gradient and self.num_tokens > 0

    @property
    def was_cut_off(self) -> bool:
        """Whether a budget ended it, of tokens, of turns or of context."""
        return self.finish == "length"

    @property
    def version(self) -> int:
        """Of the oldest weights that wrote in it."""
        return min(span.version for span in self.spans)

    @property
    def answer(self) -> str:
        """What stands behind the last closing think tag of the completion, or all of it."""
        return self.completion.rpartition(THINK_END)[2].strip()

    @property
    def turns(self) -> NDArray[np.int64] | None:
        """Number of the turn that each token belongs to, [L]; None: there is one."""
        if len(self.turn_starts) < 2:
            return None
        return np.searchsorted(self.turn_starts[1:], np.arange(len(self.ids)), side="right")

    def trajectory(self, group: int, reward: float, arm: str = "", think_end: int | None = None) -> Trajectory:
        """Give it to the learner, in the group of this number."""
        return Trajectory(
            ids=self.ids,
            mask=self.mask if self.has_gradient else np.zeros_like(self.mask),
            logprobs=self.logprobs,
            entropies=self.entropies,
            reward=reward,
            group=group,
            version=self.version,
            arm=arm,
            correct=bool(self.score.correct),
            components=self.score.components,
            answer=self.answer,
            turns=self.turns,
            think_end=think_end,
            was_cut_off=self.was_cut_off,
        )


@dataclass(frozen=True)
class Group:
    """The G episodes played from one task. What is asked of it again and again is worked out once."""

    task: Task
    samples: tuple[Sample, ...]

    @cached_property
    def scored(self) -> list[Sample]:
        """The samples that could be scored; only these have anything to teach."""
        return [sample for sample in self.samples if sample.score.reason is None]

    @cached_property
    def values(self) -> list[float]:
        """Values of the scored samples."""
        return [float(s.score.value) for s in self.scored if s.score.value is not None]

    @cached_property
    def correct(self) -> list[bool]:
        """Whether each scored sample is correct."""
        return [bool(s.score.correct) for s in self.scored]

    @property
    def arm(self) -> str:
        """Where its task comes from: "environment/category"."""
        return f"{self.task.environment}/{self.task.category}"

    def rewards(self, reads_value: bool) -> Sequence[float]:
        """What is read of each scored sample: its value, or whether it is correct."""
        return self.values if reads_value else self.correct

    def trajectories(
        self, number: int, reads_value: bool, think_end: Callable[[Sample], int | None]
    ) -> list[Trajectory]:
        """Give its scored samples to the learner, as the group of this number."""
        return [
            sample.trajectory(number, float(reward), self.arm, think_end(sample))
            for sample, reward in zip(self.scored, self.rewards(reads_value), strict=True)
        ]

    @cached_property
    def entropy_sum(self) -> float:
        """Sum of the entropies of q over all tokens written, nats."""
        return sum(sample.entropy_sum for sample in self.samples)

    @cached_property
    def num_tokens(self) -> int:
        """Tokens the policy wrote."""
        return sum(sample.num_tokens for sample in self.samples)

    @property
    def num_truncated(self) -> int:
        """Samples that a budget cut off."""
        return sum(sample.was_cut_off for sample in self.samples)


@dataclass(frozen=True)
class PlayedGroup(Group):
    """A group of a training batch: its slot, its episodes, and what they are worth to those who chose them.

    The numbers are filled in when the batch is taken (`Choice.rate`); None: there was nothing to compare or to score.
    """

    slot: Slot
    signal: float | None = None  # mean |advantage|, in the form that its bandit reads
    raw_signal: float | None = None  # the plain form, in which all environments have one unit
    score: float | None = None  # mean of what the signal reads
    has_spread: bool | None = None  # whether the objective can tell its samples apart; None: it needs no spread


def unscorable(groups: Sequence[Group], where: str = "") -> list[EventRecord]:
    """Say how many samples of each environment could not be scored, and why; `where` says in what."""
    reasons = Counter(
        (group.task.environment, sample.score.reason)
        for group in groups
        for sample in group.samples
        if sample.score.reason is not None
    )
    return [
        EventRecord("unscorable", f"{n} samples of {name} could not be scored{where}: {reason}")
        for (name, reason), n in sorted(reasons.items())
    ]
