from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import orchestrator
from store.ledger import Ledger
from store.records import MemberRecord, RunRecord, StudyRecord
from tests.conftest import Evergreen
from tests.orchestrator.specs import alone
from tests.store.ledger import example


def of_study(record: Any) -> Any:
    member = MemberRecord("puzzles", "plain", {})
    return replace(record, member=member) if isinstance(record, RunRecord) else record


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two runs of a study, one run beside it, and a study without runs."""
    folder = tmp_path_factory.mktemp("home")
    with Ledger.open(f"sqlite:///{folder / 'evergreen.db'}") as ledger:
        for name in ("puzzles", "empty"):
            ledger.start_study(StudyRecord(name, {}))
        for name in ("puzzles.plain.s0", "puzzles.plain.s1"):
            example.write(ledger, name, of_study)
        example.write(ledger, "beside")
    return folder


@pytest.mark.parametrize(
    ("formats", "suffixes"),
    [([], {".parquet", ".csv"}), (["--format", "csv"], {".csv"}), (["--format", "parquet"], {".parquet"})],
)
def test_export_writes_what_is_asked_for_with_its_dictionary(
    home: Path, tmp_path: Path, evergreen: Evergreen, formats: list[str], suffixes: set[str]
) -> None:
    folder = tmp_path / "deep" / "tables"
    result = evergreen("export", "beside", folder, *formats, "--home", home)
    assert result.exit_code == 0, result.stderr
    assert "1 run, " in result.stdout
    found = {path.suffix for path in folder.iterdir() if path.stem not in ("DICTIONARY", "dictionary")}
    assert found == suffixes
    assert json.loads((folder / "dictionary.json").read_text())["runs"] == ["beside"]
    assert [path.name for path in folder.parent.iterdir()] == ["tables"]


def test_a_study_stands_for_its_runs_and_no_run_comes_twice(home: Path, tmp_path: Path, evergreen: Evergreen) -> None:
    words = ("puzzles.plain.s1", "puzzles", "beside", "beside")
    result = evergreen("export", *words, tmp_path / "t", "--format", "parquet", "--home", home)
    assert result.exit_code == 0, result.stderr
    runs = pq.read_table(tmp_path / "t" / "runs.parquet").to_pylist()
    assert [run["run"] for run in runs] == ["puzzles.plain.s1", "puzzles.plain.s0", "beside"]
    assert [run["study"] for run in runs] == ["puzzles", "puzzles", None]
    assert set(pq.read_table(tmp_path / "t" / "scores.parquet")["run"].to_pylist()) == {r["run"] for r in runs}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["beside", "{folder}"], "{folder} is there already: name a folder to make"),
        (["besides", "{folder}/t"], "there is no run or study 'besides'; there are: puzzles.plain.s0, "),
        (["empty", "{folder}/t"], "empty has no runs yet"),
        (["beside", "puzzles.plain.s0"], "puzzles.plain.s0 is a run, and the last word is the folder to make: "),
        (
            ["beside", "puzzles"],
            "puzzles is a study, and the last word is the folder to make: evergreen export beside ",
        ),
        (["beside", "/dev/null/t"], "/dev/null/t cannot be written: "),
        (["beside"], "Missing argument 'RUN...'"),
        (["beside", "{folder}/t", "--format", "xlsx"], "Invalid value for '--format'"),
    ],
)
def test_what_cannot_be_exported_is_told(
    home: Path, tmp_path: Path, evergreen: Evergreen, words: list[str], message: str
) -> None:
    given = [word.format(folder=tmp_path) for word in words]
    result = evergreen("export", *given, "--home", home)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message.format(folder=tmp_path) in " ".join(result.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_export_leaves_nothing(
    home: Path, tmp_path: Path, evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object) -> Iterator[object]:
        raise KeyboardInterrupt

    monkeypatch.setattr("store.export.rows.RunRows.of", interrupted)
    result = evergreen("export", "beside", tmp_path / "t", "--home", home)
    assert result.exit_code == 130
    assert "nothing is left" in result.stderr
    assert list(tmp_path.iterdir()) == []


# --- diff -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, the same one interrupted and resumed, with another seed, and with another learning rate."""
    home = tmp_path_factory.mktemp("trained")
    orchestrator.run(alone("plain"), home=home)
    orchestrator.run(alone("resumed"), home=home, until_step=4)
    orchestrator.run(alone("half"), home=home, until_step=4)
    orchestrator.resume("resumed", home=home)
    orchestrator.run({**alone("seeded"), "seed": 4}, home=home)
    spec = alone("faster")
    orchestrator.run({**spec, "learner": {**spec["learner"], "lr": 0.0031}}, home=home)
    return home


@pytest.mark.slow
def test_a_resumed_run_is_equal_bit_for_bit(trained: Path, evergreen: Evergreen) -> None:
    result = evergreen("diff", "plain", "resumed", "--exit-code", "--home", trained)
    assert result.exit_code == 0, result.stdout
    story = json.loads(evergreen("show", "plain", "--json", "--home", trained).stdout)
    assert f"Equal, bit for bit: digest {story['digest']}, digest_all {story['digest_all']}." in result.stdout
    assert "Specs" not in result.stdout


def test_another_learning_rate_is_found_at_the_first_update(trained: Path, evergreen: Evergreen) -> None:
    found = json.loads(evergreen("diff", "plain", "faster", "--json", "--home", trained).stdout)
    assert found["spec"] == [{"name": "learner.lr", "a": 0.003, "b": 0.0031}]
    first = found["first"]
    assert (first["when"], first["facet"]) == ("step 1", "metrics")
    assert first["same"] == ["picks", "probabilities", "tasks", "replies", "scores", "signals"]
    assert "lr" in [place[0] for place in [first["place"], *first["others"]]]
    assert found["num_compared_steps"] == found["num_different_steps"] == 6
    assert not found["is_equal"]


def test_another_seed_differs_from_the_start(trained: Path, evergreen: Evergreen) -> None:
    result = evergreen("diff", "plain", "seeded", "--home", trained)
    assert result.exit_code == 0
    assert "before training: " in result.stdout
    assert ["seed", "3", "4"] in [line.split() for line in result.stdout.splitlines()]


def test_a_run_that_was_stopped_is_equal_so_far(trained: Path, evergreen: Evergreen) -> None:
    result = evergreen("diff", "plain", "half", "--home", trained)
    assert "Equal as far as both have come: 4 steps, 2 boundaries." in result.stdout
    assert evergreen("diff", "plain", "half", "--exit-code", "--home", trained).exit_code == 1


def test_text_and_json_tell_the_same(trained: Path, evergreen: Evergreen) -> None:
    shown = evergreen("diff", "plain", "faster", "--home", trained).stdout
    found = json.loads(evergreen("diff", "plain", "faster", "--json", "--home", trained).stdout)
    for sentence in found["sentences"]:
        assert sentence in shown


def test_a_run_that_is_not_there_is_told(home: Path, evergreen: Evergreen) -> None:
    result = evergreen("diff", "beside", "besides", "--home", home)
    assert result.exit_code == 2
    assert "there is no run 'besides'; there are: puzzles.plain.s0" in result.stderr
