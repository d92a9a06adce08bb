"""Episodes that go on by themselves: one waits for its environment while others write, or wait for theirs.

One loop, in the player's thread, hears of rows and scores; those of servers and processes come from other threads, an
engine of this process writes a token of each row in between. What an episode plays depends on its names alone, so
neither the order in which answers come nor who is slow changes a token.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias

from environments import Scorer, ScoringJob
from environments.futures import LONG_S
from orchestrator.rollout.episode_queue import EpisodeQueue
from orchestrator.rollout.live_episode import LiveEpisode
from orchestrator.stopwatch import Stopwatch
from policies.samplers.contracts import RowStream
from policies.samplers.random_numbers import sample_seed

if TYPE_CHECKING:  # torch is imported with it
    from policies.policy import Policy

Answer: TypeAlias = "tuple[int, Future[Any]]"  # number of the episode; its Generation or its Turn


@dataclass(frozen=True)
class EpisodeNames:
    """What the episodes of one call are called by, whoever plays beside them: their chance goes by that."""

    run_seed: int
    step: int

    def seed(self, episode: LiveEpisode) -> int:
        """Give the seed of an episode's next turn."""
        name = episode.task.environment
        return sample_seed(self.run_seed, episode.stream, name, self.step, *episode.place, episode.turn)

    def job(self, episode: LiveEpisode) -> ScoringJob:
        """Ask for the environment's answer to what was written last."""
        group, sample = episode.place
        name = f"{episode.stream}/{episode.task.environment}/{self.step}/{group}/{sample}"
        return ScoringJob(episode.task, tuple(episode.completions), name)

    def cut_off(self, episodes: Iterable[LiveEpisode]) -> list[ScoringJob]:
        """Give the last jobs of those that ended before their environments."""
        return [self.job(episode) for episode in episodes if episode.is_cut_off]


class EpisodeStream:
    """Plays episodes to their ends, each at its own pace. Used once."""

    def __init__(
        self,
        policy: Policy,
        rows: RowStream,
        scorer: Scorer,
        names: EpisodeNames,
        episodes: Sequence[LiveEpisode],
        queue: EpisodeQueue,
    ) -> None:
        self._policy, self._rows, self._scorer, self._names = policy, rows, scorer, names
        self._episodes, self._queue = episodes, queue  # the queue: of all of them
        self._numbers = {episode: number for number, episode in enumerate(episodes)}
        self._answers: SimpleQueue[Answer] = SimpleQueue()
        self._writing = set[int]()  # numbers of the episodes whose turn is being written
        self._scoring = set[int]()  # of those that wait for their environment

    def play(self, watch: Stopwatch) -> list[LiveEpisode]:
        """Play all; give those that have to be played anew, and stand at their first turn again.

        Time counts as playing while any row is written, and as scoring when only environments are waited for. Raises
        what sampler and scorer raise; nothing is under way then.
        """
        try:
            self._scorer.next_batch()
            with watch("play"):
                for episode in self._queue.first:
                    self._ask(self._numbers[episode])
            while self._writing or self._scoring:
                with watch("play" if self._writing else "score"):
                    self._go_on()
            with watch("play"):
                again = [self._episodes[number] for number in sorted(self._rows.finish())]
        except BaseException:
            self._rows.abandon()
            if self._scoring:
                self._scorer.close()
            raise
        for episode in again:
            episode.begin()
        return again

    def _ask(self, number: int) -> None:
        """Have the policy write an episode's next turn."""
        episode = self._episodes[number]
        self._writing.add(number)
        row = self._rows.submit(episode.request(self._names.seed(episode)), number)
        row.add_done_callback(lambda done: self._answers.put((number, done)))

    def _go_on(self) -> None:
        """Have the rows written a little further, or wait for the next answer; take what has come."""
        if not (self._writing and self._rows.advance()):
            self._take(*self._next_answer())
        while not self._answers.empty():
            self._take(*self._answers.get())

    def _next_answer(self) -> Answer:
        """Wait for an answer; people are told of servers that keep it waiting long."""
        while True:
            try:
                return self._answers.get(timeout=LONG_S)
            except Empty:
                self._scorer.tell_waiting()

    def _take(self, number: int, answer: Future[Any]) -> None:
        """Take a generation or a turn, whichever the episode waits for, and have it go on."""
        episode, found = self._episodes[number], answer.result()
        if number in self._writing:
            self._writing.remove(number)
            episode.write(found, self._policy.decode(found.ids))
            if episode.is_live:
                self._scoring.add(number)
                turn = self._scorer.submit(self._names.job(episode))
                turn.add_done_callback(lambda done: self._answers.put((number, done)))
        else:
            self._scoring.remove(number)
            if episode.answer(found):
                episode.go_on(found, self._policy.bridge(found.messages, episode.task.messages))
            if episode.is_live:
                self._ask(number)
        self._scorer.end(self._names.cut_off([episode]))
        if not episode.is_live:
            for other in self._queue.after([episode]):
                self._ask(self._numbers[other])
