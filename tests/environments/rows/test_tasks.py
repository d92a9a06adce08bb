from __future__ import annotations

import pickle
import shutil

import pytest

from environments import EnvironmentFault, EnvironmentSource, Scorer, ScoringJob, Task
from environments.rewards import Reward
from environments.tables.index import build_index
from tests.environments.rows.making import made, make, sums, write_jsonl

FUNCTIONS = """
def tells(attempt):
    return float(attempt.answer == attempt.truth and attempt.row["meta"]["level"] == 1)
"""


def test_a_task_is_the_same_whenever_and_wherever_it_is_made(tmp_path):
    environment = made(tmp_path, sums(20))
    later = [environment.task("all", i) for i in reversed(range(20))][::-1]
    elsewhere = make(tmp_path)
    for index, task in enumerate(later):
        again = elsewhere.task("all", index)
        assert (task.key, task.messages, task.data, task.answer) == (
            again.key,
            again.messages,
            again.data,
            again.answer,
        )
        plain = Task(task.environment, task.category, task.index, task.messages)
        assert task.key == plain.key


def test_a_task_carries_its_truth_and_its_row_only_where_the_reward_reads_it(tmp_path):
    (tmp_path / "judges_of_rows.py").write_text(FUNCTIONS)
    assert made(tmp_path, sums(2)).task("all", 1).data == {"truth": "2"}
    task = made(tmp_path, sums(2), reward="judges_of_rows:tells").task("all", 1)
    assert task.data == {"truth": "2", "row": sums(2)[1]}


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ({}, "2"),
        ({"answer": "tag"}, "<answer>2</answer>"),
        ({"answer": "boxed"}, "\\boxed{2}"),
        ({"answer": "boxed", "reference": "meta.level"}, "2"),
        ({"reference": '"So " ~ answer'}, "So 2"),
    ],
)
def test_a_reference_is_the_rewards_own_answer_written_out_or_what_the_row_says(tmp_path, options, answer):
    assert made(tmp_path, sums(2), **options).task("all", 1).answer == answer


def test_a_reference_is_worked_out_when_it_is_asked_for_and_once(tmp_path, monkeypatch):
    from environments.rewards import exact

    asked = []
    monkeypatch.setattr(exact.Exact, "reference", lambda self, truth: asked.append(truth) or truth)
    task = made(tmp_path, sums(3)).task("all", 2)
    assert asked == []
    assert (task.answer, task.answer, asked) == ("3", "3", ["3"])


def test_a_missing_reference_breaks_its_row(tmp_path):
    rows = [{**row, "best": best} for row, best in zip(sums(4), ["a", None, " ", 7], strict=True)]
    environment = made(tmp_path, rows, reference="best")
    assert [environment.task("all", i).answer for i in range(2)] == ["a", "7"]
    assert all("the reference is no text" in line for line in environment.left_out)
    assert environment.num_left_out == 2


def test_a_task_is_sent_to_processes_as_a_plain_one(tmp_path):
    task = made(tmp_path, sums(1)).task("all", 0)
    arrived = pickle.loads(pickle.dumps(task))
    assert type(arrived) is Task
    assert arrived == Task("rows", "all", 0, task.messages, "1", {"truth": "1"})
    assert (arrived.key, hash(arrived.messages[0]["role"])) == (task.key, hash("user"))


def test_replies_are_judged_by_what_the_task_carries(tmp_path):
    environment = made(tmp_path, sums(2), answer="tag")
    task = environment.task("all", 1)
    values = [environment.score(task, reply).value for reply in ("<answer> 2 </answer>", "<answer>3</answer>", "2")]
    assert values == [1.0, 0.0, 0.0]
    assert environment.scores_in_process


def test_a_process_that_only_scores_opens_no_file(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "judges_alone.py").write_text(FUNCTIONS)
    write_jsonl(folder / "train.jsonl", sums(2))
    options = {"train": "train.jsonl", "prompt": "question", "reward": "judges_alone:tells"}
    source = EnvironmentSource("rows", "rows", options, str(folder))
    environment = source.create()
    tasks = [environment.task("all", i) for i in range(2)]
    (folder / "train.jsonl").unlink()
    with pytest.raises(EnvironmentFault, match="there is no file"):
        source.create()
    with Scorer([source], {"rows": environment}) as scorer:
        turns = scorer.turns([ScoringJob(task, (str(i + 1),)) for i, task in enumerate(tasks)])
    assert [turn.score.value for turn in turns] == [1.0, 0.0]
    shutil.rmtree(folder)


def test_the_limits_of_the_reward_are_those_of_the_environment(tmp_path, monkeypatch):
    class Slow(Reward):
        in_process, seconds = False, 12.5

        def score(self, attempt):
            raise NotImplementedError

    monkeypatch.setattr("environments.rows.make_reward", lambda section, folder: Slow())
    environment = made(tmp_path, sums(1), max_tokens=5)
    assert (environment.scores_in_process, environment.seconds, environment.max_tokens) == (False, 12.5, 5)


def test_truths_are_found_where_data_sets_have_them(tmp_path):
    for row, truth in (
        ({"reward_model": {"ground_truth": {"n": [1]}}, "answer": "no"}, {"n": [1]}),
        ({"ground_truth": "a", "solution": "no"}, "a"),
        ({"solution": "b", "ground_truth": None}, "b"),
    ):
        (tmp_path / "judges_all.py").write_text("def any(attempt):\n    return 1.0\n")
        environment = made(tmp_path, [{"question": "q", **row}], reward="judges_all:any")
        assert environment.task("all", 0).data["truth"] == truth


