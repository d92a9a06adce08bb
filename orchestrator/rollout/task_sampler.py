"""Drawing tasks: every training category has a source of tasks, and where each stands is state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
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
from orchestrator.bandits.contracts import MANY_ARMS, signals_of
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

CURSOR, TEACHER = "cursor", "teacher "  # types in the state; of a teacher with its own type behind
# as what begins anew
OTHER = "the choice of tasks"
RETOLD = "the choice of tasks, which goes by another `signal`, `signal_reward` or field of the data, or is among others"
AMONG = frozenset({"tasks", "max_prompt_tokens"})  # of what a selection is told: among which tasks it chooses
CURSORS = "cursors"  # where the state has many of them as arrays


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
        self._told: dict[str, Mapping[str, Any]] = {}  # what it is told of tasks: what it learned is in that unit
        self._trained: set[str] = set()  # environments with sources
        self.joined: Mapping[str, Sequence[str]] = {}  # new categories, by environment: not in the state
        for name, environment in environments.items():
            for category in (one.name for one in environment.categories if one.trainable):
                arm = f"{name}/{category}"
                self._trained.add(name)
                self._types[arm], self._told[arm], self._sources[arm] = _make_source(
                    environment, category, section, seed, tell, admission
                )
        self._cursors = {arm: k for k, arm in enumerate(a for a, type_ in self._types.items() if type_ == CURSOR)}
        self._stand = np.zeros((2, len(self._cursors)), np.int64)  # position and epoch of each cursor, as last read,
        self._moved: set[str] = set()  # but of these arms
        is_taught = any(type_.startswith(TEACHER) for type_ in self._types.values())
        if section.teacher is not None and not is_taught:
            raise SpecError(
                "curriculum.teacher: there is nothing to teach, no category has ranges of parameters; give one some, or"
                " remove `teacher`"
            )

    def draw(self, slots: Sequence[Slot], beside: Sequence[Task] = (), *, has_others: bool = False) -> list[Task]:
        """Draw a task for every slot; none twice in a batch while its category has others.

        `beside`: what the batch has already; `has_others`: without one of these environments there is something to
        draw. Raises NoTasks where servers give none; every source stands where it stood then.
        """
        arms = {f"{slot.environment}/{slot.category}" for slot in slots} if self._remote else set[str]()
        remote = [source for source in map(self._sources.__getitem__, arms) if _is_remote(source)]
        before = [source.state() for source in remote]
        for environment in self._remote:
            environment.is_needed = not has_others
        try:
            return self._draw(slots, beside)
        except NoTasks:
            for source, state in zip(remote, before, strict=True):
                source.load_state(state)
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
        # servers first: where they give no tasks, no other source has moved
        for (arm, _), places in sorted(turns.items(), key=lambda turn: not _is_remote(self._sources[turn[0][0]])):
            source = self._sources[arm]
            self._moved.add(arm)
            if not beside:
                source.begin_batch()
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

        Those of many cursors are a list and two arrays, under a key that no category has.
        """
        if len(self._cursors) <= MANY_ARMS:
            return {arm: self._state_of(arm) for arm in self._sources}
        position, epoch = self._cursors_stand()
        others = {arm: self._state_of(arm) for arm, type_ in self._types.items() if type_ != CURSOR}
        return {CURSORS: {"of": [*self._cursors], "position": position, "epoch": epoch}, **others}

    def load_state(self, state: Mapping[str, Any]) -> list[str]:
        """Continue from a state; names what begins anew, because a fork changed the selection or the teacher.

        An environment that joined since begins at its first task. Raises UserError where a category that was drawn
        from is gone: the data of its environment has changed.
        """
        self.joined = _joined(self._sources, {*state, *state.get(CURSORS, {}).get("of", ())})
        anew: dict[str, None] = {}
        cursors: Iterable[tuple[str, dict[str, int]]] = self._moved_since(state[CURSORS]) if CURSORS in state else ()
        for arm, saved in chain(cursors, ((arm, saved) for arm, saved in state.items() if arm != CURSORS)):
            if arm not in self._sources:
                name, _, category = arm.partition("/")
                if name in self._trained:
                    raise UserError(
                        f"environment {name} has no category {category!r} to train on any more, and the run has; put"
                        " its data back as it was, or begin a new run"
                    )
            elif saved.get("type", CURSOR) != self._types[arm]:
                anew[OTHER] = None
            elif not self._is_told_as(arm, saved):
                anew[RETOLD] = None
            else:
                self._sources[arm].load_state(saved)
                self._moved.add(arm)
        return list(anew)

    def _is_told_as(self, arm: str, saved: Mapping[str, Any]) -> bool:
        """Whether a source was told the same of its tasks, as far as it matters; earlier versions did not say."""
        source, before = self._sources[arm], saved.get("told", {})
        has_same_tasks = isinstance(source, SelectionTaskSource) and source.chose_among_these(saved)
        told = {key: value for key, value in self._told[arm].items() if not (has_same_tasks and key in AMONG)}
        return all(before.get(key, value) == value for key, value in told.items())

    def _cursors_stand(self) -> NDArray[np.int64]:
        """Position and epoch of every cursor, [2, cursors]: a million objects take a second, so the moved are read."""
        for arm in self._moved & self._cursors.keys():
            one = self._sources[arm]
            assert isinstance(one, StreamTaskSource)
            self._stand[:, self._cursors[arm]] = one.position, one.epoch
        self._moved.clear()
        return self._stand.copy()

    def _moved_since(self, saved: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, int]]]:
        """Give the state of each cursor that stands elsewhere than it did, or that is not here any more."""
        then, of = np.array([saved["position"], saved["epoch"]], np.int64), saved["of"]
        is_same = of == [*self._cursors]
        moved = np.flatnonzero((then != self._cursors_stand()).any(axis=0)) if is_same else np.arange(len(of))
        for k in moved.tolist():
            yield of[k], {"position": int(then[0, k]), "epoch": int(then[1, k])}

    def _state_of(self, arm: str) -> dict[str, Any]:
        type_ = self._types[arm]
        return self._sources[arm].state() | ({} if type_ == CURSOR else {"type": type_, "told": dict(self._told[arm])})

    def close(self) -> None:
        """End what runs beside the steps."""
        for source in self._sources.values():
            source.close()


