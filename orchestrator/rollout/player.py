"""Playing: tasks become scored groups. Turns, bridges, seeds and budgets are here; engines and scorers are not.

Turn by turn, all live episodes generate together, then the environments answer together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from environments import Environment, Score, Scorer, ScoringJob, Task, Turn
from orchestrator.played_group import Group, Sample
from orchestrator.stopwatch import Stopwatch
from policies.samplers.contracts import Finish, Generation, Request, Sampler, SamplerOptions, Sampling, Span
from policies.samplers.random_numbers import sample_seed

if TYPE_CHECKING:  # torch is imported with it; who only plans plays nothing
    from policies.policy import Policy

Place: TypeAlias = "tuple[int, int]"  # of a task in a batch: the number of its group, and of its first sample

LOST = "lost by the sampler"
NO_ROOM, NO_PROMPT = "its prompt fills the context", "its prompt has no token"
WORTHLESS = Score(0.0, False)  # an episode that ended at a limit before the environment said anything of it


class LiveEpisode:
    """An episode of a task, live until something ends it: a list of token ids that only grows, and what was said.

    Nothing in the list is ever encoded again or taken out. Text is made from ids, for the environment to read, and
    never the other way round: a policy may write `a`, `b` where its tokenizer would merge `ab`, and a learner that
    scored `ab` would score what nobody sampled.

    In a turn: `request`, then `write`, then `answer`, and where that says so `go_on`. One whose prompt leaves no room
    has ended before its first turn, without a score.

    `place`: which group of the batch, and which sample of the group. `max_tokens`: most tokens that the policy may
    write, over all turns; `context`: that it can read in a row; None: no limit. `version`: of the weights at first.
    """

    def __init__(
        self,
        task: Task,
        place: tuple[int, int],
        prompt: tuple[int, ...],
        max_tokens: int,
        options: SamplerOptions,
        context: int | None,
        version: int,
    ) -> None:
        self.task, self.place, self.ids = task, place, prompt
        self.messages = list(task.messages)  # up to the last completion
        self.completions: list[str] = []
        self.stretches: list[tuple[int, Generation]] = []  # what the policy wrote, and from where on
        self.score: Score | None = None  # None: live
        self.finish: Finish = "stop"
        self.has_gradient = True  # False: only its score counts
        self._tokens_left, self._options, self._context, self._version = max_tokens, options, context, version
        self._is_one_token = max_tokens == 1  # then a reply has no room for its end, and filling it is ending
        if not prompt or self.budget() < 1:
            self._end("lost", Score.unscorable(NO_ROOM if prompt else NO_PROMPT))

    @property
    def is_live(self) -> bool:
        """Whether there is another turn to write."""
        return self.score is None

    @property
    def turn(self) -> int:
        """Number of the next turn, from 0."""
        return len(self.completions)

    def budget(self, num_bridge: int = 0) -> int:
        """Most tokens of the next turn, behind a bridge of so many; below 1 there is none."""
        budget = min(self._tokens_left, self._options.turn_tokens or self._tokens_left)
        return budget if self._context is None else min(budget, self._context - len(self.ids) - num_bridge)

    def request(self, seed: int) -> Request:
        """Ask for the next turn."""
        return Request(self.ids, seed, self.budget())

    def write(self, generation: Generation, completion: str) -> None:
        """Take what the policy wrote; a turn that the sampler lost ends the episode without a score."""
        if generation.finish == "lost":
            self._end("lost", Score.unscorable(LOST))
            return
        self.stretches.append((len(self.ids), generation))
        self.ids += generation.ids
        self.completions.append(completion)
        self._tokens_left -= len(generation.ids)

    def answer(self, turn: Turn) -> bool:
        """Take the environment's answer; say whether the policy goes on with its messages.

        A turn that was cut by length is the last one, whatever the environment says to what there is of it.
        """
        was_cut = self.stretches[-1][1].finish == "length"
        if turn.done and turn.score is not None:
            self._end("length" if was_cut else "stop", turn.score)
        elif was_cut or self.turn >= self._options.max_turns or self.budget() < 1:
            self._end("length", turn.score or WORTHLESS)
        return self.is_live

    def go_on(self, turn: Turn, bridge: Sequence[int]) -> None:
        """Append the environment's messages, `bridge` being their ids; cut off if no turn fits behind them."""
        if self.budget(len(bridge)) < 1:
            self._end("length", turn.score or WORTHLESS)
            return
        self.ids += tuple(bridge)
        self.messages += [{"role": "assistant", "content": self.completions[-1]}, *turn.messages]

    def sample(
        self,
        ids: NDArray[np.int64],
        mask: NDArray[np.bool_],
        logprobs: NDArray[np.float32],
        entropies: NDArray[np.float32],
    ) -> Sample:
        """Say what became of an episode that has ended, its tokens having been laid out."""
        assert self.score is not None, "it is not live"
        spans = [
            Span(span.version, start + span.start, start + span.end)
            for start, generation in self.stretches
            for span in generation.spans
        ]
        return Sample(
            ids=ids,
            mask=mask,
            logprobs=logprobs,
            entropies=entropies,
            spans=tuple(spans) or (Span(self._version, len(ids), len(ids)),),
            messages=tuple(self.messages),
            completion="" if self.finish == "lost" else self.completions[-1],
            num_turns=len(self.completions),
            finish=self.finish,
            score=self.score,
            has_gradient=self.has_gradient,
            turn_starts=tuple(start for start, _ in self.stretches),
        )

    def _end(self, finish: Finish, score: Score) -> None:
        if finish == "length" and self._is_one_token:
            finish = "stop"
        rule = self._options.cut_off if finish == "length" else "score"
        if rule == "zero" and score.reason is None:
            score = replace(score, value=0.0, correct=False)
        self.finish, self.score, self.has_gradient = finish, score, rule != "mask"


