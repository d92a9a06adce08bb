"""What is done to the policy between two stages: which interventions are due, and doing them.

Conditions read what the ledger holds of the boundary, so a resumed run and a fork decide as the uninterrupted run did.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from pydantic import BaseModel

from environments import Admission, Environment, Task, first_tasks
from orchestrator import random_streams, registry
from orchestrator.errors import SpecError, UserError
from orchestrator.measurements.evaluation import AT_ONE
from orchestrator.progress import Progress
from orchestrator.rollout.player import Player
from orchestrator.spec import Spec
from orchestrator.stopwatch import Stopwatch
from policies.interventions.conditions import Condition, parse
from policies.interventions.contracts import Intervention, Origin, Row, Subject
from policies.learner import Learner
from policies.objectives.by_environment import make_objective
from policies.policy import weights_in
from store import checkpoints
from store.ledger import Reading
from store.probes import GAIN_RATIO, probes_of
from store.records import INTERVENTION, EventRecord, HoldoutQueryRecord

WORDS: Mapping[Origin, str] = {"base": "the start of the run", "previous": "the boundary before"}


@dataclass(frozen=True)
class Measured:
    """What a boundary measured, as far as conditions ask."""

    values: Mapping[tuple[str, str | None], float] = field(default_factory=dict)  # by metric and environment
    pools: Mapping[tuple[str, str], str] = field(default_factory=dict)  # of held-out tasks behind an environment's

    @classmethod
    def after(
        cls,
        reading: Reading,
        run: str,
        stage: int,
        metrics: Collection[str],
    ) -> Measured:
        """Read it from the ledger. Without an environment: the whole model's, else the mean over environments.

        `probe_gain_ratio` is the trainability, and on an environment the gain ratio of the probes of it.
        """
        values: dict[tuple[str, str | None], float] = {}
        if GAIN_RATIO in metrics:
            probes = probes_of(reading, run)
            if (trained := probes.trainability(stage)) is not None:
                values[GAIN_RATIO, None] = trained.value
                of_kind = [one for one in probes.at(stage) if one.kind == trained.kind]
                values |= {(GAIN_RATIO, one.task): one.gain_ratio for one in of_kind if one.gain_ratio is not None}
        pools: dict[tuple[str, str], str] = {}
        for metric in (one for one in metrics if one != GAIN_RATIO):
            for cell in reading.matrix(run, metric, by_category=False):
                if cell.after_stage == stage and cell.value is not None:
                    values[metric, cell.environment] = cell.value
                    if cell.environment is not None:
                        pools[metric, cell.environment] = cell.split
            own = [value for (of, name), value in values.items() if of == metric and name is not None]
            if own:
                values.setdefault((metric, None), fmean(own))  # exact: a ledger's order of environments is its own
            for number in reading.network(run, metric):
                if number.after_stage == stage and number.layer == -1 and number.value is not None:
                    values[metric, None] = number.value
        return cls(values, pools)

    def looks(self, condition: Condition) -> list[HoldoutQueryRecord]:
        """Name the held-out tasks that a condition looked at, an environment each."""
        return [
            HoldoutQueryRecord(name, None, pool, INTERVENTION, self.values[metric, name])
            for (metric, name), pool in self.pools.items()
            if metric == condition.metric and condition.environment in (None, name)
        ]


@dataclass(frozen=True)
class Planned:
    """An entry of the spec's list."""

    number: int  # its place there, from 0
    config: BaseModel
    condition: Condition
    intervention: Intervention

    @property
    def kind(self) -> str:
        """As the spec names it."""
        return registry.type_of(self.config)

    @property
    def params(self) -> dict[str, Any]:
        """Its options."""
        dumped = self.config.model_dump(mode="json", by_alias=True)
        return {name: value for name, value in dumped.items() if name not in ("type", "when")}


@dataclass(frozen=True)
class Decision:
    """Which interventions are due at a boundary, and who looked at what for that."""

    due: Sequence[tuple[Planned, str]]  # each with the reason
    looks: Sequence[HoldoutQueryRecord] = ()
    events: Sequence[EventRecord] = ()  # of those that are not due


@dataclass(frozen=True)
class Done:
    """What became of an intervention that was due."""

    planned: Planned
    why: str
    text: str  # what it did, in words
    is_any: bool  # whether anything changed


def plan(spec: Spec) -> list[Planned]:
    """Make the interventions of a spec."""
    refuse_moving_reference(spec)
    return [
        Planned(number, config, parse(config.when), registry.create("interventions", config))
        for number, config in enumerate(spec.interventions)
    ]


def refuse_moving_reference(spec: Spec) -> None:
    """Refuse to move what a reference policy of the run's start has in common with adapters."""
    merges = any(registry.type_of(one) == "merge_adapters" for one in spec.interventions)
    if (
        merges
        and spec.objective.reference == "start"
        and make_objective(spec.objective, list(spec.environments)).may_need_reference
    ):
        raise SpecError(
            "policy.adapter: the objective compares with the policy of the start, which is the model without its "
            "adapters, and merging them moves the model: say `objective: {reference: stage}`, or `boundary: carry`"
        )