def contradicting(first: str, second: str, num: str = "one prompt has") -> tuple[str, ...]:
    said = "truths that are written differently in several rows: unless they mean the same, no answer is right in all"
    said += " of them; the first:"
    return (f"{num} {said} {first} and {second}",)


def test_prompts_with_different_truths_are_counted_with_the_first_of_them(tmp_path):
    rows = sums(50)
    again = [{**rows[i], "answer": f"{i} or so"} for i in (40, 9, 3)]
    environment = made(tmp_path, [*rows, "", *rows[:20], *again, *again])
    first = "train.jsonl:4 (4)", "train.jsonl:74 (3 or so)"  # a blank line is no row
    assert environment.warnings == contradicting(*first, num="3 prompts have")
    assert environment.num_left_out == 0


def test_the_same_row_twice_or_a_truth_written_otherwise_contradicts_nothing(tmp_path):
    truths = ["7", " 7\n", 7, 7.0]
    rows = [*sums(10), *sums(10), *({"question": "?", "answer": truth} for truth in truths)]
    assert made(tmp_path, rows).warnings == ()


def test_different_truths_are_found_across_files_and_sides(tmp_path):
    write_jsonl(tmp_path / "more.jsonl", [{"question": "What is 5 + 1?", "answer": "7"}])
    write_jsonl(tmp_path / "held_out.jsonl", [*sums(10, start=100), {"question": "What is 3 + 1?", "answer": ["4", 5]}])
    two = made(tmp_path, sums(10), train=["train.jsonl", "more.jsonl"])
    assert two.warnings == contradicting("train.jsonl:6 (6)", "more.jsonl:1 (7)")
    sides = make(tmp_path, train="train.jsonl", holdout="held_out.jsonl")
    assert sides.warnings == contradicting('held_out.jsonl:11 (["4", 5])', "train.jsonl:4 (4)")


def test_a_truth_may_be_cut_out_of_a_worked_solution(tmp_path):
    rows = [{"question": "q", "answer": "3 apples and 4.\n#### 7 "}]
    environment = made(tmp_path, rows, truth='answer.split("####")[-1].strip()', reference="answer")
    task = environment.task("all", 0)
    assert (task.data, task.answer) == ({"truth": "7"}, rows[0]["answer"])


def test_a_truth_that_is_nowhere_is_asked_for_unless_the_reward_needs_none(tmp_path):
    rows = [{"question": "q", "reply": "1"}]
    with pytest.raises(EnvironmentFault, match=r"none at reward_model\.ground_truth, .* are question, reply"):
        made(tmp_path, rows)
    assert made(tmp_path, rows, truth="reply").task("all", 0).data["truth"] == "1"
    environment = made(tmp_path, rows, reward={"type": "regex", "pattern": "a+"})
    assert environment.task("all", 0).data["truth"] is None


def test_an_option_that_came_later_leaves_the_version_of_rows_that_do_not_use_it(tmp_path):
    assert made(tmp_path, sums(3)).version == "1+21fa727898d3"  # else the tasks would seem to be others


def test_the_version_follows_from_what_rows_mean_and_not_from_where_they_are(tmp_path):
    (tmp_path / "judges_versions.py").write_text(FUNCTIONS)
    versions = {
        "as it was": made(tmp_path, sums(3)).version,
        "another row": made(tmp_path, sums(4)).version,
        "another category": made(tmp_path, sums(3), category="meta.level").version,
        "another reward": made(tmp_path, sums(3), reward={"type": "exact", "ignore_case": True}).version,
        "a held-out file": made(tmp_path, sums(3), holdout="train.jsonl").version,
        "a function": made(tmp_path, sums(3), reward="judges_versions:tells").version,
    }
    (tmp_path / "judges_versions.py").write_text(FUNCTIONS + "# another one\n")
    versions["a changed function"] = made(tmp_path, sums(3), reward="judges_versions:tells").version
    assert len(set(versions.values())) == len(versions), versions
    (tmp_path / "elsewhere").mkdir()
    write_jsonl(tmp_path / "elsewhere" / "moved.jsonl", sums(3))
    assert make(tmp_path, train="elsewhere/moved.jsonl", strict=True).version == versions["as it was"]


def test_environments_that_make_the_same_of_the_same_files_go_through_them_once(tmp_path, monkeypatch):
    passes = []
    monkeypatch.setattr("environments.rows.build_index", lambda *of: passes.append(of) or build_index(*of))
    write_jsonl(tmp_path / "train.jsonl", sums(20))
    options = {"train": "train.jsonl", "reward": "exact", "prompt": "question"}
    several = [EnvironmentSource(name, "rows", options, str(tmp_path)).create() for name in ("one", "two", "three")]
    assert len(passes) == 1
    assert {one.task("all", 3).environment for one in several} == {"one", "two", "three"}
    assert {one.task("all", 3).key for one in several} == {several[0].task("all", 3).key}
    assert make(tmp_path, category="meta.level").size("1") == 10
    assert len(passes) == 2, "with other options the rows are something else"
    write_jsonl(tmp_path / "train.jsonl", sums(20, start=5))
    assert make(tmp_path).task("all", 0).messages[0]["content"] == "What is 5 + 1?"
    assert len(passes) == 3, "the file is another one by now"
