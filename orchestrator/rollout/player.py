"""Playing: tasks become scored groups. Turns, bridges, seeds and budgets live here; engines and scorers do not.

Turn by turn, all live episodes generate together, then the environments answer together. An episode is a list of
token ids that only grows: nothing already in it is ever encoded again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from environments import Environment, Message, Score, Scorer, Task
from orchestrator.rollout.episodes import LiveEpisode
from orchestrator.rollout.think_tag import answer_of
from orchestrator.stopwatch import Stopwatch
from policies.policy import Policy
from policies.samplers.contracts import Finish, Sampler, Sampling, Span
from policies.samplers.options import SamplerOptions
from policies.samplers.token_distribution import sample_seed
from policies.trajectories import Trajectory

Place: TypeAlias = "tuple[int, int]"  # of a task in a batch: the number of its group, and of its first sample


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
    finish: (
        Finish  # "stop": it ended; "length": a budget cut it off; "lost": a turn of it could not be played
    )
    score: Score
    has_gradient: bool = True  # False: cut off, and only its score counts, in its group's mean
    turn_starts: tuple[int, ...] = ()  # positions at which its turns begin

    @property
    def num_tokens(self) -> int:
        """Tokens the policy wrote."""
        return int(self.mask.sum())

    @property
    def entropy_sum(self) -> float:
        """Sum of the entropies of q over the tokens written, nats."""
        return float(self.entropies[self.mask].sum(dtype=np.float64))

    @property
    def can_teach(self) -> bool:
        """Whether there is anything in it that a gradient could come from."""
        return self.has_gradient and bool(self.mask.any())

    @property
    def was_cut_off(self) -> bool:
        """Whether a budget ended it, of tokens, of turns or of context."""
        return self.finish == "length"

    @property
    def version(self) -> int:
        """Of the oldest weights that wrote in it."""
        return min(span.version for span in self.spans)

    @classmethod
    def of(cls, episode: LiveEpisode) -> Sample:
        """Lay out an episode that has ended."""
        ending = episode.ending
        assert ending is not None, "it is not live"
        num = len(episode.ids)
        mask = np.zeros(num, np.bool_)
        logprobs, entropies = np.zeros(num, np.float32), np.zeros(num, np.float32)
        for start, generation in episode.stretches:
            at = slice(start, start + len(generation.ids))
            mask[at], logprobs[at] = True, generation.logprobs
            # the surprise at what was drawn is, in the mean, the entropy of what it was drawn from
            entropies[at] = -generation.logprobs if generation.entropies is None else generation.entropies
        return cls(
            ids=np.array(episode.ids, np.int64),
            mask=mask,
            logprobs=logprobs,
            entropies=entropies,
            spans=episode.spans,
            messages=tuple(episode.messages),
            completion="" if ending.finish == "lost" else episode.completions[-1],
            num_turns=len(episode.completions),
            finish=ending.finish,
            score=ending.score,
            has_gradient=ending.has_gradient,
            turn_starts=tuple(start for start, _ in episode.stretches),
        )

    @property
    def turns(self) -> NDArray[np.int64] | None:
        """Number of the turn that each token belongs to, [L]; None: there is one."""
        if len(self.turn_starts) < 2:
            return None
        return np.searchsorted(self.turn_starts[1:], np.arange(len(self.ids)), side="right")

    def trajectory(
        self,
        group: int,
        reward: float,
        arm: str = "",
        think_end: int | None = None,
        advantage: float | None = None,
    ) -> Trajectory:
        """Give it to the learner."""
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
            answer=answer_of(self.completion),
            turns=self.turns,
            think_end=think_end,
            was_cut_off=self.was_cut_off,
            advantage=advantage,
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
        """What the objective reads of each scored sample: its value, or whether it is correct."""
        return self.values if reads_value else self.correct

    def has_spread(self, reads_value: bool) -> bool | None:
        """Whether what the objective reads differs between its samples; None: there are not two to compare."""
        rewards = self.rewards(reads_value)
        return None if len(rewards) < 2 else max(rewards) > min(rewards)

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

    @cached_property
    def num_truncated(self) -> int:
        """Samples that a budget cut off."""
        return sum(sample.was_cut_off for sample in self.samples)


class Player:
    """Plays tasks with the policy: sampler and scorer behind one function."""

    def __init__(
        self,
        seed: int,
        policy: Policy,
        sampler: Sampler,
        scorer: Scorer,
        environments: Mapping[str, Environment],
        options: SamplerOptions,
    ) -> None:
        self.seed, self.policy, self.sampler, self.scorer = seed, policy, sampler, scorer
        self.environments, self.options = environments, options

    def sync(self) -> None:
        """Play with the policy's newest weights from now on."""
        if self.sampler.version != self.policy.version:
            self.sampler.sync(self.policy.version)

    def play(
        self,
        tasks: Sequence[Task],
        group_size: int | Sequence[int],
        sampling: Sampling,
        stream: str,
        step: int,
        watch: Stopwatch,
        *,
        sync: bool = True,
        places: Sequence[Place] | None = None,
    ) -> list[Group]:
        """Play a group of episodes from every task, each to its end; of one size, or of one for each task.

        The random numbers of a sample's turn depend on the run's seed and (stream, environment, step, group, sample,
        turn), not on how the batch is cut nor on who else is still playing. `places` says which group each task's is,
        and which sample of it comes first; they are counted from 0 otherwise. `sync=False`: with the weights that the
        sampler has.
        """
        sizes = [group_size] * len(tasks) if isinstance(group_size, int) else group_size
        places = [(group, 0) for group in range(len(tasks))] if places is None else places
        with watch("play"):
            if sync:
                self.sync()
            episodes = self._start(tasks, sizes, places)
        live = [episode for episode in episodes if episode.is_live]
        while live:
            with watch("play"):
                live = self._write(live, sampling, stream, step)
            with watch("score"):
                turns = self.scorer.turns([episode.job for episode in live])
            with watch("play"):
                for episode, turn in zip(live, turns, strict=True):
                    if episode.hear(turn):
                        episode.go_on(turn, self.policy.bridge(turn.messages))
                live = [episode for episode in live if episode.is_live]
        samples = iter([Sample.of(episode) for episode in episodes])
        return [Group(task, tuple(islice(samples, size))) for task, size in zip(tasks, sizes, strict=True)]

    def _start(
        self, tasks: Sequence[Task], sizes: Sequence[int], places: Sequence[Place]
    ) -> list[LiveEpisode]:
        """Start all episodes, in the order of their groups; those of a group share the ids of their prompt."""
        limits = [limit for limit in (self.policy.context, self.sampler.context) if limit is not None]
        context, version = min(limits, default=None), self.sampler.version
        episodes = []
        for task, size, (group, first) in zip(tasks, sizes, places, strict=True):
            prompt = self.policy.encode(task.messages)
            limit = self.environments[task.environment].max_tokens or self.options.max_tokens
            episodes += [
                LiveEpisode(task, (group, sample), prompt, limit, self.options, context, version)
                for sample in range(first, first + size)
            ]
        return episodes

    def _write(
        self, live: Sequence[LiveEpisode], sampling: Sampling, stream: str, step: int
    ) -> list[LiveEpisode]:
        """Have the policy write the next turn of all live episodes; give those whose turn was not lost."""
        requests = [
            episode.request(
                sample_seed(self.seed, stream, episode.task.environment, step, *episode.place, episode.turn)
            )
            for episode in live
        ]
        for episode, generation in zip(live, self.sampler.generate(requests, sampling), strict=True):
            episode.write(generation, self.policy.decode(generation.ids))
        return [episode for episode in live if episode.is_live]