def _joined(arms: Iterable[str], before: Set[str]) -> dict[str, list[str]]:
    """Name the categories that are new in environments that were there before, by environment."""
    known, found = {arm.partition("/")[0] for arm in before}, dict[str, list[str]]()
    for name, _, category in (arm.partition("/") for arm in arms if arm not in before):
        if name in known:
            found.setdefault(name, []).append(category)
    return found


def _is_remote(source: TaskSource) -> bool:
    return isinstance(source.environment, RemoteEnvironment)


def _make_source(
    environment: Environment,
    category: str,
    section: CurriculumSection,
    seed: int,
    tell: Callable[[str], None] | None,
    admission: Admission,
) -> tuple[str, Mapping[str, Any], TaskSource]:
    """Make the source of a category: a teacher's where there is a box. Before it its type, and what it is told."""
    name, box, given = environment.name, environment.box(category), signals_of(section.bandit)
    own_seed = random_streams.integer(seed, "tasks", name, category)
    if box is not None:
        config = RandomConfig() if section.teacher is None else section.teacher
        rng = random_streams.generator(seed, "teachers", name, category)
        teacher = registry.create("teachers", config, num_dims=box.num_dims, rng=rng)
        source = TeacherTaskSource(environment, category, teacher, own_seed, admission)
        learns = not isinstance(config, RandomConfig)
        return TEACHER + registry.type_of(config), {"signal_reward": given.signal_reward} if learns else {}, source
    type_ = registry.type_of(section.selection)
    if type_ == CURSOR:
        return type_, {}, StreamTaskSource(environment, category, own_seed, admission)
    wants = section.selection if isinstance(section.selection, SelectionConfig) else SelectionConfig()
    roster = training_roster(environment, category, own_seed, wants.tasks, tell, admission)
    rng = random_streams.generator(seed, "selections", name, category)
    told = {
        "signal_reward": given.signal_reward,
        **({"signal": given.signal} if wants.reads_signal else {}),
        "fields": dict(wants.fields),
        "tasks": wants.tasks,
        "max_prompt_tokens": admission.limit(name),
    }
    return type_, told, _selected(environment, category, section.selection, wants.fields, roster, rng)


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
