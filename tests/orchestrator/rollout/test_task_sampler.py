from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from environments import (
    Admission,
    Box,
    Environment,
    EnvironmentFault,
    NoTasks,
    RemoteEnvironment,
    RemoteEpisode,
    Task,
    TaskStream,
    pool_of,
)
from orchestrator import random_streams
from orchestrator.bandits.contracts import Pick
from orchestrator.errors import SpecError, UserError
from orchestrator.played_group import Slot
from orchestrator.rollout.task_sampler import RETOLD, TaskSampler
from orchestrator.spec.sections import CurriculumSection
from store.long_values import listed
from tests.environments.fakes import Fake, create
from tests.environments.rows.making import made, sums
from tests.orchestrator.rollout.episodes import of_task


class Boxed(Fake):
    def box(self, category: str) -> Box | None:
        return Box(("a",), (0.0,), (1.0,), (False,)) if category == "easy" else None


def drawing(seed: int = 0, **section: Any) -> TaskSampler:
    environments = {
        "endless": create("endless"),
        "small": create("small", categories=["one", "kept"], held_out=["kept"], size=12),
    }
    return TaskSampler(environments, CurriculumSection.model_validate(section), seed)


def slots(*places: str) -> list[Slot]:
    split = [place.split("/") for place in places]
    return [
        Slot(i, environment, category, "main", "category", environment, Pick(str(i), category, 1.0, 0))
        for i, (environment, category) in enumerate(split)
    ]


BATCH = slots("endless/easy", "small/one", "endless/easy", "endless/hard", "small/one", "small/one")


def keys(drawn: TaskSampler, batch: Sequence[Slot] = BATCH) -> list[str]:
    return [task.key for task in drawn.draw(batch)]


def test_every_slot_gets_a_training_task_of_its_category_and_none_twice() -> None:
    tasks = drawing().draw(BATCH)
    assert [(task.environment, task.category) for task in tasks] == [(s.environment, s.category) for s in BATCH]
    assert len({task.key for task in tasks}) == len(BATCH)
    assert {pool_of(task.key) for task in tasks} == {"train"}


def test_cursors_survive_json_at_any_step() -> None:
    one = drawing()
    for _ in range(8):
        other = drawing()
        other.load_state(json.loads(json.dumps(one.state())))
        assert keys(other) == keys(one)
    assert one.state()["small/one"]["epoch"] > 0, "the small category began again on the way"


def test_many_cursors_are_arrays_and_go_on_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    one = drawing()
    keys(one)
    few = json.loads(json.dumps(one.state()))
    monkeypatch.setattr("orchestrator.rollout.task_sampler.MANY_ARMS", len(few) - 1)
    state = one.state()
    assert {part: type(values) for part, values in state["cursors"].items()} == {
        "of": list,
        "position": np.ndarray,
        "epoch": np.ndarray,
    }
    many = json.loads(json.dumps(state, default=listed))
    assert list(many) == ["cursors"]
    assert dict(zip(many["cursors"]["of"], many["cursors"]["position"], strict=True)) == {
        arm: where["position"] for arm, where in few.items()
    }
    drawn = keys(one)
    for saved in (few, many, state):
        other = drawing()
        assert other.load_state(saved) == []
        assert keys(other) == drawn
    many["cursors"]["of"][0] = "small/gone"
    with pytest.raises(UserError, match="environment small has no category 'gone' to train on any more"):
        drawing().load_state(many)
    assert drawing(selection="plr").load_state(json.loads(json.dumps(state, default=listed))) == ["the choice of tasks"]


def test_categories_that_a_state_does_not_know_are_named() -> None:
    few = drawing()
    state = few.state()
    few.load_state(state)
    assert few.joined == {}
    del state["endless/hard"]
    del state["small/one"]  # an environment that is new joins as a whole
    few.load_state(state)
    assert few.joined == {"endless": ["hard"]}
    few.load_state({"cursors": {"of": ["small/one", "endless/easy"], "position": [1, 1], "epoch": [0, 0]}})
    assert few.joined == {"endless": ["hard"]}


