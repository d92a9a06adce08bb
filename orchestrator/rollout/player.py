"""Playing: tasks become scored groups. Prompts, seeds and order are here; engines and scorers are not.

With an engine that takes rows one by one, as both of vLLM do, each episode goes on by itself (`EpisodeStream`). Else
all live episodes write a turn together, then the environments answer together. Both play the same tokens, and both
begin no more episodes of an environment at once than it allows (`EpisodeQueue`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from environments import Environment, Scorer, Task
from orchestrator.episode_options import Budgets
from orchestrator.played_group import Group
from orchestrator.rollout.episode_queue import EpisodeQueue
from orchestrator.rollout.episode_stream import EpisodeNames, EpisodeStream
from orchestrator.rollout.live_episode import LiveEpisode, samples_of
from orchestrator.stopwatch import Stopwatch
from policies.samplers.contracts import Sampler, Sampling

if TYPE_CHECKING:  # torch is imported with it; who only plans plays nothing
    from policies.policy import Policy

Place: TypeAlias = "tuple[int, int]"  # of a task in a batch: the number of its group, and of its first sample


@dataclass(eq=False)
class Player:
    """Plays tasks with the policy: sampler and scorer behind one function."""

    seed: int
    policy: Policy
    sampler: Sampler
    scorer: Scorer
    environments: Mapping[str, Environment]
    budgets: Budgets

    def sync(self) -> None:
        """Play with the policy's newest weights from now on."""
        if self.sampler.version != self.policy.version:
            self.sampler.sync(self.policy.version)

    def play(
        self,
        tasks: Sequence[Task],
        group_size: int | Sequence[int],
        sampling: Sampling,
        stream: str | Sequence[str],
        step: int,
        watch: Stopwatch,
        *,
        sync: bool = True,
        places: Sequence[Place] | None = None,
    ) -> list[Group]:
        """Play a group of episodes from every task, each to its end; of one size, or of one for each task.

        The random numbers of a sample's turn depend on the run's seed and (stream, environment, step, group, sample,
        turn), not on how the batch is cut nor on who else is still playing. `stream`: of all tasks, or of each.
        `places` says which group each task's is, and which sample of it comes first; they are counted from 0 otherwise.
        `sync=False`: with the weights that the sampler has.
        """
        streams = [stream] * len(tasks) if isinstance(stream, str) else stream
        sizes = [group_size] * len(tasks) if isinstance(group_size, int) else group_size
        places = [(group, 0) for group in range(len(tasks))] if places is None else places
        with watch("play"):
            if sync:
                self.sync()
            episodes = self._start(tasks, streams, sizes, places)
        names = EpisodeNames(self.seed, step)
        live = [episode for episode in episodes if episode.is_live]
        while live and (rows := self.sampler.stream(sampling)) is not None:  # again: what was not played as it should
            rows.expect(len(episodes))
            queue = EpisodeQueue(live, self.environments)
            live = EpisodeStream(self.policy, rows, self.scorer, names, live, queue).play(watch)
        self._play_together(live, sampling, names, watch)
        samples = iter(samples_of(episodes))
        return [Group(task, tuple(islice(samples, size))) for task, size in zip(tasks, sizes, strict=True)]

    def _start(
        self, tasks: Sequence[Task], streams: Sequence[str], sizes: Sequence[int], places: Sequence[Place]
    ) -> list[LiveEpisode]:
        """Start all episodes, in the order of their groups; those of a group share the ids of their prompt."""
        limits = [limit for limit in (self.policy.context, self.sampler.context) if limit is not None]
        context, version = min(limits, default=None), self.sampler.version
        episodes = []
        for task, stream, size, (group, first) in zip(tasks, streams, sizes, places, strict=True):
            prompt = self.policy.encode(task.messages)
            limit = self.budgets.tokens(self.environments[task.environment])
            options = self.budgets.options(task.environment)
            episodes += [
                LiveEpisode(task, stream, (group, sample), prompt, limit, options, context, version)
                for sample in range(first, first + size)
            ]
        return episodes

    def _play_together(
        self, live: Sequence[LiveEpisode], sampling: Sampling, names: EpisodeNames, watch: Stopwatch
    ) -> None:
        """Have all live episodes write a turn, then the environments answer, until none is live."""
        queue = EpisodeQueue(live, self.environments)
        live = queue.first
        while live:
            under_way = live
            with watch("play"):
                requests = [episode.request(names.seed(episode)) for episode in live]
                for episode, generation in zip(live, self.sampler.generate(requests, sampling), strict=True):
                    episode.write(generation, self.policy.decode(generation.ids))
                self.scorer.end(names.cut_off(live))  # lost by the sampler
                live = [episode for episode in live if episode.is_live]
            with watch("score"):
                turns = self.scorer.turns([names.job(episode) for episode in live])
            with watch("play"):
                for episode, turn in zip(live, turns, strict=True):
                    if episode.answer(turn):
                        episode.go_on(turn, self.policy.bridge(turn.messages, episode.task.messages))
                self.scorer.end(names.cut_off(live))
                live = [episode for episode in live if episode.is_live]
                live += queue.after([episode for episode in under_way if not episode.is_live])
