"""Rows that cannot be used, as whoever runs the command line hears of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from weakref import WeakValueDictionary

import pytest

from environments import canonical, pool_of
from environments.contracts import key_of
from tests.conftest import Evergreen
from tests.environments.rows.making import sums, write_jsonl
from tests.orchestrator.specs import REPOSITORY, alone, written

MORE = [{"question": f"{n} + 1?", "answer": str(n + 1), "level": n % 2 + 1} for n in range(20)]


def spec(folder: Path, num_broken: int, **options: object) -> Path:
    """A run on forty good rows and some broken ones, in a file of its own."""
    write_jsonl(folder / "train.jsonl", [*(["{[red]"] * num_broken), *sums(40)])
    raw = alone(name="sums", steps=4)
    rows = {"type": "rows", "train": "train.jsonl", "reward": "exact", "prompt": "question", **options}
    return written(folder, {**raw, "environments": {"one": rows}, "resources": {}})


def test_validate_counts_reasons_and_lists_every_row_as_json(tmp_path: Path, evergreen: Evergreen) -> None:
    result = evergreen("validate", spec(tmp_path, 12))
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    start = lines.index("left out: rows of one that cannot be used: 12")
    assert lines[start + 1].strip().startswith("not valid JSON: 12 rows (first: train.jsonl:1: Expecting")
    (facts,) = json.loads(evergreen("validate", spec(tmp_path, 12), "--json").stdout)["plan"]["left_out"]
    assert (facts["environment"], facts["num_rows"], len(facts["rows"])) == ("one", 12, 12)
    assert facts["rows"][11].startswith("train.jsonl:12: not valid JSON")
    assert [(reason["kind"], reason["num_rows"]) for reason in facts["reasons"]] == [("not valid JSON", 12)]


def test_validate_strict_refuses_them_and_nothing_else(tmp_path: Path, evergreen: Evergreen) -> None:
    refused = evergreen("validate", spec(tmp_path, 1), "--strict")
    assert refused.exit_code == 2
    assert "--strict: there are rows of one that cannot be used" in refused.stderr
    assert "is valid" not in refused.stdout
    assert "not valid JSON: 1 row (train.jsonl:1: " in refused.stderr
    fine = evergreen("validate", spec(tmp_path, 0), "--strict")
    assert (fine.exit_code, "is valid" in fine.stdout) == (0, True)
    assert evergreen("validate", spec(tmp_path, 1, strict=True)).exit_code == 2


def test_validate_says_what_is_left_out_on_purpose(tmp_path: Path, evergreen: Evergreen) -> None:
    write_jsonl(tmp_path / "test.jsonl", sums(5))
    result = evergreen("validate", spec(tmp_path, 0, holdout="test.jsonl"))
    assert "note: one: 5 rows to train on left out: the same conversations are held out" in result.stdout
    assert "study's end (final)" not in result.stdout  # a file that is held out is halved between the other two
    assert "study's end (final)" in evergreen("validate", spec(tmp_path, 0)).stdout


def test_validate_names_the_categories_that_have_fewer_tasks_than_a_step_asks(
    tmp_path: Path, evergreen: Evergreen
) -> None:
    path = spec(tmp_path, 0, category="level")
    write_jsonl(tmp_path / "train.jsonl", many := [{**row, "level": 1} for row in sums(200)])
    assert "fewer tasks to train on" not in evergreen("validate", path).stdout
    rare = [{"question": f"{n} + 9?", "answer": str(n + 9), "level": "rare"} for n in range(3)]
    write_jsonl(tmp_path / "train.jsonl", [*many, *rare])
    said = " ".join(evergreen("validate", path, "--set", "step.groups=8").stdout.split())
    assert "note: one: fewer tasks to train on than a step has groups, 8: rare (" in said


def test_categories_too_many_for_their_rows_are_named_as_the_reason(tmp_path: Path, evergreen: Evergreen) -> None:
    path = spec(tmp_path, 0, category="question")
    refused = evergreen("validate", path)
    assert refused.exit_code == 2
    assert re.search(r"its \d+ categories have \d+ tasks in all: make few of many", " ".join(refused.stderr.split()))


def test_categories_without_a_row_to_train_on_or_to_evaluate_on_are_told_once(
    tmp_path: Path, evergreen: Evergreen
) -> None:
    path = spec(tmp_path, 0, category="level")
    rare = [{"question": f"{n} + 9?", "answer": str(n + 9), "level": f"r{n}"} for n in range(60)]
    write_jsonl(tmp_path / "train.jsonl", [*({**row, "level": 1} for row in sums(200)), *rare])
    found = json.loads(evergreen("validate", path, "--json").stdout)
    plan, looks = found["plan"], found["spec"]["evaluate"]
    (pools,) = plan["environments"]
    of = {one["name"]: (one["train"], one["held_out"]) for one in pools["categories"]}
    said = "\n".join(plan["remarks"])
    assert said.count("only evaluated") == 1
    for train, held_out, told in ((1, 0, "trained on and not measured"), (0, 0, "no task to train on and none")):
        num = list(of.values()).count((train, held_out))
        assert num > 1
        assert f"{num} categories (" in next(line for line in plan["remarks"] if told in line)
    num = sum(min(held_out, looks["items"]) for _, held_out in of.values())
    assert f"of {num * looks['samples']:,} samples at most" in plan["evaluations"]


CONTRADICTION = (
    "one: one prompt has truths that are written differently in several rows: unless they mean the same, no answer is "
    "right in all of them; the first: "
)


def test_validate_and_a_runs_events_warn_of_prompts_with_different_truths(tmp_path: Path, evergreen: Evergreen) -> None:
    path = spec(tmp_path, 0)
    write_jsonl(tmp_path / "train.jsonl", [*sums(40), {**sums(1)[0], "answer": "2"}])
    result = evergreen("validate", path, "--strict")
    assert result.exit_code == 0
    assert f"warning: {CONTRADICTION}train.jsonl:1 (1) and train.jsonl:41 (2)" in result.stdout
    assert evergreen("run", path, "--home", tmp_path / "home", "--until-step", 1).exit_code == 75
    events = json.loads(evergreen("show", "sums", "--events", "--json", "--home", tmp_path / "home").stdout)
    assert [event["text"].startswith(CONTRADICTION) for event in events if event["kind"] == "warning"].count(True) == 1


def test_validate_and_a_runs_events_say_which_files_of_a_folder_are_passed_over(
    tmp_path: Path, evergreen: Evergreen
) -> None:
    (tmp_path / "set").mkdir()
    for name in ("part-0.jsonl", "part-1.json"):
        write_jsonl(tmp_path / "set" / name, sums(40))
    path, said = spec(tmp_path, 0, train="set"), "one: train: reads part-0.jsonl of set; passed over: part-1.json"
    assert f"note: {said}" in evergreen("validate", path).stdout
    assert evergreen("run", path, "--home", tmp_path / "home", "--until-step", 1).exit_code == 75
    events = json.loads(evergreen("show", "sums", "--events", "--json", "--home", tmp_path / "home").stdout)
    assert said in [event["text"] for event in events]


@pytest.mark.parametrize(
    ("rows", "options", "why"),
    [
        (sums(40), {"holdout": "train.jsonl"}, "40 rows to train on left out: the same conversations are held out"),
        (
            [{"question": "8?", "answer": "8"}],
            {},
            "category all is only evaluated: none of its one row falls to the training pool",
        ),
        (
            ['{"question": "9?"},'] * 30 + [{"question": "8?", "answer": "8"}],
            {},
            "not valid JSON: 30 rows (first: train.j",
        ),
    ],
)
def test_where_nothing_is_left_to_train_on_the_reason_in_the_rows_is_said(
    tmp_path: Path, evergreen: Evergreen, rows: list[object], options: dict[str, str], why: str
) -> None:
    path = spec(tmp_path, 0, **options)
    write_jsonl(tmp_path / "train.jsonl", rows)
    result = evergreen("validate", path)
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    assert "give it more rows to train on, or another `holdout` file" in said
    assert f"one: {why}" in said
    assert "trainable" not in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reward": "exakt"}, r"line \d+: environments.one.reward: .*Did you mean exact"),
        ({"categry": "a"}, r"line \d+: environments.one.categry: unknown key. Did you mean 'category'"),
        ({"category": "a b"}, r"line \d+: environments.one.category: 'a b' is neither a column path"),
        (
            {"train": "rains.jsonl"},
            r"environment one: train: there is no file or folder rains.jsonl in .*train.jsonl",
        ),
    ],
)
def test_a_wrong_option_is_refused_with_its_line(
    tmp_path: Path, evergreen: Evergreen, options: dict[str, str], said: str
) -> None:
    result = evergreen("validate", spec(tmp_path, 0, **options))
    assert result.exit_code == 2
    assert re.search(said, " ".join(result.stderr.split())), result.stderr


def test_a_run_remembers_what_it_left_out_and_a_resumed_one_that_its_data_changed(
    tmp_path: Path, evergreen: Evergreen
) -> None:
    home = tmp_path / "home"
    assert evergreen("run", spec(tmp_path, 3), "--home", home, "--until-step", 2).exit_code == 75
    write_jsonl(tmp_path / "train.jsonl", sums(41))
    assert evergreen("resume", "sums", "--home", home).exit_code == 0
    events = json.loads(evergreen("show", "sums", "--events", "--json", "--home", home).stdout)
    said = {event["kind"]: event["text"] for event in events}
    first, later = (event["text"] for event in events if event["kind"] == "left out")
    assert first.startswith("rows of one that cannot be used and are left out: 3; ")
    assert "not valid JSON: 3 rows (first: train.jsonl:1: " in first
    assert later == "rows of one that cannot be used and are left out: 0, 3 before"
    assert "environment one was 1+" in said["not bitwise"]


HELD_OUT = [{"question": f"{n} + 2?", "answer": str(n + 2)} for n in range(12)]


@pytest.mark.parametrize("others", [MORE[:12], [{**row, "answer": "9"} for row in HELD_OUT]], ids=["rows", "answers"])
def test_a_run_resumed_or_forked_on_other_held_out_rows_says_that_numbers_are_of_other_tasks(
    tmp_path: Path, evergreen: Evergreen, others: list[dict[str, str]]
) -> None:
    home = tmp_path / "home"

    def warnings(name: str) -> list[str]:
        events = json.loads(evergreen("show", name, "--events", "--json", "--home", home).stdout)
        return [event["text"] for event in events if event["text"].startswith("the held-out tasks of ")]

    write_jsonl(tmp_path / "test.jsonl", HELD_OUT)
    assert evergreen("run", spec(tmp_path, 0, holdout="test.jsonl"), "--home", home, "--until-step", 1).exit_code == 75
    write_jsonl(tmp_path / "train.jsonl", sums(41))  # the same tasks are held out
    assert evergreen("resume", "sums", "--home", home, "--until-step", 2).exit_code == 75
    assert warnings("sums") == []
    write_jsonl(tmp_path / "test.jsonl", others)
    for until_step in (3, 4):  # once only
        evergreen("resume", "sums", "--home", home, "--until-step", until_step)
    assert evergreen("resume", "sums", "--home", home).exit_code == 0
    assert [text.partition(":")[0] for text in warnings("sums")] == [
        "the held-out tasks of one are not those that were measured before training"
    ]
    assert "Other held-out tasks than before were measured of one (first after" in evergreen(
        "show", "sums", "--home", home
    ).stdout.replace("\n", " ")
    forked = ("fork", "sums", "--stage", 0, "--set", "name=forked", "--home", home, "--until-step", 3)
    assert evergreen(*forked).exit_code == 75
    assert len(warnings("forked")) == 1


def test_a_category_with_too_few_rows_to_hold_out_any_is_no_change(tmp_path: Path, evergreen: Evergreen) -> None:
    path, home = spec(tmp_path, 0, category="topic"), tmp_path / "home"
    sets = ("--set", "curriculum.scheduler={type: boltzmann, reward: total_gain}", "--set", "evaluate.items=2")
    rows = [{**row, "topic": "rare" if n > 37 else "usual"} for n, row in enumerate(sums(40))]
    write_jsonl(tmp_path / "train.jsonl", rows)
    assert (begun := evergreen("run", path, *sets, "--home", home, "--until-step", 1)).exit_code == 75, begun.stderr
    assert evergreen("resume", "sums", "--home", home, "--until-step", 2).exit_code == 75
    assert "the held-out tasks of" not in evergreen("show", "sums", "--events", "--json", "--home", home).stdout
    measured = json.loads(evergreen("show", "sums", "--json", "--home", home).stdout)
    assert measured["environments"]["one"]["accuracy_start"] is not None


def test_what_was_scored_on_other_held_out_rows_decides_nothing(tmp_path: Path, evergreen: Evergreen) -> None:
    home, sets = tmp_path / "home", list[str]()
    for key, value in {
        "environments.two": {"type": "codebook", "categories": {"easy": 2}},
        "curriculum.scheduler": {"type": "discounted_ucb", "reward": "gain"},
        "curriculum.stage.replay": {"rule": "weakest", "share": 0.5},
    }.items():
        sets += ["--set", f"{key}={json.dumps(value)}"]
    write_jsonl(tmp_path / "test.jsonl", MORE[:12])
    path = spec(tmp_path, 0, holdout="test.jsonl")
    assert (begun := evergreen("run", path, *sets, "--home", home, "--until-step", 1)).exit_code == 75, begun.stderr
    write_jsonl(tmp_path / "test.jsonl", [{"question": f"{n} + 2?", "answer": str(n + 2)} for n in range(12)])
    assert evergreen("resume", "sums", "--home", home).exit_code == 0
    events = json.loads(evergreen("show", "sums", "--events", "--json", "--home", home).stdout)
    assert [event["text"] for event in events if event["kind"] == "begins anew"] == [
        "begins anew: the scheduler's held-out scores of one, whose held-out tasks are others now",
        "begins anew: what weakest replay knows of one, whose held-out tasks are others now",
    ]
    earned = [event["text"] for event in events if "(gain" in event["text"]]
    assert earned[0] == "stage 1: one had no held-out score when its stage began (gain): not judged"
    assert earned[1].startswith("stage 2: two earned ")


def test_a_resumed_run_tells_which_rows_of_its_changed_data_are_broken_since(
    tmp_path: Path, evergreen: Evergreen
) -> None:
    home, rows = tmp_path / "home", sums(40)
    assert evergreen("run", spec(tmp_path, 3), "--home", home, "--until-step", 2).exit_code == 75
    broken = [{**rows[30], "answer": None}, *(["{[red]"] * 5), *rows[1:30], {**rows[0], "question": "x" * 5000}]
    write_jsonl(tmp_path / "train.jsonl", [*broken, *rows[31:], {**rows[5], "answer": "7"}])
    for _ in range(2):  # once only
        assert evergreen("resume", "sums", "--home", home, "--until-step", 3).exit_code == 75
    assert evergreen("resume", "sums", "--home", home).exit_code == 0
    events = json.loads(evergreen("show", "sums", "--events", "--json", "--home", home).stdout)
    _, *later = [event["text"] for event in events if event["kind"] == "left out"]
    assert len(later) == 3
    assert later[0].startswith(
        "rows of one that cannot be used and are left out: 6, 3 before; the truth is missing: 1 row "
    )
    assert "(train.jsonl:1), 0 before; not valid JSON: 5 rows (first: train.jsonl:2: " in later[0]
    assert later[1].startswith("one: 40 rows ask 39 different things, ")
    assert later[2].startswith("one task of one left out, with prompts longer than ")
    told = [event["text"] for event in events if event["text"].startswith(CONTRADICTION)]
    assert told == [f"{CONTRADICTION}train.jsonl:11 (6) and train.jsonl:46 (7)"]


def test_a_run_of_whose_changed_data_nothing_is_left_is_refused(tmp_path: Path, evergreen: Evergreen) -> None:
    home = tmp_path / "home"
    assert evergreen("run", spec(tmp_path, 0), "--home", home, "--until-step", 1).exit_code == 75
    write_jsonl(tmp_path / "train.jsonl", ["{"] * 40)
    result = evergreen("resume", "sums", "--home", home)
    assert result.exit_code == 2
    assert "none of its 40 rows can be used" in " ".join(result.stderr.split())
    keys = {row["question"]: key_of(canonical(({"role": "user", "content": row["question"]},))) for row in sums(40)}
    left = [row for row in sums(40) if pool_of(keys[row["question"]]) != "anchor"]
    write_jsonl(tmp_path / "train.jsonl", left)
    result = evergreen("resume", "sums", "--home", home)
    assert result.exit_code == 2
    assert "environment one: no task to be evaluated on (pool anchor)" in " ".join(result.stderr.split())


def test_the_guides_first_rows_are_valid(tmp_path: Path, evergreen: Evergreen) -> None:
    guide = (REPOSITORY / "docs" / "rows.md").read_text()
    spec, rows = (re.findall(rf"```{language}\n(.*?)```", guide, re.DOTALL)[0] for language in ("yaml", "jsonl"))
    (tmp_path / "sums.yaml").write_text(spec)
    (tmp_path / "sums.jsonl").write_text(rows + "".join(json.dumps(row) + "\n" for row in MORE))
    result = evergreen("validate", tmp_path / "sums.yaml", "--all")
    assert result.exit_code == 0, result.stderr
    assert "reward:\n      type: exact" in result.stdout
    assert "left out" not in result.stdout


def test_a_run_whose_categories_are_gone_is_refused(tmp_path: Path, evergreen: Evergreen) -> None:
    home = tmp_path / "home"
    path = spec(tmp_path, 0, category="meta.level")
    assert evergreen("run", path, "--home", home, "--until-step", 1).exit_code == 75
    write_jsonl(tmp_path / "train.jsonl", [{**row, "meta": {"level": 1}} for row in sums(40)])
    result = evergreen("resume", "sums", "--home", home)
    assert result.exit_code == 2
    assert "one has no category '2' to train on any more" in " ".join(result.stderr.split())


def test_categories_that_a_resumed_run_has_more_are_told(tmp_path: Path, evergreen: Evergreen) -> None:
    home = tmp_path / "home"
    path = spec(tmp_path, 0, category="meta.level")
    first, second = ([row for row in sums(80) if row["meta"]["level"] == level] for level in (1, 2))
    write_jsonl(tmp_path / "train.jsonl", first)
    assert evergreen("run", path, "--home", home, "--until-step", 1).exit_code == 75
    write_jsonl(tmp_path / "train.jsonl", [*first, *second])
    assert evergreen("resume", "sums", "--home", home).exit_code == 0
    events = json.loads(evergreen("show", "sums", "--events", "--json", "--home", home).stdout)
    texts = [event["text"] for event in events if event["kind"] == "not bitwise"]
    assert any(text.startswith("one has categories that were not there at this checkpoint, 2; they") for text in texts)


def test_whoever_waits_for_a_long_file_hears_how_far_it_is(
    tmp_path: Path, evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("environments.display.EVERY_S", -1.0)
    path = spec(tmp_path, 0)
    said = "one: 0 rows gone through, now train.jsonl"
    assert said in evergreen("validate", path).stderr
    monkeypatch.setattr("environments.rows._OPENED", WeakValueDictionary())  # as in another process
    assert said in evergreen("run", path, "--home", tmp_path / "home", "--until-step", 1).stdout


def test_a_run_whose_data_shrank_below_where_it_stands_is_refused(tmp_path: Path, evergreen: Evergreen) -> None:
    home = tmp_path / "home"
    assert evergreen("run", spec(tmp_path, 0), "--home", home, "--until-step", 3).exit_code == 75
    write_jsonl(tmp_path / "train.jsonl", sums(5))
    result = evergreen("resume", "sums", "--home", home)
    assert result.exit_code == 2
    assert "put its data back as it was, or begin a new run" in " ".join(result.stderr.split())