def test_other_seeds_draw_other_tasks() -> None:
    assert keys(drawing(0)) == keys(drawing(0))
    assert keys(drawing(0)) != keys(drawing(1))


def test_a_category_that_is_only_held_out_is_never_drawn_from() -> None:
    assert "small/kept" not in drawing().state()
    with pytest.raises(KeyError):
        drawing().draw(slots("small/kept"))


def test_the_cursor_draws_slot_by_slot_what_the_streams_give() -> None:
    environments = {"a": create("a"), "b": create("b", size=40)}
    places = slots("a/easy", "b/hard", "a/easy", "b/easy", "a/hard", "b/hard")
    drawn = TaskSampler(environments, CurriculumSection(), 5)
    cursors = {
        (s.environment, s.category): TaskStream(
            environments[s.environment],
            s.category,
            random_streams.integer(5, "tasks", s.environment, s.category),
        )
        for s in places
    }
    for _ in range(20):
        seen: set[str] = set()
        wanted = []
        for slot in places:
            wanted += cursors[slot.environment, slot.category].draw(1, avoid=seen)
            seen.add(wanted[-1].key)
        assert drawn.draw(places) == wanted
    assert set(drawn.state()["a/easy"]) == {"position", "epoch"}, "as in every earlier checkpoint"


ADAPTIVE = ["pools", "mopps", "bots", "learnability", "vcrl", "plr", "boltzmann"]


def teach(drawn: TaskSampler, tasks: Sequence[Task]) -> None:
    """Tell how it went: by the last digit of the number that a task asks for; one group could not be scored."""
    scores: list[float | None] = [int(task.answer or 0) % 5 / 4 for task in tasks]
    scores[0] = None
    drawn.learn([of_task(task, s, None if s is None else s * (1 - s)) for task, s in zip(tasks, scores, strict=True)])


@pytest.mark.parametrize("selection", ADAPTIVE)
def test_every_selection_draws_training_tasks_and_none_twice(selection: str) -> None:
    drawn = drawing(selection={"type": selection, "tasks": 200})
    for _ in range(10):
        tasks = drawn.draw(BATCH)
        assert [(t.environment, t.category) for t in tasks] == [(s.environment, s.category) for s in BATCH]
        assert len({task.key for task in tasks}) == len(BATCH)
        assert {pool_of(task.key) for task in tasks} == {"train"}
        teach(drawn, tasks)


@pytest.mark.parametrize("selection", ADAPTIVE)
def test_a_selection_survives_json_between_draw_and_learn(selection: str) -> None:
    one = drawing(selection={"type": selection, "tasks": 200})
    for _ in range(6):
        tasks = one.draw(BATCH)
        other = drawing(selection={"type": selection, "tasks": 200})
        assert other.load_state(json.loads(json.dumps(one.state()))) == []
        for drawn in (one, other):
            teach(drawn, tasks)
        assert one.state() == other.state()
        assert keys(other) == keys(one)


def test_learning_changes_what_is_drawn() -> None:
    taught, untaught = drawing(selection="mopps"), drawing(selection="mopps")
    differs = False
    for _ in range(6):
        tasks = taught.draw(BATCH)
        differs |= tasks != untaught.draw(BATCH)
        teach(taught, tasks)
    assert differs


def test_rounds_of_a_batch_are_one_step_of_a_selection() -> None:
    one = drawing(selection={"type": "mopps", "tasks": 200})
    first = slots(*["endless/easy"] * 6)
    tasks = one.draw(first)
    assert len({task.key for task in [*tasks, *one.draw(first[:3], beside=tasks)]}) == 9
    state = one.state()["endless/easy"]
    assert (state["selection"]["clock"], {step for _, step in state["awaited"]}) == (1, {0})
    one.draw(first)
    assert one.state()["endless/easy"]["selection"]["clock"] == 2


def test_a_fork_to_another_selection_begins_to_choose_anew() -> None:
    old = drawing(selection="pools")
    old.draw(BATCH)
    for section in ({"selection": "mopps"}, {}):
        assert drawing(**section).load_state(old.state()) == ["the choice of tasks"]
    assert drawing(selection="pools").load_state(drawing().state()) == ["the choice of tasks"]
    assert drawing(selection="pools").load_state({}) == [], "an environment that joined begins at its first task"


