"""An environment that is split has the same tasks, keys, pools and scores; only its categories are others."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments import (
    ALL,
    Admission,
    Category,
    Environment,
    EnvironmentFault,
    EnvironmentSource,
    Score,
    Scorer,
    ScoringJob,
    Task,
    belongs,
    first_tasks,
    pool_of,
)
from environments.checker import check
from environments.contracts import question_and_truth
from environments.slices.clusters import group_texts
from environments.slices.environment import SlicedEnvironment, unsliced
from environments.slices.methods import by_number, by_share, found_again, num_unread, read_tasks, split
from environments.slices.options import read_options
from environments.slices.slice_file import SliceRow, Slices, read_kept_slices, read_slices, text_of
from tests.environments.checker.here import findings_here
from tests.environments.remote.server import Server

TOPICS = ("fraction {} over {}", "train leaves {} arrives {}", "apples {} bananas {}")


def rows(folder: Path, num: int = 240) -> dict[str, Any]:
    """Three kinds of question without a category, told apart by their words."""
    lines = [
        {"prompt": TOPICS[k % 3].format(k, k + 1), "answer": str(k), "level": k % 4 if k % 5 else None}
        for k in range(num)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"train": "rows.jsonl", "reward": "exact"}


def sliced(folder: Path, slices: Any, **source: Any) -> Environment:
    made = EnvironmentSource("mine", "rows", {**rows(folder), "slices": slices}, str(folder), **source).create()
    assert isinstance(made, SlicedEnvironment)
    return made


@pytest.mark.parametrize(("most", "unread"), [(60, 40), (100, 0)])
def test_what_a_small_category_leaves_larger_ones_have(tmp_path: Path, most: int, unread: int) -> None:
    kinds = ["rare"] * 10 + ["often"] * 90
    lines = [
        {"prompt": f"What is {k}?" + "!" * (k % 9), "answer": str(k), "kind": kind} for k, kind in enumerate(kinds)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = {"train": "rows.jsonl", "reward": "exact", "category": "kind"}
    inside = EnvironmentSource("mine", "rows", options, str(tmp_path)).create()
    assert Counter(one.task.category for one in read_tasks(inside, most, lambda text: None)) == {
        "rare": 10,
        "often": most - 10,
    }
    assert num_unread(inside, most) == unread
    split = {**options, "slices": {"by": "length", "count": 3, "tasks": most}}
    remarks = EnvironmentSource("mine", "rows", split, str(tmp_path)).create().remarks
    assert (f"; {unread} others were not read" in remarks[-1]) == bool(unread)


def test_what_is_measured_is_told_by_its_truth_in_a_slice_too_and_not_by_its_place() -> None:
    options = {"size": 40, "slices": {"by": "length", "count": 2}}
    environment = EnvironmentSource("fake", "tests.environments.fakes:create", options).create()
    task = environment.task(environment.categories[0].name, 3)
    assert question_and_truth(task) == question_and_truth(unsliced(task))
    assert question_and_truth(task) != question_and_truth(replace(task, answer="a corrected one"))


def everything(environment: Environment) -> dict[str, tuple[str, str | None, str]]:
    """Every task of an environment: answer, pool and place in the file, by content key."""
    found = {}
    for category in environment.categories:
        for index in range(environment.size(category.name) or 0):
            task = environment.task(category.name, index)
            pools = [pool for pool in ("train", "anchor", "select", "final") if belongs(environment, task, pool)]
            assert len(pools) == 1
            found[task.key] = (str(task.answer), pools[0], str(environment.where(task)))
    return found


@pytest.mark.parametrize(
    "slices", [{"by": "clusters", "count": 3}, {"by": "tree"}, {"by": "length"}, {"by": "column", "column": "level"}]
)
def test_tasks_keys_pools_and_scores_are_those_of_the_environment_inside(tmp_path: Path, slices: Any) -> None:
    environment = sliced(tmp_path, slices)
    inside = EnvironmentSource("mine", "rows", rows(tmp_path), str(tmp_path)).create()
    assert everything(environment) == everything(inside)
    assert len(environment.categories) > 2
    for category in environment.categories:
        for pool in ("train", "anchor"):
            known = environment.indices(category.name, pool)
            assert known is not None
            assert [task.index for task in first_tasks(environment, category.name, pool, 5)] == known[:5].tolist()
        task = environment.task(category.name, 0)
        assert (task.category, unsliced(task).category) == (category.name, "all")
        sent = pickle.loads(pickle.dumps(task))
        assert (sent.answer, sent.data, sent.key) == (task.answer, task.data, task.key)
        assert environment.score(task, str(task.answer)).correct
        assert not environment.score(task, "nonsense").correct


class Short(Admission):
    """Admits tasks of a closed environment by what they say."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def admits(self, task: Task) -> bool:
        return any(word in task.messages[-1]["content"] for word in self.words)


