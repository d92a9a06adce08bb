"""The batches of training: picked, drawn and played, one ahead of the learner if the spec says so.

With `sampler: {ahead: 1}` the next batch is played, in a thread of its own and with a copy of the weights, while the
learner updates. When its turn comes it is exactly one version behind, and the objective's mismatch weights correct for
that. The bandit has learned from the batch before by then: only the update is not awaited. A batch is never begun for
another stage: the first one of a stage is played when it is needed, with the newest weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

from environments import NoTasks, Task
from environments.futures import result_of
from orchestrator.choosing.choice import Choice
from orchestrator.played_group import PlayedGroup, Slot
from orchestrator.progress import Progress
from orchestrator.rollout.batch import RolloutBatch
from orchestrator.rollout.data_plans import BatchInPlay, Plans
from orchestrator.rollout.player import Player
from orchestrator.rollout.task_sampler import TaskSampler
from orchestrator.spec import Spec
from orchestrator.stopwatch import Stopwatch
from policies.hardware import use_threads
from policies.learner import Learner
from policies.objectives.by_environment import AnyObjective


class Prefetch:
    """Plays the batches of training; at most one is under way."""

    def __init__(
        self,
        spec: Spec,
        choice: Choice,
        tasks: TaskSampler,
        player: Player,
        learner: Learner,
        objective: AnyObjective,
    ) -> None:
        self.spec, self.choice, self.tasks, self.player = spec, choice, tasks, player
        self.learner, self.objective = learner, objective
        # lives as long as the run: scoring workers die with it
        self._thread: ThreadPoolExecutor | None = None
        self._under_way: Future[RolloutBatch] | None = None
        self._missing: NoTasks | None = None  # why there is none, told when it is to be taken

    @contextmanager
    def running(self) -> Iterator[Prefetch]:
        """Have a thread to play ahead in, inside the block and if the spec says so."""
        if self.spec.sampler.ahead:
            threads = self.spec.resources.threads
            self._thread = ThreadPoolExecutor(1, "ahead", initializer=use_threads, initargs=(threads,))
        try:
            yield self
        finally:
            if self._thread is not None:
                self._thread.shutdown(cancel_futures=True)

    def take(self, at: Progress, watch: Stopwatch) -> RolloutBatch:
        """Give the batch of the step that has begun, played ahead or now; its groups are rated.

        Raises NoTasks: servers give no tasks of what was picked. Nothing was played then, and the picks are taken back.
        """
        if self._missing is not None:
            missing, self._missing = self._missing, None
            raise missing
        if self._under_way is None:
            with watch("draw"):
                slots, tasks = self._draw(at.step, at)
            batch = self._in_play(at.step, self.objective.plans, watch).play(slots, tasks)
        else:
            with watch("wait"):
                batch = result_of(self._under_way, self.player.scorer.tell_waiting)
            self._under_way = None
            watch.elsewhere(batch.seconds)
        return replace(batch, groups=[self._rated(group) for group in batch.groups])

    def begin_next(self, at: Progress, watch: Stopwatch) -> None:
        """Begin to play the next step's batch, if the spec says so and this stage has one."""
        if self._thread is None or at.stage_is_over:
            return
        step = at.step + 1
        try:
            with watch("draw"):
                slots, tasks = self._draw(step, at)
        except NoTasks as missing:
            self._missing = missing
            return
        with watch("play"):
            self.player.sync()  # here, while nobody changes the weights
        # the plans as they are now: of when the batch is begun, not of whenever the thread comes to it
        self._under_way = self._thread.submit(self._play_ahead, step, slots, tasks, self.objective.plans)

    def await_under_way(self) -> RolloutBatch | None:
        """Wait for the batch that is under way, and keep it to be taken; None when there is none."""
        return None if self._under_way is None else result_of(self._under_way, self.player.scorer.tell_waiting)

    @property
    def missing(self) -> NoTasks | None:
        """What the next batch could not be drawn of, where the run goes on without that: else it is drawn anew."""
        missing = self._missing
        return missing if missing is not None and self.choice.quarantine.goes_on_without(missing) else None

    def settle(self, watch: Stopwatch) -> None:
        """Wait until nothing is played any more, for who wants the sampler; the batch stays to be taken."""
        if self._under_way is not None:
            with watch("wait"):
                self.await_under_way()

    def put_back(self, played: RolloutBatch) -> None:
        """Take up a batch that an earlier process played ahead."""
        self._under_way = Future()
        self._under_way.set_result(played)

    def put_back_missing(self, missing: NoTasks) -> None:
        """Take up what an earlier process could not draw the next batch of."""
        self._missing = missing

    def _draw(self, step: int, at: Progress) -> tuple[list[Slot], list[Task]]:
        slots = self.choice.slots(self.spec.step.groups, step, at.environment, at.visited)
        try:
            return slots, self.tasks.draw(slots, has_others=self.choice.quarantine.leaves_others)
        except NoTasks:
            self.choice.take_back(slots)
            raise

    def _play_ahead(self, step: int, slots: Sequence[Slot], tasks: Sequence[Task], plans: Plans) -> RolloutBatch:
        watch = Stopwatch()
        batch = self._in_play(step, plans, watch, sync=False).play(slots, tasks)
        return replace(batch, seconds=watch.seconds)

    def _in_play(self, step: int, plans: Plans, watch: Stopwatch, sync: bool = True) -> BatchInPlay:
        return BatchInPlay(self.spec, self.tasks, self.player, self.learner, step, plans, watch, sync)

    def _rated(self, group: PlayedGroup) -> PlayedGroup:
        """Note what a group is worth to who chose it, and whether the objective can tell its samples apart."""
        rewards = group.rewards(self.spec.objective.reward == "value")
        needs_spread = len(rewards) > 1 and not self.objective.of(group.task.environment).learns_from_even_groups
        has_spread = max(rewards) > min(rewards) if needs_spread else None
        return replace(self.choice.rate(group), has_spread=has_spread)