@pytest.mark.parametrize(
    ("selection", "changed", "is_anew"),
    [
        ("boltzmann", {"signal": "standardised"}, True),
        ("plr", {"signal": "standardised"}, True),
        ("mopps", {"signal": "standardised"}, False),
        ("boltzmann", {"signal_reward": "correct"}, True),
        ("mopps", {"signal_reward": "correct"}, True),
        ("pools", {"signal_scale": "quantile"}, False),
        ("cursor", {"signal": "standardised", "signal_reward": "correct"}, False),
    ],
)
def test_a_selection_that_a_fork_tells_another_number_begins_anew(
    selection: str, changed: dict[str, str], is_anew: bool
) -> None:
    old = drawing(selection=selection)
    old.learn([of_task(task, 0.5, 0.4) for task in old.draw(BATCH)])
    state = json.loads(json.dumps(old.state()))
    fork = drawing(selection=selection, bandit={"type": "sec", **changed})
    fresh = fork.state()
    assert fork.load_state(state) == ([RETOLD] if is_anew else [])
    reached = fresh if is_anew else state
    assert all(fork.state()[arm].get("selection") == reached[arm].get("selection") for arm in fresh)
    before = {arm: {key: one for key, one in own.items() if key != "told"} for arm, own in state.items()}
    assert fork.load_state(before) == [], "as earlier versions saved it"
    assert all(fork.state()[arm].get("selection") == state[arm].get("selection") for arm in fresh)


@pytest.mark.parametrize(
    ("tasks", "limit", "anew"), [(20, None, []), (16, 9, []), (8, None, [RETOLD]), (16, 2, [RETOLD])]
)
def test_a_selection_begins_anew_where_a_fork_has_it_choose_among_other_tasks(
    tasks: int, limit: int | None, anew: list[str]
) -> None:
    class Shorter(Admission):
        def limit(self, environment: str) -> int | None:
            return limit

        def admits(self, task: Task) -> bool:
            return limit is None or task.index % 10 < limit + 1

    def among(size: int, admission: Admission, most: int = 16) -> TaskSampler:
        environments: dict[str, Environment] = {"small": create("small", categories=["one"], size=size)}
        section = {"selection": {"type": "mopps", "tasks": most}}
        return TaskSampler(environments, CurriculumSection.model_validate(section), 0, admission=admission)

    batch = slots("small/one", "small/one")
    old = among(14, Admission())
    teach(old, old.draw(batch))
    state, fork = json.loads(json.dumps(old.state())), among(14, Shorter(), tasks)
    assert fork.load_state(state) == anew
    assert (fork.state()["small/one"]["selection"] == state["small/one"]["selection"]) == (not anew)
    with pytest.raises(EnvironmentFault, match="not those that the run began with"):
        among(30, Admission()).load_state(state)


@pytest.mark.parametrize(("teacher", "is_anew"), [("riac", True), ("random", False)])
def test_a_teacher_that_a_fork_scores_by_another_reward_begins_anew(teacher: str, is_anew: bool) -> None:
    def taught(reward: str) -> TaskSampler:
        environments: dict[str, Environment] = {"boxed": Boxed("boxed", "learnable", ["easy"], [], None, 10**6, True)}
        section = {"teacher": teacher, "bandit": {"type": "sec", "signal_reward": reward}}
        return TaskSampler(environments, CurriculumSection.model_validate(section), 0)

    old, fork = taught("value"), taught("correct")
    teach(old, old.draw(slots("boxed/easy", "boxed/easy")))
    fresh = fork.state()["boxed/easy"]["teacher"]
    assert fork.load_state(old.state()) == ([RETOLD] if is_anew else [])
    assert fork.state()["boxed/easy"]["teacher"] == (fresh if is_anew else old.state()["boxed/easy"]["teacher"])