def test_what_the_policy_cannot_read_is_no_slice_to_train_on(tmp_path: Path) -> None:
    environment = sliced(tmp_path, {"by": "clusters", "count": 3})
    assert isinstance(environment, SlicedEnvironment)
    environment.closed = True  # no table that was gone through: its tasks are asked for
    before = environment.version
    assert not environment.train_on_admitted(ALL)
    assert not environment.train_on_admitted(Short("nothing")), "what leaves nothing is for the check at the start"
    assert all(one.trainable for one in environment.categories)
    assert environment.train_on_admitted(Short("fraction", "apples"))
    (left,) = [one.name for one in environment.categories if not one.trainable]
    assert "train" in left or "leaves" in left or "arrives" in left
    assert environment.remarks[-1].endswith(f"not trained on: {left}")
    assert environment.version == before


@pytest.mark.slow
def test_the_checker_finds_no_errors(tmp_path: Path) -> None:
    source = EnvironmentSource("mine", "rows", {**rows(tmp_path), "slices": {"by": "tree"}}, str(tmp_path))
    assert [str(finding) for finding in check(source, tasks=4) if finding.severity != "note"] == []


def test_what_is_inside_says_whether_there_are_legal_answers_and_turns_to_come(tmp_path: Path) -> None:
    made = sliced(tmp_path, {"by": "length", "count": 2})
    assert made.has_single_turns
    assert not made.draws_legal_answers
    source = EnvironmentSource(
        "mine", "rows", {**rows(tmp_path), "slices": {"by": "length", "count": 2}}, str(tmp_path)
    )
    assert not [found for found in findings_here(source) if found.severity == "error"]
    lake = EnvironmentSource("lake", "gymnasium", {"id": "FrozenLake-v1", "slices": {"by": "length"}}).create()
    assert lake.draws_legal_answers
    assert not lake.has_single_turns


def test_a_scoring_process_needs_no_assignment(tmp_path: Path) -> None:
    source = EnvironmentSource(
        "game", "examples.guess:create", {"numbers": [3, 5], "slices": {"by": "length", "tasks": 40}}
    )
    made = source.create()
    inside = source.build()
    assert isinstance(inside, SlicedEnvironment)
    tasks = [made.task(category.name, 0) for category in made.categories]
    with Scorer([source], {"game": inside}) as scorer:
        turns = scorer.turns([ScoringJob(task, (str(task.answer),)) for task in tasks])
    assert [turn.score.value for turn in turns if turn.score is not None] == [1.0] * len(tasks)
    assert "slices" not in vars(inside), "nothing was read to score"


def test_episodes_in_servers_are_played_there_under_the_names_of_slices() -> None:
    with Server() as server:
        options = {"urls": [server.url], "slices": {"by": "length", "tasks": 30}}
        source = EnvironmentSource("game", "http", options)
        made = source.create()
        task = made.task(made.categories[0].name, 0)
        said = ("a", "b", str(task.answer))
        with Scorer([source], {"game": made}) as scorer:
            assert not scorer.isolates("game")
            turns = [scorer.turns([ScoringJob(task, said[:n], "one")])[0] for n in (1, 2, 3)]
        assert turns[-1].score is not None
        assert turns[-1].score.value == 1
        assert (server.count("episodes"), server.count("turns")) == (1, 3), "nothing is replayed"


