"""The parts of a run in memory: who plays, who learns, who chooses, and what is measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from environments import Environment, Task
from environments.contracts import question_and_truth
from environments.slices.environment import unsliced
from orchestrator.choosing.choice import Choice
from orchestrator.choosing.stage_scheduler import StopConditions
from orchestrator.interventions import Interventions
from orchestrator.measurements.budget import LookingPlan
from orchestrator.measurements.contracts import HeldOut, Measurement
from orchestrator.measurements.interim import InterimEvaluation
from orchestrator.numeric_guards import NumericGuards
from orchestrator.progress import Progress
from orchestrator.rollout.player import Player
from orchestrator.rollout.prefetch import Prefetch
from orchestrator.rollout.task_sampler import TaskSampler
from orchestrator.spec import Spec
from policies.learner import Learner
from policies.learning_rate import Span
from policies.objectives import MixCorrectedEntropy
from policies.objectives.by_environment import AnyObjective
from policies.policy import Policy
from policies.samplers.contracts import Sampler


@dataclass(frozen=True)
class Components:
    """Everything the curriculum calls. Each part keeps its own state; `recording.checkpoint` collects it."""

    spec: Spec
    environments: Mapping[str, Environment]
    held_out: Mapping[str, HeldOut]  # what is evaluated, by pool
    policy: Policy
    sampler: Sampler
    player: Player
    learner: Learner
    objective: AnyObjective
    entropy: MixCorrectedEntropy  # what the objective's controller reads
    choice: Choice
    tasks: TaskSampler
    rollouts: Prefetch
    measurements: Sequence[Measurement]  # the evaluation first
    looking: LookingPlan  # what they may cost, and when they therefore look
    interim: InterimEvaluation  # inside stages, if the spec asks for it
    interventions: Interventions  # between stages, if the spec asks for them
    aftermath: Measurement  # what they did
    guards: NumericGuards  # on each step's numbers, if the spec asks for them
    stopping: StopConditions  # of stages, before their budget is used

    @cached_property
    def task_sets(self) -> Mapping[str, Mapping[str, str]]:
        """A digest of the held-out tasks of every environment, by pool."""
        return self.task_sets_by(question_and_truth)

    def task_sets_by(self, identify: Callable[[Task], str]) -> Mapping[str, Mapping[str, str]]:
        """Digest the held-out tasks of every environment, by pool, with what tells one from another."""

        def digest(tasks: Mapping[str, Sequence[Task]]) -> str:
            keys = {category: [identify(unsliced(task)) for task in own] for category, own in tasks.items()}
            return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()

        return {pool: {name: digest(own) for name, own in tasks.items()} for pool, tasks in self.held_out.items()}

    @property
    def reads_value(self) -> bool:
        """Whether the policy is rewarded with a score's value, or with its correctness."""
        return bool(self.spec.objective.reward == "value")

    def span(self, at: Progress) -> Span:
        """What the learning rate falls over, seen from the step that has begun."""
        if self.spec.learner.schedule.over == "run":
            return Span(at.step - 1, at.num_planned_steps)
        has_warmup = at.has_warmup
        if has_warmup is None:  # as earlier versions had it
            has_warmup = at.stage == 1 or self.spec.curriculum.boundary.optimizer == "reset"
        return Span(at.stage_step - 1, at.steps_per_stage, has_warmup)

    def cross_boundary(self) -> None:
        """Let begin anew what the spec says is not taken into the next stage.

        Controllers that are rescaled keep their coefficients, and entropy is compared with what is measured from here
        on. That holds the entropy of the beginning of each stage, whatever it has come to be, and not that of the run.
        """
        boundary = self.spec.curriculum.boundary
        if boundary.optimizer == "reset":
            self.learner.optimizer.reset()
        if self.learner.reference is not None and self.spec.objective.reference == "stage":
            self.learner.reference.refresh()
        if boundary.controllers == "reset":
            self.objective.reset_controllers()
        if boundary.controllers == "rescale":
            self.objective.rescale_controllers()
            self.entropy.begin_anew()