def samples_of(episodes: Sequence[LiveEpisode]) -> list[Sample]:
    """Lay out episodes that have ended: the tokens of all one after the other, of which each sample is a stretch."""
    ends = np.cumsum([0, *(len(episode.ids) for episode in episodes)]).tolist()
    num = ends[-1]
    ids = np.fromiter(chain.from_iterable(episode.ids for episode in episodes), np.int64, num)
    mask = np.zeros(num, np.bool_)
    logprobs, entropies = np.zeros(num, np.float32), np.zeros(num, np.float32)
    for episode, begin in zip(episodes, ends, strict=False):
        for start, generation in episode.stretches:
            mask[begin + start : begin + start + len(generation.ids)] = True
    written = [generation for episode in episodes for _, generation in episode.stretches]
    if written:
        logprobs[mask] = np.concatenate([one.logprobs for one in written])
        # the surprise at what was drawn is, in the mean, the entropy of what it was drawn from
        of_q = [-one.logprobs if one.entropies is None else one.entropies for one in written]
        entropies[mask] = np.concatenate(of_q)
    return [
        episode.sample(ids[a:b], mask[a:b], logprobs[a:b], entropies[a:b])
        for episode, (a, b) in zip(episodes, pairwise(ends), strict=True)
    ]


@dataclass(eq=False)
class Player:
    """Plays tasks with the policy: sampler and scorer behind one function."""

    seed: int
    policy: Policy
    sampler: Sampler
    scorer: Scorer
    environments: Mapping[str, Environment]
    options: SamplerOptions

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
                turns = self.scorer.turns([ScoringJob(one.task, tuple(one.completions)) for one in live])
            with watch("play"):
                for episode, turn in zip(live, turns, strict=True):
                    if episode.answer(turn):
                        episode.go_on(turn, self.policy.bridge(turn.messages))
                live = [episode for episode in live if episode.is_live]
        samples = iter(samples_of(episodes))
        return [Group(task, tuple(islice(samples, size))) for task, size in zip(tasks, sizes, strict=True)]

    def _start(self, tasks: Sequence[Task], sizes: Sequence[int], places: Sequence[Place]) -> list[LiveEpisode]:
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

    def _write(self, live: Sequence[LiveEpisode], sampling: Sampling, stream: str, step: int) -> list[LiveEpisode]:
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