def test_clusters_find_the_kinds_of_question_and_are_named_by_their_words(tmp_path: Path) -> None:
    made = sliced(tmp_path, {"by": "clusters", "count": 3})
    names = [category.name for category in made.categories]
    assert len(names) == 3
    for words in (("fraction", "over"), ("train", "leaves", "arrives"), ("apples", "bananas")):
        (name,) = [name for name in names if set(name.split("-")[2:]) <= set(words)]
        texts = {made.task(name, index).messages[-1]["content"].split()[0] for index in range(made.size(name) or 0)}
        assert texts == {words[0]}


def test_equal_tasks_give_equal_groups_however_often_they_are_made() -> None:
    texts = [TOPICS[k % 3].format(k, k) for k in range(90)]
    for as_tree in (False, True):
        first, again = (group_texts(texts, 6, 2, as_tree=as_tree) for _ in range(2))
        assert (first.names, first.nodes) == (again.names, again.nodes)
        assert first.labels.tolist() == again.labels.tolist()


@pytest.mark.parametrize(
    ("kinds", "names"),
    [
        (("{} 苹果分给孩子", "请计算 {}"), {"slice-00-苹果分给孩子", "slice-01-请计算"}),
        (("сколько будет {}", "раздели {} поровну"), {"slice-00-будет", "slice-01-поровну"}),
        (("combien font {} élèves", "partage {} gâteaux"), {"slice-00-combien", "slice-01-gâteaux"}),
        (("What is {}?", "Share {} apples"), {"slice-00-is", "slice-01-apples"}),
    ],
)
def test_names_keep_the_letters_of_any_script(kinds: tuple[str, str], names: set[str]) -> None:
    found = group_texts([kinds[k % 2].format(k) for k in range(40)], 2, 1, as_tree=False)
    assert set(found.names) == names


def test_a_tree_says_the_way_to_each_of_its_leaves(tmp_path: Path) -> None:
    made = sliced(tmp_path, {"by": "tree", "count": 5})
    ways = [tuple(category.parameters.values()) for category in made.categories]
    assert len(set(ways)) == 5
    assert {category.name.split("-")[1] for category in made.categories} == {".".join(map(str, w)) for w in ways}
    for way in ways:
        assert not [other for other in ways if other != way and other[: len(way)] == way], "a leaf is no node"


def test_what_is_alike_is_not_split() -> None:
    assert group_texts(["same"] * 20, 4, 1, as_tree=True).names == ("slice-0",)
    assert len(group_texts(["same"] * 20, 4, 1, as_tree=False).names) == 1
    assert len(group_texts(["?", "!"], 4, 1, as_tree=True).names) == 2


def test_numbers_are_split_into_groups_of_equal_size() -> None:
    found = by_number(np.array([*range(100), np.nan]), 4, "level")
    assert np.bincount(found.labels).tolist() == [25, 25, 25, 25, 1]
    assert found.names == ("level-1-upto-24", "level-2-upto-49", "level-3-upto-74", "level-4-upto-99", "rest")
    assert by_number(np.array([7.0, 7.0]), 4, "x").names == ("x-1-upto-7", "rest")
    large = by_number(np.array([1_000_001.0, 1_000_002.0, 0.1]), 3, "x").names
    assert large == ("x-1-upto-0.1", "x-2-upto-1000001", "x-3-upto-1000002", "rest"), "up to what it reaches"


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        ([100, 100, 100, 100], 4, [100, 100, 100, 100]),
        ([1, 1, 1, 100], 4, [1, 1, 1, 100]),
        ([100, 1], 4, [100, 1]),
        ([300, *[10] * 10], 4, [300, 30, 40, 30]),
        ([564, 1348, 1592, 1690, 2304], 4, [1912, 1592, 1690, 2304]),
        ([99, 50, 51], 2, [99, 101]),
    ],
)
def test_a_number_that_many_tasks_have_takes_no_group_from_the_others(
    sizes: list[int], count: int, expected: list[int]
) -> None:
    numbers = np.repeat(np.arange(len(sizes), dtype=np.float64), sizes)
    assert np.bincount(by_number(numbers, count, "level").labels).tolist() == expected


NUMBERS = st.lists(st.one_of(st.integers(-5, 5).map(float), st.floats(-1e6, 1e6)), min_size=1, max_size=200)


