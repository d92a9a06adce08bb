"""The curriculum: a bandit decides what the policy trains on next, stage after stage.

    evaluate every environment                                     boundary 0
    for every stage:
        a scheduler picks its environment
        for every step of the stage:
            the environment's bandit picks a category for each group     P = softmax(Q / temperature)
            play the groups, score them
            the bandit learns each pick's mean |advantage|               Q <- (1 - a) Q + a r
            a stop rule may end the stage
            update the policy (and, if asked, play the next batch beside it), unless a guard says no
        evaluate every environment, record, checkpoint             boundary
        the scheduler learns what the stage earned
        change the policy, if a condition of the spec holds        interventions

The inner rule is Self-Evolving Curriculum (arXiv 2505.14970); stages, replay and the scheduler are the outer level.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from environments import NoTasks
from orchestrator.components import Components
from orchestrator.interventions import moves_weights
from orchestrator.measurements.contracts import Findings, Measurement
from orchestrator.progress import Progress
from orchestrator.recording import step_metrics
from orchestrator.recording.recorder import RunRecorder
from orchestrator.recording.step_metrics import StepResult
from orchestrator.rollout.batch import RolloutBatch
from orchestrator.stopwatch import Stopwatch
from policies.learner import UpdateReport
from policies.objectives.entropy_reading import logged
from store.records import QUARANTINE, EventRecord, MeasurementRecord

MAX_UNSCORABLE_STEPS = 3  # in a row: then something is broken, and going on would train on nothing

Stop = Callable[[Progress], str | None]  # why to stop now, or None


class Curriculum:
    """A run in memory: its parts, its recorder, and where it stands."""

    def __init__(self, parts: Components, recorder: RunRecorder, progress: Progress) -> None:
        self.parts, self.recorder, self.at = parts, recorder, progress
        self._missing: NoTasks | None = None  # what the latest step could not be drawn of

    def run(self, stop: Stop) -> str | None:
        """Go on to the end, or until `stop` gives a reason; then the state is saved and the reason returned."""
        while not self.at.is_finished:
            if reason := self.at.guard_stop or stop(self.at) or self._nothing_trainable():
                self.recorder.save("stop", self.parts, self.at)
                return reason
            if self.at.is_at_boundary:
                self.boundary()
            elif self.at.awaits_intervention:
                self.intervene()
            elif self.at.stage_is_over:
                self.open_stage()
            else:
                self.step()
                self.recorder.save_if_due(self.parts, self.at)
        return None

    def open_stage(self) -> None:
        """Pick the next stage's environment."""
        scheduled = self.parts.choice.next_environment()
        # its boundary may have reset the optimiser, an intervention, or a guard
        self.at.begin_stage(scheduled.pick, has_warmup=self.parts.learner.optimizer.num_updates == 0)
        self.recorder.record_stage(self.parts, self.at, scheduled)

    def step(self) -> None:
        """Play a batch, let the bandit learn its signals, update the policy, record the step."""
        parts, at, watch = self.parts, self.at, Stopwatch()
        at.begin_step()
        try:
            batch = parts.rollouts.take(at, watch)  # each group: its pick, task, scored samples, mean |advantage|
        except NoTasks as missing:
            at.take_back_step()
            self.go_on_without(missing)
            return
        self._missing = None
        with watch("learn"):
            parts.choice.learn(batch.groups)
            parts.tasks.learn(batch.groups)
            if at.end_step(batch.groups):
                at.stop_reason = parts.stopping.verdict(at)
            set_aside = self.set_aside(batch)
            arms = parts.choice.arms()
        parts.rollouts.begin_next(at, watch)
        version = parts.policy.version
        measure = partial(step_metrics.of_batch, batch.groups, parts.guards.reads_repeated)
        left_out = parts.guards.leaves_out(at, measure)  # why there is no update, if a guard says so
        report = None if left_out else self.update(batch, watch)
        with watch("learn"):
            update = step_metrics.of_update(report)
            controlled = self.control_entropy(batch, report, step_metrics.readable(update))
        found = parts.interim.run(at, watch, self.recorder.watcher.measuring)  # nothing, unless the spec asks for it
        done = StepResult(batch, arms, version, report, update, controlled, found, left_out, set_aside)
        self.recorder.record_step(parts, at, done, watch)
        if parts.guards.rolls_back:
            self.recorder.settle(parts)  # to a checkpoint that may still be being written
        parts.guards.act(at)

    def set_aside(self, batch: RolloutBatch) -> list[str]:
        """Put what cannot be scored into quarantine; a stage with nothing else to train on ends. Says what changed."""
        choice, at = self.parts.choice, self.at
        said = choice.set_aside(batch.groups, at.step)
        if choice.quarantine.judges(batch.groups):
            at.num_unscorable_steps = 0
        self._end_stage_in_quarantine()
        return said

    def go_on_without(self, missing: NoTasks) -> None:
        """Put what gives no tasks into quarantine: the step of which nothing was played is done anew, without it.

        Raises NoTasks where the spec has no quarantine.
        """
        said = self.parts.choice.do_without(missing, self.at.step)
        if not said:
            raise missing
        self._missing = missing
        self._end_stage_in_quarantine()
        self.recorder.record_events(self.at, [EventRecord(QUARANTINE, text) for text in said])

    def _end_stage_in_quarantine(self) -> None:
        quarantine, at = self.parts.choice.quarantine, self.at
        if at.environment and quarantine.open_environments and not quarantine.is_open(at.environment):
            at.stop_reason = at.stop_reason or "quarantine"

    def update(self, batch: RolloutBatch, watch: Stopwatch) -> UpdateReport | None:
        """Turn what could be scored into an update of the policy; None when there is nothing to learn from."""
        parts = self.parts
        with watch("prepare"):
            trajectories = batch.trajectories(parts.reads_value, parts.policy)
        if not trajectories:
            return None
        refuses = parts.guards.refuses(self.at)
        with watch("play"):
            parts.sampler.make_room()
        return parts.learner.learn(trajectories, parts.objective, watch, parts.span(self.at), refuses)

    def control_entropy(
        self, batch: RolloutBatch, report: UpdateReport | None, measured: Mapping[str, float]
    ) -> dict[str, float]:
        """Read the step's entropy, corrected for the mix, and let the controllers set the next step's knobs."""
        parts = self.parts
        sums = step_metrics.entropies(batch.groups, report, parts.spec.objective.entropy)
        reading = parts.entropy.observe(sums)
        return logged(reading) | parts.objective.observe(reading, measured)

    def boundary(self) -> None:
        """Measure every environment, let the scheduler learn, and make the result durable."""
        parts, at, watch = self.parts, self.at, Stopwatch()
        due = [one for one in parts.measurements if one.is_due(at) and parts.looking.includes(one.name, at.stage)]
        found = self._measure(due, watch)
        if self.at.stage == 0:
            parts.spec.objective.expect_components(found.components)
        earned = parts.choice.end_stage(self.at, found.scores)
        if self.at.stage > 0:
            parts.cross_boundary()
        if self.at.stage == 0 or parts.spec.curriculum.boundary.controllers == "rescale":
            self._set_entropy_baseline(found)
        looks = parts.choice.look(self.at, found.cells, found.items)
        found = replace(found, queries=[*found.queries, *looks])
        self.at.end_boundary()
        self.recorder.record_boundary(self.at, found, earned, watch)
        self.recorder.save("boundary", parts, self.at)

    def intervene(self) -> None:
        """Change the policy between two stages, where the spec asks for that, and measure what it did."""
        parts, at, watch = self.parts, self.at, Stopwatch()
        decided = parts.interventions.decide(at, partial(self.recorder.measured, at))
        done = parts.interventions.apply(decided.due, at, watch)
        found = Findings({}, [])
        if moves_weights(done):
            found = self._measure([parts.aftermath], watch)
            if parts.spec.curriculum.boundary.controllers == "rescale":
                self._set_entropy_baseline(found)  # that with which the next stage begins
        at.end_intervention()
        self.recorder.record_intervention(parts, at, decided, done, found, watch)

    def welcome(self, names: Sequence[str]) -> None:
        """Measure environments that joined at a fork, as if the last boundary had known them."""
        if not names:
            return
        watch = Stopwatch()
        found = self._measure([measurement.of(names) for measurement in self.parts.measurements], watch)
        self.parts.spec.objective.expect_components(found.components)
        self._set_entropy_baseline(found)
        self.parts.choice.join(found.scores)
        looks = self.parts.choice.look(self.at, found.cells, found.items)
        found = replace(found, queries=[*found.queries, *looks])
        self.recorder.record_joined(self.parts, self.at, found, watch)

    def _measure(self, measurements: Sequence[Measurement], watch: Stopwatch) -> Findings:
        tell = self.recorder.watcher.measuring
        found = []
        for one in measurements:
            begun = watch.total
            if not one.plays:
                self.parts.sampler.make_room()
            looked = one.run(self.parts.player, self.at, watch, tell)
            cost = MeasurementRecord(one.name, one.passes, watch.total - begun)
            found.append(replace(looked, measurements=[cost]))
        for one in measurements:
            one.forget()
        return Findings.joined(found)

    def _set_entropy_baseline(self, found: Findings) -> None:
        """Take the entropy at the start from the evaluation, if it is what training reads: T = 1, nothing cut.

        Otherwise a category's first reading in training is its start: only one distribution compares with itself.
        """
        parts = self.parts
        is_the_same = parts.spec.objective.entropy == "sampler" or parts.sampler.entropy in (
            "exact",
            "sampled",
        )
        if parts.spec.sampler.sampling.is_plain and is_the_same:
            parts.entropy.set_baseline(found.entropies)

    def _nothing_trainable(self) -> str | None:
        if not self.parts.choice.quarantine.open_environments:
            what = str(self._missing or "no answer can be scored, in any environment")
        elif self.at.num_unscorable_steps >= MAX_UNSCORABLE_STEPS:
            what = f"no sample of the last {MAX_UNSCORABLE_STEPS} steps could be scored"
        else:
            return None
        return (
            f"{what}, so there is nothing to train on; `evergreen show {self.parts.spec.name}` says why, per "
            "environment. Mend the environment, then resume"
        )