def require_base(planned: Sequence[Planned], first: int, end: int, weights_of: Callable[[int], Path | None]) -> None:
    """Refuse to go on without the weights of the start, if boundaries from `first` to before `end` may ask for them.

    `weights_of`: the weights after a stage; None: they are not here.
    """
    for one in planned:
        if "base" in one.intervention.reads and any(map(one.condition.may_hold, range(first, end))):
            _required(weights_of(0), one, "base")


def _required(folder: Path | None, one: Planned, origin: Origin) -> Path:
    if folder is None:
        raise UserError(
            f"curriculum.boundary.interventions.{one.number}: {one.kind} reads the weights of {WORDS[origin]}, and "
            "their checkpoint is not here any more. Put it back, or fork the run with another list of interventions"
        )
    return folder


@dataclass(frozen=True)
class Interventions:
    """Decides and does what the spec says is done to the policy between two stages."""

    spec: Spec
    planned: Sequence[Planned]
    environments: Mapping[str, Environment]
    admission: Admission
    player: Player
    learner: Learner
    weights_of: Callable[[int], Path | None]  # the weights after a stage

    def require_origins(self, at: Progress) -> None:
        """Refuse to go on without the weights of the start, if a later boundary may ask for them."""
        if at.num_boundaries > 0:
            require_base(self.planned, max(1, at.intervened_after + 1), at.num_stages, self.weights_of)

    def decide(self, at: Progress, measured: Callable[[Collection[str]], Measured]) -> Decision:
        """Ask every condition; one whose value was not measured does not hold, and says so once in a run."""
        asked = [one for one in self.planned if one.condition.may_hold(at.stage)]
        metrics = list(dict.fromkeys(one.condition.metric for one in asked if one.condition.metric is not None))
        known = measured(metrics) if metrics else Measured()
        due, looks, others = list[tuple[Planned, str]](), list[HoldoutQueryRecord](), list[str]()
        for one in asked:
            condition = one.condition
            if condition.metric is None:
                due.append((one, condition.why(None)))
                continue
            looks += [look for look in known.looks(condition) if look not in looks]
            value = known.values.get((condition.metric, condition.environment))
            if value is not None and condition.holds(value):
                due.append((one, condition.why(value)))
            elif value is not None:
                others.append(f"no {one.kind}, {condition.why_not(value)}")
            elif condition.text not in at.unmeasured:
                at.unmeasured.append(condition.text)
                others.append(f"no {one.kind}, {condition.subject} was not measured")
        events = [EventRecord(INTERVENTION, f"after stage {at.stage}: {text}") for text in others]
        return Decision(due, looks, events)

    def apply(self, due: Sequence[tuple[Planned, str]], at: Progress, watch: Stopwatch) -> list[Done]:
        """Do what is due, in the order of the spec; engines, reference and optimiser follow."""
        done = []
        for one, why in due:
            self.player.sampler.make_room()
            optimizer = self.learner.optimizer
            num_changes = optimizer.num_changes
            with torch.no_grad():
                change = one.intervention.apply(self._subject(one, at, watch))
            if change.is_any and one.intervention.moves_weights and optimizer.num_changes == num_changes:
                raise UserError(
                    f"curriculum.boundary.interventions.{one.number}: {one.kind} says that it changed weights, and did "
                    "not ask for them: it changes what `subject.optimizer.whole_weights()` lends (docs/extend.md)"
                )
            done.append(Done(one, why, change.text, change.is_any))
            self.learner.policy.version += moves_weights(done[-1:])  # engines get them, the next of the list too
        reference = self.learner.reference
        if moves_weights(done) and reference is not None and self.spec.objective.reference == "stage":
            reference.refresh()  # the next stage begins with these weights
        return done

    def _subject(self, one: Planned, at: Progress, watch: Stopwatch) -> Subject:
        stream = ("intervention", str(at.stage), str(one.number))

        def weights_of(origin: Origin) -> Mapping[str, torch.Tensor]:
            folder = self._folder(one, origin, at)
            checkpoints.verify(folder.parent)
            return weights_in(folder, self.learner.weights, self.learner.policy.model)

        def rows(num: int) -> list[Row]:
            tasks = self._training_tasks(num)
            groups = self.player.play(tasks, 1, AT_ONE, "/".join(stream), at.step, watch)
            self.player.sampler.make_room()
            return [Row(sample.ids, sample.mask) for group in groups for sample in group.samples if sample.mask.any()]

        generator = torch.Generator().manual_seed(random_streams.integer(self.spec.seed, *stream))
        return Subject(self.learner.policy, self.learner.optimizer, weights_of, rows, generator)

    def _folder(self, one: Planned, origin: Origin, at: Progress) -> Path:
        """Find saved weights. Raises UserError: they are not here any more."""
        return _required(self.weights_of(0 if origin == "base" else at.stage - 1), one, origin)

    def _training_tasks(self, num: int) -> list[Task]:
        """Take the first training tasks, as many of every category as come together to `num`."""
        categories = [(e, one.name) for e in self.environments.values() for one in e.categories if one.trainable]
        each = -(-num // len(categories))
        by_category = [first_tasks(e, category, "train", each, self.admission) for e, category in categories]
        return [task for row in zip_longest(*by_category) for task in row if task is not None][:num]


def moves_weights(done: Sequence[Done]) -> bool:
    """Whether the policy is another one now."""
    return any(one.is_any and one.planned.intervention.moves_weights for one in done)