@given(NUMBERS, st.integers(0, 5), st.integers(2, 40))
def test_groups_of_a_number_are_ordered_and_as_many_as_can_be(known: list[float], num_rest: int, count: int) -> None:
    numbers = np.array([*known, *[np.nan] * num_rest])
    found = by_number(numbers, count, "level")
    num = min(count, len(set(known)))
    assert len(found.names) == num + 1
    assert (found.labels == num).tolist() == np.isnan(numbers).tolist(), "what has no number is the rest"
    own = [numbers[found.labels == k] for k in range(num)]
    assert all(len(one) for one in own)
    assert all(low.max() < high.min() for low, high in pairwise(own)), "equal numbers are together"
    assert sum(map(len, own)) == len(known)


@given(st.integers(1, 60), st.integers(1, 30), st.integers(2, 40), st.randoms())
def test_groups_of_numbers_that_are_equally_frequent_differ_by_one_of_them(
    num: int, times: int, count: int, random: Random
) -> None:
    numbers = [float(k) for k in range(num) for _ in range(times)]
    random.shuffle(numbers)
    sizes = np.bincount(by_number(np.array(numbers), count, "level").labels)
    assert len(sizes) == min(num, count)
    assert max(sizes) - min(sizes) in (0, times)


@pytest.mark.parametrize(
    ("slices", "num", "said"),
    [
        ({"by": "length"}, 20, "20 tasks not split by length: all prompts are as long"),
        ({"by": "column", "column": "level"}, 20, "20 tasks not split by column: all have the same number"),
        ({"by": "tree", "terms": 0}, 20, "20 tasks not split by tree: slice-0 is the only slice"),
        ({"by": "length"}, 1, "1 task not split by length: length-1-upto-6 is the only slice"),
    ],
)
def test_an_environment_of_one_slice_says_why_it_is_not_split(tmp_path: Path, slices: Any, num: int, said: str) -> None:
    lines = [{"prompt": f"say {k:02}", "answer": "1", "level": 3} for k in range(num)]
    (tmp_path / "alike.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = {"train": "alike.jsonl", "reward": "exact", "slices": slices}
    assert EnvironmentSource("mine", "rows", options, str(tmp_path)).create().remarks[-1] == said


def test_pass_rates_are_split_by_equal_steps_the_easiest_first() -> None:
    found = by_share(np.array([0, 0.25, 0.5, 0.9, 1, np.nan]), 4)
    assert found.names == ("pass-75-100", "pass-50-75", "pass-25-50", "pass-00-25", "rest")
    assert found.labels.tolist() == [3, 2, 1, 0, 0, 4]
    assert by_share(np.array([15 / 22]), 22).labels.tolist() == [6], "15 / 22 times 22 is less than 15 in floats"
    for count in (2, 49, 100, 101, 200, 256):
        names = by_share(np.array([0.5]), count).names
        assert len(set(names)) == count + 1, "steps of less than a percent have names of their own"


def test_a_file_of_slices_counts_by_content_key_and_the_rest_has_a_slice_of_its_own(tmp_path: Path) -> None:
    inside = EnvironmentSource("mine", "rows", rows(tmp_path), str(tmp_path)).create()
    some = [inside.task("all", index) for index in range(40)]
    given = [
        SliceRow(task.key, "even" if k % 2 == 0 else "odd", "moved", 999, "train", k % 5, 4)
        for k, task in enumerate(some)
    ]
    path = tmp_path / "slices.jsonl"
    path.write_text(text_of([Slices("mine", "other", "mine", ("even", "odd"), given)]))
    assert text_of(read_slices(path).values()) == path.read_text(), "what is read is what was written"
    made = sliced(tmp_path, "slices.jsonl")
    assert [(one.name, made.size(one.name)) for one in made.categories] == [("even", 20), ("odd", 20), ("rest", 200)]
    by_rate = sliced(tmp_path, {"by": "pass_rate", "file": "slices.jsonl", "count": 2})
    assert [one.name for one in by_rate.categories] == ["pass-50-100", "pass-00-50", "rest"]


def test_a_file_of_slices_may_hold_any_character_and_blank_lines(tmp_path: Path) -> None:
    made = Slices("mine", "1", "mine", ("a\u2028\x85b",), [SliceRow("k", "a\u2028\x85b", "all", 0, None)])
    path = tmp_path / "slices.jsonl"
    lines = [json.dumps(json.loads(line), ensure_ascii=False) for line in made.text().split("\n")[:-1]]
    path.write_text("\n\n".join(lines) + "\r\n\n", "utf-8")
    assert text_of(read_slices(path).values()) == made.text()


def test_what_the_run_kept_counts_although_the_file_is_gone(tmp_path: Path) -> None:
    made = sliced(tmp_path, {"by": "length", "count": 3})
    assert isinstance(made, SlicedEnvironment)
    kept = tmp_path / "kept.jsonl"
    kept.write_text(text_of([made.slices]))
    again = sliced(tmp_path, "gone.jsonl", kept_slices=str(kept))
    assert (again.version, everything(again)) == (made.version, everything(made))
    with pytest.raises(EnvironmentFault, match=r"gone\.jsonl: slices cannot be read"):
        sliced(tmp_path, "gone.jsonl")


def rotated(folder: Path, kept: Slices, text: str, options: Any) -> SlicedEnvironment:
    """Go on with slices that a run kept, in a file of other rows."""
    path = folder / "kept.jsonl"
    path.write_text(text_of([kept]))
    (folder / "rows.jsonl").write_text(text)
    source = {"train": "rows.jsonl", "reward": "exact", "slices": options}
    made = EnvironmentSource("mine", "rows", source, str(folder), kept_slices=str(path)).create()
    assert isinstance(made, SlicedEnvironment)
    return made


@pytest.mark.parametrize(
    ("options", "num"), [({"by": "column", "column": "level", "count": 4}, 221), ({"by": "clusters", "count": 3}, 220)]
)
def test_where_rows_moved_since_a_run_began_its_tasks_are_found_again_by_content_key(
    tmp_path: Path, options: Any, num: int
) -> None:
    """One that is new is in `rest`, if there is one."""
    before = sliced(tmp_path, options)
    places = {row.key: (row.slice, row.pool) for row in before.slices.rows}
    lines = (tmp_path / "rows.jsonl").read_text().splitlines(keepends=True)
    new = '{"prompt": "something else", "answer": "1", "level": 1}\n'
    made = rotated(tmp_path, before.slices, "".join([new, *lines[40:], *lines[:20]]), options)
    found = {row.key: (row.slice, row.pool) for row in made.slices.rows}
    assert len(found) == num
    assert sum(places.get(key) == place for key, place in found.items()) == 220
    for category in made.categories:
        for index in made.indices(category.name, "train"):
            task = made.task(category.name, index)
            assert pool_of(task.key) == "train", "nothing that is held out is trained on"
    assert made.version != before.version


@pytest.mark.parametrize("options", [{"by": "clusters", "count": 3}, {"by": "column", "column": "level"}])
def test_rows_that_moved_beyond_those_that_are_read_are_found_again(tmp_path: Path, options: Any) -> None:
    """New ones are in `rest` only where that leaves no more than `tasks`."""
    options = {**options, "tasks": 100}
    before = sliced(tmp_path, options)
    lines = (tmp_path / "rows.jsonl").read_text().splitlines(keepends=True)
    for moved, num_found in ((lines[::-1], 100), (lines[:9:-1], 90)):
        made = rotated(tmp_path, before.slices, "".join(moved), options)
        places = {row.key: row.slice for row in made.slices.rows}
        kept = [row.key for row in before.slices.rows if places.get(row.key) == row.slice]
        has_rest = "rest" in before.slices.names
        assert (len(kept), len(places)) == (num_found, 100 if has_rest else num_found)


def test_tasks_that_the_data_has_no_more_stay_named_until_it_has_them_again(tmp_path: Path) -> None:
    options = {"by": "column", "column": "level"}
    before = sliced(tmp_path, options)
    whole = (tmp_path / "rows.jsonl").read_text()
    lines = whole.splitlines(keepends=True)
    fewer = rotated(tmp_path, before.slices, "".join(['{"prompt": "new", "answer": "1"}\n', *lines[40:]]), options)
    said = "40 of the 241 tasks that the run's slices name are not in its data any more"
    assert said in " ".join(fewer.remarks)
    assert everything(fewer).keys() == {row.key for row in fewer.slices.rows}
    text = text_of([fewer.slices])
    assert text_of(read_kept_slices(tmp_path / "kept.jsonl").values()) == text_of([before.slices])
    (tmp_path / "kept.jsonl").write_text("".join(text.splitlines(keepends=True)[:-1]))
    with pytest.raises(EnvironmentFault, match="are not those that were written"):
        read_kept_slices(tmp_path / "kept.jsonl")
    again = rotated(tmp_path, fewer.slices, (tmp_path / "rows.jsonl").read_text(), options)
    assert (again.version, list(again.remarks)) == (fewer.version, list(fewer.remarks))
    assert text_of([again.slices]) == text
    back = rotated(tmp_path, again.slices, whole, options)
    assert (back.version, everything(back)) == (before.version, everything(before))
    (tmp_path / "given.jsonl").write_text(text)
    assert sliced(tmp_path, "given.jsonl").slices.digest == before.slices.digest, "a file names them too"


def test_slices_of_data_that_is_gone_and_tasks_that_changed_under_one_version_are_told(tmp_path: Path) -> None:
    options = {"by": "length", "count": 3}
    before = sliced(tmp_path, options)
    with pytest.raises(EnvironmentFault, match="the run's slices name 240 tasks, and its data has none of them any"):
        rotated(tmp_path, before.slices, "".join(f'{{"prompt": "{k}", "answer": "1"}}\n' for k in range(60)), options)
    rows(tmp_path)
    first, second, *others = before.slices.rows
    moved = replace(first, index=second.index)
    kept = replace(before.slices, rows=[moved, *others])
    made = rotated(tmp_path, kept, (tmp_path / "rows.jsonl").read_text(), options)
    with pytest.raises(EnvironmentFault, match=r"is not the one that slice .* was made of, though the version is"):
        made.task(moved.slice, 0)


class Asked(Environment):
    """Categories of questions that never end, of several lengths."""

    name, closed, scores_in_process, seconds = "asked", False, True, 0.0

    def __init__(self, version: str, *names: str) -> None:
        self.version, self.names = version, names

    @property
    def categories(self) -> list[Category]:
        return [Category(name) for name in self.names]

    def size(self, category: str) -> int | None:
        return None

    def task(self, category: str, index: int) -> Task:
        text = f"{category} {index:04}{'?' * (index % 3)}"
        return Task(self.name, category, index, ({"role": "user", "content": text},), str(index))

    def score(self, task: Task, completion: str) -> Score:
        return Score.of(float(completion == task.answer))


@pytest.mark.parametrize(("names", "num"), [(("old", "new", "newer"), 60), (("old",), 20)])
def test_tasks_of_a_category_that_never_ends_are_found_where_they_were(names: tuple[str, ...], num: int) -> None:
    """Also those behind the first that are read since others joined, or since fewer are read."""
    before = split(Asked("1", "old"), read_options({"by": "length", "tasks": 60}), None, lambda text: None)
    options = read_options({"by": "length", "tasks": num})
    again = found_again(Asked("2", *names), before, options, lambda text: None)
    assert (again.digest, again.missing) == (before.digest, [])


@pytest.mark.parametrize("method", ["file", "pass_rate"])
def test_tasks_with_one_conversation_have_slices_of_their_own(tmp_path: Path, method: str) -> None:
    """The environment tells them apart by what it wants; content keys do not."""
    inside = EnvironmentSource("book", "codebook", {"categories": {"4": 4}, "repeats": True}).create()
    tasks = [one.task for one in read_tasks(inside, 100, lambda text: None)]
    assert len({task.key for task in tasks}) < len(tasks)
    names = ("pass-50-100", "pass-00-50")
    given = [SliceRow(one.key, names[k % 2], "4", one.index, None, 1 - k % 2, 1) for k, one in enumerate(tasks)]
    (tmp_path / "slices.jsonl").write_text(Slices("book", "1", "mine", names, given).text())
    options = read_options({"by": method, "file": "slices.jsonl", "count": 2})
    made = split(inside, options, str(tmp_path), lambda text: None)
    assert [(row.index, row.slice) for row in made.rows] == [(row.index, row.slice) for row in given]
    again = found_again(inside, made, options, lambda text: None)
    assert (again.rows, again.missing) == (made.rows, [])


class Ambiguous(Asked):
    """One conversation that asks several things."""

    def __init__(self, *answers: str) -> None:
        super().__init__("2", "all")
        self.answers = answers

    def size(self, category: str) -> int | None:
        return len(self.answers)

    def task(self, category: str, index: int) -> Task:
        return Task(self.name, category, index, ({"role": "user", "content": "?"},), self.answers[index])

    def distinct(self, task: Task) -> str:
        return f"{task.key} {task.answer}"


@pytest.mark.parametrize(("num", "found", "missing"), [(1, ["one"], ["two"]), (3, ["one", "two", "rest"], [])])
def test_of_tasks_with_one_conversation_there_may_be_fewer_or_more(
    num: int, found: list[str], missing: list[str]
) -> None:
    inside = Ambiguous(*"abc"[:num])
    key = inside.task("all", 0).key
    rows = [SliceRow(key, name, "all", index, "train") for index, name in enumerate(("one", "two"))]
    kept = Slices("asked", "1", "mine", ("one", "two", "rest"), rows)
    again = found_again(inside, kept, read_options({"by": "length"}), lambda text: None)
    assert ([row.slice for row in again.rows], [row.slice for row in again.missing]) == (found, missing)


WHOLE = Slices("mine", "1", "x", ("a",), [SliceRow("k", "a", "all", 0, None, 1, 2)]).text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WHOLE.replace('"version": "1", ', ""), ":1: .*there is no 'version'"),
        (WHOLE.replace('"slices": ["a"], ', ""), ":1: .*there is no 'slices'"),
        (WHOLE.replace('"nodes": {}', '"nodes": null'), ":1: .*nodes a map"),
        (WHOLE.replace('"nodes": {}', '"nodes": {"a": ["x"]}'), ":1: .*invalid literal"),
        (WHOLE.replace('"index": 0', '"index": Infinity'), ":2: .*infinity"),
        (WHOLE.replace('"index": 0', '"index": -1'), ":2: .*no index -1"),
        (WHOLE.replace('"correct": 1', '"correct": 5'), ":2: .*no 5 correct of 2 samples"),
        (WHOLE.replace('"correct": 1, ', ""), ":2: .*no None correct of 2 samples"),
        (WHOLE + "[" * 100_000, ":3: .*recursion"),
        ("", "it is empty"),
        ('{"key": "a"}\n', ":1: not as .* must be a header"),
        ('{"format": 9}\n', ":1: .*it is of format 9"),
        (Slices("mine", "1", "x", ("a",), [SliceRow("k", "b", "all", 0, None)]).text(), ":2: .*no slice 'b'"),
        (Slices("other", "1", "x", ("a",), ()).text(), "slices of other, and none of mine"),
        (Slices("mine", "1", "x", ("a",), [SliceRow("k", "a", "all", 0, None)]).text(), "names 1 tasks and none of"),
    ],
)
def test_a_file_that_is_of_no_use_is_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "slices.jsonl").write_text(text)
    with pytest.raises(EnvironmentFault, match=said):
        sliced(tmp_path, "slices.jsonl")


def test_a_number_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="no row has a number at 'answer_'"):
        sliced(tmp_path, {"by": "column", "column": "answer_"})
    source = EnvironmentSource("book", "codebook", {"slices": {"by": "column", "column": "x"}})
    with pytest.raises(EnvironmentFault, match="rows' own `category`"):
        source.create()


def test_what_is_only_evaluated_stays_as_it_is() -> None:
    options = {"categories": {"2": 2, "4": 4}, "slices": {"by": "length", "count": 2}}
    made = EnvironmentSource("book", "codebook", options).create()
    assert made.closed
    assert all(category.trainable for category in made.categories)
    assert made.indices(made.categories[0].name, "train") is None
    task = made.task(made.categories[0].name, 0)
    assert made.legal_answer(task, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"by": "file"}, "needs `file`"),
        ({"by": "length", "file": "x"}, "reads no file"),
        ({"by": "column"}, "needs `column`"),
        ({"by": "tree", "column": "x"}, "is of `by: column`"),
        ({"by": "tree", "count": 1}, "greater than or equal to 2"),
    ],
)
def test_options_that_contradict_each_other_are_refused(raw: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_options(raw)
