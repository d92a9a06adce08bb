"""Drawing tasks: every training category has a source of tasks, and where each stands is state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from environments import (
    ALL,
    Admission,
    Environment,
    EnvironmentFault,
    NoTasks,
    PassedOver,
    RemoteEnvironment,
    Task,
    training_roster,
)
from orchestrator import random_streams, registry
from orchestrator.errors import SpecError, UserError
from orchestrator.played_group import PlayedGroup, Slot
from orchestrator.rollout.task_sources import (
    SelectionTaskSource,
    StreamTaskSource,
    TaskSource,
    TeacherTaskSource,
)
from orchestrator.selections.contracts import SelectionConfig
from orchestrator.spec.sections import CurriculumSection
from orchestrator.teachers.random import Config as RandomConfig
from store.long_values import LEAST

CURSOR, TEACHER = "cursor", "teacher "  # types in the state; of a teacher with its own type behind
CURSORS = "cursors"  # where the state has many of them as lists


class TaskSampler:
    """The sources of tasks of all trainable categories. Where each stands is its state.

    `tell` is called with how far it is where finding the tasks to choose among takes long; `admission` says which tasks
    may be drawn. Raises SpecError where the selection or the teacher cannot do its work with these environments.
    """

    def __init__(
        self,
        environments: Mapping[str, Environment],
        section: CurriculumSection,
        seed: int,
        tell: Callable[[str], None] | None = None,
        admission: Admission = ALL,
    ) -> None:
        self._admission = admission
        self._remote = [one for one in environments.values() if isinstance(one, RemoteEnvironment)]
        self._sources: dict[str, TaskSource] = {}  # by environment/category
        self._types: dict[str, str] = {}  # of the method that each source goes by
        for name, environment in environments.items():
            for category in (one.name for one in environment.categories if one.trainable):
                arm = f"{name}/{category}"
                self._types[arm], self._sources[arm] = _make_source(
                    environment, category, section, seed, tell, admission
                )
        is_taught = any(type_.startswith(TEACHER) for type_ in self._types.values())
        if section.teacher is not None and not is_taught:
            raise SpecError(
                "curriculum.teacher: there is nothing to teach, no category has ranges of parameters; give one some, or"
                " remove `teacher`"
            )

    def draw(self, slots: Sequence[Slot], beside: Sequence[Task] = (), *, has_others: bool = False) -> list[Task]:
        """Draw a task for every slot; none twice in a batch while its category has others.

        `beside`: what the batch has already; `has_others`: without one of these environments there is something to
        draw. Raises NoTasks where servers give none; a stream that was drawn from by then stands where it stood.
        """
        arms = {f"{slot.environment}/{slot.category}" for slot in slots} if self._remote else set[str]()
        streams = [one for one in map(self._sources.__getitem__, arms) if isinstance(one, StreamTaskSource)]
        before = [stream.state() for stream in streams]
        for environment in self._remote:
            environment.is_needed = not has_others
        try:
            return self._draw(slots, beside)
        except NoTasks:
            for stream, state in zip(streams, before, strict=True):
                stream.load_state(state)
            raise
        finally:
            for environment in self._remote:
                environment.is_needed = True

    def _draw(self, slots: Sequence[Slot], beside: Sequence[Task]) -> list[Task]:
        drawn: dict[int, Task] = {}
        seen = {self._sources[f"{task.environment}/{task.category}"].environment.distinct(task) for task in beside}
        # sources by their first slots: the places each fills at once
        turns: dict[tuple[str, int | None], list[int]] = {}
        for place, slot in enumerate(slots):
            arm = f"{slot.environment}/{slot.category}"
            turns.setdefault((arm, None if self._sources[arm].at_once else place), []).append(place)
        for (arm, _), places in turns.items():
            source = self._sources[arm]
            tasks = source.draw(len(places), avoid=seen)
            seen.update(source.environment.distinct(task) for task in tasks)
            drawn.update(zip(places, tasks, strict=True))
        return [drawn[place] for place in range(len(slots))]

    def learn(self, groups: Sequence[PlayedGroup]) -> None:
        """Tell every source how its tasks went; a group without a scored sample, which has no score, tells nothing."""
        by_arm: dict[str, list[PlayedGroup]] = {}
        for group in groups:
            if group.score is not None:
                by_arm.setdefault(f"{group.slot.environment}/{group.slot.category}", []).append(group)
        for arm, own in by_arm.items():
            self._sources[arm].learn(own)

    def take_passed_over(self) -> Mapping[str, PassedOver]:
        """Give the tasks that were met and not drawn since it was last asked, by environment."""
        return self._admission.take_passed_over()

    def state(self) -> dict[str, Any]:
        """Where every source stands, as JSON; the state of a cursor is two integers and nothing else.

        Those of many cursors are three lists, under a key that no category has.
        """
        arms = [arm for arm, type_ in self._types.items() if type_ == CURSOR]
        if len(arms) <= LEAST:
            return {arm: self._state_of(arm) for arm in self._sources}
        position, epoch = list[int](), list[int]()
        for one in map(self._sources.__getitem__, arms):  # once through a million objects: each is a miss of the cache
            assert isinstance(one, StreamTaskSource)
            position.append(one.position)
            epoch.append(one.epoch)
        others = {arm: self._state_of(arm) for arm, type_ in self._types.items() if type_ != CURSOR}
        return {CURSORS: {"of": arms, "position": position, "epoch": epoch}, **others}

    def load_state(self, state: Mapping[str, Any]) -> list[str]:
        """Continue from a state; names what begins anew, because a fork changed the selection or the teacher.

        An environment that joined since begins at its first task. Raises UserError where a category that was drawn
        from is gone: the data of its environment has changed.
        """
        environments, anew = {arm.partition("/")[0] for arm in self._sources}, False
        many = zip(*(state.get(CURSORS, {}).get(part, ()) for part in ("of", "position", "epoch")), strict=True)
        cursors = ((arm, {"position": position, "epoch": epoch}) for arm, position, epoch in many)
        for arm, saved in chain(cursors, ((arm, saved) for arm, saved in state.items() if arm != CURSORS)):
            if arm not in self._sources:
                name, _, category = arm.partition("/")
                if name in environments:
                    raise UserError(
                        f"environment {name} has no category {category!r} to train on any more, and the run has; put"
                        " its data back as it was, or begin a new run"
                    )
            elif saved.get("type", CURSOR) == self._types[arm]:
                self._sources[arm].load_state(saved)
            else:
                anew = True
        return ["the choice of tasks"] if anew else []

    def _state_of(self, arm: str) -> dict[str, Any]:
        type_ = self._types[arm]
        return self._sources[arm].state() | ({} if type_ == CURSOR else {"type": type_})

    def close(self) -> None:
        """End what runs beside the steps."""
        for source in self._sources.values():
            source.close()


def _make_source(
    environment: Environment,
    category: str,
    section: CurriculumSection,
    seed: int,
    tell: Callable[[str], None] | None,
    admission: Admission,
) -> tuple[str, TaskSource]:
    """Make the source of a category, with the type of its method: a teacher's where there is a box."""
    name, box = environment.name, environment.box(category)
    own_seed = random_streams.integer(seed, "tasks", name, category)
    if box is not None:
        config = RandomConfig() if section.teacher is None else section.teacher
        rng = random_streams.generator(seed, "teachers", name, category)
        teacher = registry.create("teachers", config, num_dims=box.num_dims, rng=rng)
        source = TeacherTaskSource(environment, category, teacher, own_seed, admission)
        return TEACHER + registry.type_of(config), source
    type_ = registry.type_of(section.selection)
    if type_ == CURSOR:
        return type_, StreamTaskSource(environment, category, own_seed, admission)
    wants = section.selection if isinstance(section.selection, SelectionConfig) else SelectionConfig()
    roster = training_roster(environment, category, own_seed, wants.tasks, tell, admission)
    rng = random_streams.generator(seed, "selections", name, category)
    return type_, _selected(environment, category, section.selection, wants.fields, roster, rng)


def _selected(
    environment: Environment,
    category: str,
    config: BaseModel,
    fields: Mapping[str, str],
    roster: NDArray[np.int64],
    rng: np.random.Generator,
) -> TaskSource:
    numbers: dict[str, Any] = {}
    for option, field in fields.items():
        try:
            found = environment.numbers(category, field)
        except EnvironmentFault as fault:
            raise SpecError(f"curriculum.selection.{option}: {fault}") from fault
        if found is None:
            raise SpecError(
                f"curriculum.selection.{option}: {environment.name} has no numbers of its tasks, only environments"
                " of rows have; choose another `selection`"
            )
        numbers[option] = found[roster]
    try:
        selection = registry.create("selections", config, num_tasks=len(roster), rng=rng, numbers=numbers or None)
    except ValueError as error:
        raise SpecError(f"curriculum.selection: {environment.name}/{category}: {error}") from error
    return SelectionTaskSource(environment, category, roster, selection)