def test_adarft_by_another_field_begins_anew(tmp_path: Path) -> None:
    data = [{**row, "extra": {"length": i, "share": i / 200}} for i, row in enumerate(sums(200))]
    rows: dict[str, Environment] = {"rows": made(tmp_path, data)}

    def by(field: str) -> TaskSampler:
        section = {"selection": {"type": "adarft", "difficulty": f"extra.{field}"}}
        return TaskSampler(rows, CurriculumSection.model_validate(section), 0)

    old, same, fork = by("length"), by("length"), by("share")
    old.learn([of_task(task, 0.8, 0.2) for task in old.draw(slots("rows/all"))])
    assert old.state()["rows/all"]["selection"]["target"] > 1
    assert same.load_state(old.state()) == []
    assert same.state() == old.state()
    assert fork.load_state(old.state()) == [RETOLD]
    assert fork.state()["rows/all"]["selection"]["target"] < 0.1


def test_adarft_needs_numbers_that_the_environment_has(tmp_path: Path) -> None:
    section = {"selection": {"type": "adarft", "difficulty": "meta.levels"}}
    with pytest.raises(SpecError, match=r"curriculum\.selection\.difficulty: endless has no numbers"):
        drawing(**section)
    rows: dict[str, Environment] = {"rows": made(tmp_path, sums(60))}
    with pytest.raises(SpecError, match=r"no row has a number at 'meta\.levels'; did you mean 'meta\.level'"):
        TaskSampler(rows, CurriculumSection.model_validate(section), 0)


def test_adarft_begins_with_the_easiest_rows_and_rises(tmp_path: Path) -> None:
    data = [{**row, "extra": {"length": i}} for i, row in enumerate(sums(200))]
    rows: dict[str, Environment] = {"rows": made(tmp_path, data)}
    section = {"selection": {"type": "adarft", "difficulty": "extra.length", "step": 0.1}}
    drawn = TaskSampler(rows, CurriculumSection.model_validate(section), 0)
    batch, means = slots(*["rows/all"] * 5), []
    for _ in range(20):
        tasks = drawn.draw(batch)
        means.append(sum(task.index for task in tasks) / 5)
        drawn.learn([of_task(task, 0.8, 0.2) for task in tasks])
    assert means[0] < 10
    assert means[-1] > 150


def test_a_teacher_without_anything_to_teach_is_refused() -> None:
    with pytest.raises(SpecError, match="nothing to teach"):
        drawing(teacher="random")


def test_a_category_with_ranges_goes_by_the_teacher_whatever_the_selection() -> None:
    environments: dict[str, Environment] = {
        "boxed": Boxed("boxed", "learnable", ["easy", "hard"], [], None, 10**6, True)
    }
    section = CurriculumSection.model_validate({"selection": "pools"})
    drawn = TaskSampler(environments, section, 0)
    batch = slots("boxed/easy", "boxed/hard", "boxed/easy")
    tasks = drawn.draw(batch)
    teach(drawn, tasks)
    assert {key: saved["type"] for key, saved in drawn.state().items()} == {
        "boxed/easy": "teacher random",
        "boxed/hard": "pools",
    }
    drawn.close()


class Served(RemoteEnvironment, Fake):
    """A server's tasks, as long as it is there."""

    is_there = True

    def task(self, category: str, index: int) -> Task:
        if not self.is_there:
            raise NoTasks("away", self.name, None, "away")
        return super().task(category, index)

    async def begin(self, task: Task) -> RemoteEpisode:
        raise NotImplementedError


@pytest.mark.parametrize("selection", ["cursor", *ADAPTIVE])
@pytest.mark.parametrize("seed", range(4))
def test_where_servers_give_no_tasks_every_source_stands_where_it_stood(selection: str, seed: int) -> None:
    local = create("local", size=200)
    served = {name: Served(name, "learnable", ("easy",), (), 200, 10**6, False) for name in ("far", "farther")}
    section = CurriculumSection.model_validate({"selection": selection})
    drawn = TaskSampler({"local": local, **served}, section, seed)
    batch = slots(*np.random.default_rng(seed).permutation(["local/easy", "far/easy", "farther/easy"] * 2).tolist())
    teach(drawn, drawn.draw(batch))
    before = json.loads(json.dumps(drawn.state()))
    served["farther"].is_there = False
    with pytest.raises(NoTasks):
        drawn.draw(batch, has_others=True)
    assert json.loads(json.dumps(drawn.state())) == before
