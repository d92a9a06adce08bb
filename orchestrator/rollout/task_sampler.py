"""Drawing tasks: every training category has a source of tasks, and the conductor holds where each stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from environments import ALL, Admission, Box, Environment, EnvironmentFault, PassedOver, Task, training_roster
from orchestrator import random_streams, registry
from orchestrator.choosing.choice import Slot
from orchestrator.errors import SpecError, UserError
from orchestrator.rollout.player import Group
from orchestrator.rollout.task_sources import SelectionTaskSource, StreamTaskSource, TaskOutcome, TaskSource
from orchestrator.rollout.teacher_source import TeacherTaskSource
from orchestrator.selections.contracts import Numbers, SelectionConfig
from orchestrator.spec.model import CurriculumSection
from orchestrator.teachers.random import Config as RandomConfig

CURSOR = "cursor"
MOST_TASKS = SelectionConfig().tasks  # that a selection of the user's own chooses among


class TaskSampler:
    """The sources of tasks of all trainable categories. Where each stands is its state.

    `tell` hears how far it is where finding the tasks to choose among takes long; `admission` says which tasks may be
    drawn.

    Raises:
        SpecError: the selection or the teacher cannot do its work with these environments.
    """

    def __init__(
        self,
        environments: Mapping[str, Environment],
        section: CurriculumSection,
        seed: int,
        tell: Callable[[str], None] | None = None,
        admission: Admission = ALL,
    ) -> None:
        making = _BatchDraw(section, seed, tell, admission)
        self._admission = admission
        self._sources: dict[tuple[str, str], TaskSource] = {}
        self._types: dict[tuple[str, str], str] = {}  # of the method that each source goes by
        for name, environment in environments.items():
            for category in environment.categories:
                if category.trainable:
                    made = making.source(environment, category.name)
                    self._types[name, category.name], self._sources[name, category.name] = made
        if section.teacher is not None and not making.has_taught:
            raise SpecError(
                "curriculum.teacher: there is nothing to teach, no category has ranges of parameters; give one some, or"
                " remove `teacher`"
            )

    def draw(self, slots: Sequence[Slot], beside: Sequence[Task] = ()) -> list[Task]:
        """Draw a task for every slot; none twice in a batch while its category has others.

        `beside`: what the batch has already.
        """
        drawn: dict[int, Task] = {}
        seen = {self._sources[task.environment, task.category].environment.distinct(task) for task in beside}
        for source, places in self._in_turn(slots):
            tasks = source.draw(len(places), avoid=seen)
            seen.update(source.environment.distinct(task) for task in tasks)
            drawn.update(zip(places, tasks, strict=True))
        return [drawn[place] for place in range(len(slots))]

    def learn(
        self,
        slots: Sequence[Slot],
        groups: Sequence[Group],
        signals: Sequence[float | None],
        scores: Sequence[float | None],
    ) -> None:
        """Tell every source how its tasks went; a group without a scored sample, whose score is None, tells nothing."""
        results: dict[tuple[str, str], list[TaskOutcome]] = {}
        for slot, group, signal, score in zip(slots, groups, signals, scores, strict=True):
            if score is not None:
                told = results.setdefault((slot.environment, slot.category), [])
                told.append(TaskOutcome(group.task, score, len(group.scored), signal))
        for key, own in results.items():
            self._sources[key].learn(own)

    def take_passed_over(self) -> Mapping[str, PassedOver]:
        """Give the tasks that were met and not drawn since it was last asked, by environment."""
        return self._admission.take_passed_over()

    def state(self) -> dict[str, Any]:
        """Where every source stands, as JSON; the state of a cursor is two integers and nothing else."""
        return {
            f"{name}/{category}": {**source.state(), **self._mark(name, category)}
            for (name, category), source in self._sources.items()
        }

    def load_state(self, state: Mapping[str, Any]) -> list[str]:
        """Continue from a state; names what begins anew, because a fork changed the selection or the teacher.

        An environment that joined since begins at its first task.

        Raises:
            UserError: a category that was drawn from is gone: the data of its environment has changed.
        """
        environments = {name for name, _ in self._sources}
        for key in state:
            name, _, category = key.partition("/")
            if name in environments and (name, category) not in self._sources:
                raise UserError(
                    f"environment {name} has no category {category!r} to train on any more, and the run has; put its"
                    " data back as it was, or begin a new run"
                )
        anew = False
        for (name, category), source in self._sources.items():
            saved = state.get(f"{name}/{category}")
            if saved is None:
                continue
            if saved.get("type", CURSOR) == self._types[name, category]:
                source.load_state(saved)
            else:
                anew = True
        return ["the choice of tasks"] if anew else []

    def close(self) -> None:
        """End what runs beside the steps."""
        for source in self._sources.values():
            source.close()

    def _in_turn(self, slots: Sequence[Slot]) -> Iterable[tuple[TaskSource, list[int]]]:
        """Give the sources in the order of their first slots, each with the places it is to fill at once."""
        turns: dict[tuple[Any, ...], tuple[TaskSource, list[int]]] = {}
        for place, slot in enumerate(slots):
            key = (slot.environment, slot.category)
            source = self._sources[key]
            turn = key if source.at_once else (*key, place)
            turns.setdefault(turn, (source, []))[1].append(place)
        return turns.values()

    def _mark(self, name: str, category: str) -> dict[str, str]:
        type_ = self._types[name, category]
        return {} if type_ == CURSOR else {"type": type_}


class _BatchDraw:
    """Makes the sources that a spec asks for."""

    def __init__(
        self,
        section: CurriculumSection,
        seed: int,
        tell: Callable[[str], None] | None,
        admission: Admission,
    ) -> None:
        self._selection, self._seed, self._tell = section.selection, seed, tell
        self._admission = admission
        self._teacher: BaseModel = RandomConfig() if section.teacher is None else section.teacher
        self.has_taught = False

    def source(self, environment: Environment, category: str) -> tuple[str, TaskSource]:
        """Make the source of a category, with the type of its method."""
        box = environment.box(category)
        if box is not None:
            self.has_taught = True
            return f"teacher {registry.type_of(self._teacher)}", self._taught(environment, category, box)
        type_ = registry.type_of(self._selection)
        if type_ == CURSOR:
            seed = self._stream_seed(environment, category)
            return type_, StreamTaskSource(environment, category, seed, self._admission)
        return type_, self._selected(environment, category)

    def _taught(self, environment: Environment, category: str, box: Box) -> TaskSource:
        rng = random_streams.generator(self._seed, "teachers", environment.name, category)
        teacher = registry.create("teachers", self._teacher, num_dims=box.num_dims, rng=rng)
        seed = self._stream_seed(environment, category)
        return TeacherTaskSource(environment, category, teacher, seed, self._admission)

    def _selected(self, environment: Environment, category: str) -> TaskSource:
        config = self._selection
        most = getattr(config, "tasks", MOST_TASKS)
        seed = self._stream_seed(environment, category)
        roster = training_roster(environment, category, seed, most, self._tell, self._admission)
        numbers: Numbers = {
            option: self._numbers(environment, category, option, field)[roster]
            for option, field in getattr(config, "fields", {}).items()
        }
        rng = random_streams.generator(self._seed, "selections", environment.name, category)
        try:
            selection = registry.create(
                "selections", config, num_tasks=len(roster), rng=rng, numbers=numbers or None
            )
        except ValueError as error:
            raise SpecError(f"curriculum.selection: {environment.name}/{category}: {error}") from error
        return SelectionTaskSource(environment, category, roster, selection)

    def _numbers(self, environment: Environment, category: str, option: str, field: str) -> Any:
        try:
            numbers = environment.numbers(category, field)
        except EnvironmentFault as fault:
            raise SpecError(f"curriculum.selection.{option}: {fault}") from fault
        if numbers is None:
            raise SpecError(
                f"curriculum.selection.{option}: {environment.name} has no numbers of its tasks, only environments of"
                " rows have; choose another `selection`"
            )
        return numbers

    def _stream_seed(self, environment: Environment, category: str) -> int:
        return random_streams.integer(self._seed, "tasks", environment.name, category)
