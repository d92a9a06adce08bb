"""`validate --leaks`, as whoever runs it sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Evergreen
from tests.environments.rows.making import write_jsonl
from tests.orchestrator.specs import alone, written

WORDS = [f"{a}{b}{c}" for a in "bdkmnt" for b in ("ola", "emi", "uru") for c in ("pif", "gan", "sto")]
TRAIN = [{"question": f"How is [red]{word}[/red] spelt backward?", "answer": word[::-1]} for word in WORDS]


def spec(folder: Path, *held_out: str) -> Path:
    """A run on rows, with these questions held out, beside a codebook."""
    write_jsonl(folder / "train.jsonl", TRAIN)
    others = [f"How is [red]w{word}[/red] spelt backward?" for word in WORDS[::5]]
    write_jsonl(folder / "test.jsonl", [{"question": q, "answer": "x"} for q in (*others, *held_out)])
    rows = {
        "type": "rows",
        "train": "train.jsonl",
        "holdout": "test.jsonl",
        "reward": "exact",
        "prompt": "question",
    }
    raw = alone(name="leaky")
    return written(folder, {**raw, "environments": {"one": rows, "book": {"type": "codebook"}}, "resources": {}})


LEAK = TRAIN[7]["question"].upper()


def test_what_is_found_is_told_with_both_places_and_is_no_failure(tmp_path: Path, evergreen: Evergreen) -> None:
    result = evergreen("validate", spec(tmp_path, LEAK), "--leaks")
    assert result.exit_code == 0, result.stderr
    assert "leaks: one held-out task has a near-duplicate among training tasks: 1 same text" in result.stdout
    assert "book is evaluated on the tasks that it trains on: not looked at" in result.stdout
    lines = [line.strip() for line in result.stdout.splitlines()]
    start = lines.index("1.00  same text")
    assert lines[start + 1].startswith("one.all 65 (")
    assert f"test.jsonl:12)  {LEAK}" in lines[start + 1]
    assert lines[start + 2] == f"one.all 7 (train, train.jsonl:8)  {TRAIN[7]['question']}"


def test_strict_refuses_leaks_only_where_they_are_looked_for(tmp_path: Path, evergreen: Evergreen) -> None:
    path = spec(tmp_path, LEAK)
    assert evergreen("validate", path, "--strict").exit_code == 0
    refused = evergreen("validate", path, "--leaks", "--strict")
    assert refused.exit_code == 2
    assert "--strict: leaks: one held-out task has" in refused.stderr
    assert evergreen("validate", spec(tmp_path), "--leaks", "--strict").exit_code == 0


def test_the_same_facts_come_as_json(tmp_path: Path, evergreen: Evergreen) -> None:
    facts = json.loads(evergreen("validate", spec(tmp_path, LEAK), "--leaks", "--json").stdout)["leaks"]
    (leak,) = facts["leaks"]
    assert (facts["num_leaks"], facts["closed"], leak["how"]) == (1, ["book"], "same text")
    assert leak["training"]["where"] == "train.jsonl:8"
    assert "leaks" not in json.loads(evergreen("validate", spec(tmp_path), "--json").stdout)


def test_nothing_found_is_said_with_what_was_looked_at(tmp_path: Path, evergreen: Evergreen) -> None:
    result = evergreen("validate", spec(tmp_path), "--leaks", "--threshold", "0.9")
    assert "leaks: none (11 different held-out tasks looked at, 54 to train on; similarity 0.9)" in result.stdout


@pytest.mark.parametrize("threshold", ["0", "1.5", "much"])
def test_a_similarity_lies_between_0_and_1(tmp_path: Path, evergreen: Evergreen, threshold: str) -> None:
    assert evergreen("validate", spec(tmp_path), "--leaks", "--threshold", threshold).exit_code == 2


def test_a_similarity_without_a_search_is_refused(tmp_path: Path, evergreen: Evergreen) -> None:
    refused = evergreen("validate", spec(tmp_path), "--threshold", "0.9")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--threshold is of --leaks: say both" in refused.stderr
