"""The curriculum: a bandit decides what the policy trains on next, stage after stage.

    evaluate every environment                                     boundary 0
    for every stage:
        a scheduler picks its environment
        for every step of the stage:
            the environment's bandit picks a category for each group     P = softmax(Q / temperature)
            play the groups, score them
            the bandit learns each pick's mean |advantage|               Q <- (1 - a) Q + a r
            a stop rule may end the stage
            update the policy (and, if asked, play the next batch beside it)
        evaluate every environment, remember, checkpoint           boundary
        the scheduler learns what the stage earned

The inner rule is Self-Evolving Curriculum (arXiv 2505.14970); stages, replay and the scheduler are the outer level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.choosing.choice import Slot
from orchestrator.choosing.stage_window import StageGroup
from orchestrator.components import Components
from orchestrator.measurements.contracts import Findings
from orchestrator.progress import Progress
from orchestrator.recording import controller_readings
from orchestrator.recording.recorder import RunRecorder
from orchestrator.recording.step_result import StepResult
from orchestrator.rollout.data_plans import RolloutBatch
from orchestrator.rollout.player import Group
from orchestrator.stopwatch import Stopwatch
from policies.learner import UpdateReport
from policies.objectives.entropy_reading import logged

MAX_UNSCORABLE_STEPS = 3  # in a row: then something is broken, and going on would train on nothing

Stop = Callable[[Progress], str | None]  # why to stop now, or None


class Curriculum:
    """A run in memory: its parts, where it stands, and what remembers it."""

    def __init__(self, parts: Components, memory: RunRecorder, progress: Progress) -> None:
        self.parts, self.memory, self.at = parts, memory, progress

    def run(self, stop: Stop) -> str | None:
        """Go on to the end, or until `stop` gives a reason; then the state is saved and the reason returned."""
        while not self.at.is_finished:
            if reason := stop(self.at) or self._nothing_trainable():
                self.memory.save("stop", self.parts, self.at)
                return reason
            if self.at.is_at_boundary:
                self.boundary()
            elif self.at.stage_is_over:
                self.open_stage()
            else:
                self.step()
                self.memory.save_if_due(self.parts, self.at)
        return None

    def open_stage(self) -> None:
        """Pick the next stage's environment."""
        scheduled = self.parts.choice.next_environment()
        self.at.begin_stage(scheduled.pick)
        self.memory.record_stage(self.parts, self.at, scheduled)

    def step(self) -> None:
        """Play, let the bandit learn, update, remember."""
        parts, watch = self.parts, Stopwatch()
        self.at.begin_step()
        played = parts.rollouts.take(self.at, watch)
        slots, groups = played.slots, played.groups
        signals = [parts.choice.signal(group.values, group.correct) for group in groups]
        with watch("learn"):
            scores = [parts.choice.score(group.values, group.correct) for group in groups]
            parts.choice.learn(slots, signals, scores)
            parts.tasks.learn(slots, groups, signals, scores)
            if self.at.end_step(self._own(slots, groups, signals), can_update=any(g.scored for g in groups)):
                self.at.stop_reason = parts.stopping.verdict(self.at)
            arms = parts.choice.arms()
        parts.rollouts.begin_next(self.at, watch)
        version = parts.policy.version
        report = self.update(played, watch)
        with watch("learn"):
            controlled = self.control_entropy(groups, report)
        done = StepResult(
            played=played,
            signals=signals,
            arms=arms,
            version=version,
            report=report,
            dtype=parts.spec.policy.dtype,
            ends_dead_stages=parts.stopping.ends_dead_stages,
            controlled=controlled,
            news=parts.sampler.take_news(),
            said=parts.player.scorer.take_news(),
        )
        self.memory.record_step(self.at, done, watch)

    def update(self, played: RolloutBatch, watch: Stopwatch) -> UpdateReport | None:
        """Turn what could be scored into an update of the policy; None when there is nothing to learn from."""
        parts = self.parts
        with watch("prepare"):
            trajectories = played.trajectories(parts.reads_value, parts.policy)
        return parts.learner.learn(trajectories, parts.objective, watch) if trajectories else None

    def control_entropy(self, groups: Sequence[Group], report: UpdateReport | None) -> dict[str, float]:
        """Read the step's entropy, corrected for the mix, and let the controllers set the next step's knobs."""
        parts = self.parts
        sums = controller_readings.entropies(groups, report, parts.spec.objective.entropy)
        reading = parts.entropy.observe(sums)
        return logged(reading) | parts.objective.observe(reading, controller_readings.measured(report))

    def boundary(self) -> None:
        """Measure every environment, tell the scheduler, and make the result durable."""
        parts, watch = self.parts, Stopwatch()
        due = [measurement for measurement in parts.measurements if measurement.is_due(self.at)]
        findings = [m.run(parts.player, self.at, watch, self.memory.watcher.measuring) for m in due]
        earned = parts.choice.end_stage(self.at, _scores(findings))
        if self.at.stage > 0:
            parts.cross_boundary()
        if self.at.stage == 0 or parts.spec.curriculum.boundary.controllers == "rescale":
            self._set_entropy_baseline(findings)
        self.at.end_boundary()
        self.memory.record_boundary(self.at, findings, earned, watch)
        self.memory.save("boundary", parts, self.at)

    def welcome(self, names: Sequence[str]) -> None:
        """Measure environments that joined at a fork, as if the last boundary had known them."""
        if not names:
            return
        watch = Stopwatch()
        joined = [measurement.of(names) for measurement in self.parts.measurements]
        findings = [m.run(self.parts.player, self.at, watch, self.memory.watcher.measuring) for m in joined]
        self._set_entropy_baseline(findings)
        self.parts.choice.join(_scores(findings))
        self.memory.record_joined(self.parts, self.at, findings, watch)

    def _own(
        self, slots: Sequence[Slot], groups: Sequence[Group], signals: Sequence[float | None]
    ) -> list[StageGroup]:
        """What the stage's own groups earned, replay apart: what its stop rules and its scheduler are told."""
        raw, reads_value = self.parts.choice.raw_signal, self.parts.reads_value
        is_told = not self.parts.objective.learns_from_even_groups
        return [
            StageGroup(
                slot.category,
                group.correct,
                raw(signal, group.values, group.correct),
                group.has_spread(reads_value) if is_told else None,
            )
            for slot, group, signal in zip(slots, groups, signals, strict=True)
            if slot.role == "main"
        ]

    def _set_entropy_baseline(self, findings: Sequence[Findings]) -> None:
        """Take the entropy at the start from the evaluation, if it is what training reads: T = 1, nothing cut.

        Otherwise a category's first reading in training is its start: only one distribution compares with itself.
        """
        parts = self.parts
        is_the_same = parts.spec.objective.entropy == "sampler" or parts.sampler.entropy in (
            "exact",
            "sampled",
        )
        if parts.spec.sampler.sampling.is_plain and is_the_same:
            for finding in findings:
                parts.entropy.set_baseline(finding.entropies)

    def _nothing_trainable(self) -> str | None:
        if self.at.num_unscorable_steps < MAX_UNSCORABLE_STEPS:
            return None
        return (
            f"no sample of the last {MAX_UNSCORABLE_STEPS} steps could be scored, so there is nothing to train on; "
            f"`evergreen show {self.parts.spec.name}` says why, per environment. Mend the environment, then resume"
        )


def _scores(findings: Sequence[Findings]) -> dict[str, float]:
    """What a scheduler may look at: held-out scores by environment, of the `select` pool."""
    return {name: score for finding in findings for name, score in finding.scores.items()}
