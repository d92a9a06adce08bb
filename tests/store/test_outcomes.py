"""A number of carry-over is the same wherever it is told: MLflow, the report, `show --json`, `compare`, `export`."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from orchestrator.cli.tables import print_story
from store import carryover
from store.carryover import NOTHING_LEARNT, OUTCOMES, SWITCHES
from store.comparison.scores import MEASURES, WHOLE, measure, scores
from store.export import new_export
from store.ledger import Ledger
from store.report import render
from store.run_summary import facts
from store.sentences import outcomes_as_text, signed, what_it_cost
from store.tracker.pages import Cursor, HistoryPages, covered
from tests.store.report.pages import Page
from tests.store.report.runs import Shape, written
from tests.store.tracker.content import PATTERNS

SHAPES = {
    "returning": Shape(stages=4),  # book, words, book, words
    "untrained": Shape(environments=("book", "words", "letters"), stages=2),
    "one": Shape(stages=1),
    "begun": Shape(boundaries=1),
    "flat": Shape(is_flat=True),
}


@dataclass(frozen=True)
class Told:
    """What the places tell of a run; MLflow by boundary, in order."""

    story: dict[str, Any]
    page: Page
    mlflow: list[dict[str, float]]
    compared: dict[str, float | None]
    exported: dict[int, dict[str, float | None]]


@pytest.fixture(scope="module")
def ledger() -> Iterator[Ledger]:
    with Ledger.open("sqlite://") as opened:
        for name, shape in SHAPES.items():
            run = written(opened, shape, name)
            opened.set_status(run, "finished")
        yield opened


@pytest.fixture(scope="module")
def told(ledger: Ledger, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    folder = tmp_path_factory.mktemp("told")
    with new_export(folder / "tables", ["parquet"]) as export:
        for name in SHAPES:
            export.add(ledger.reading, name)
    rows = pq.read_table(folder / "tables" / "carry_over.parquet").to_pylist()
    return {name: _told(ledger, folder, name, [row for row in rows if row["run"] == name]) for name in SHAPES}


def _told(ledger: Ledger, folder: Path, name: str, rows: list[dict[str, Any]]) -> Told:
    read = ledger.reading
    history = HistoryPages(read, read.run(name))
    sent: dict[int, dict[str, float]] = {}
    for page in history.pages(Cursor(), covered(read, name)):
        for value in page.curriculum:
            sent.setdefault(value.step, {})[value.name] = value.value
    exported: dict[int, dict[str, float | None]] = {}
    for row in rows:
        exported.setdefault(row["after_stage"], {})[row["name"]] = row["value"]
    return Told(
        facts(ledger, folder, name),
        Page(render(ledger, folder, name)),
        [sent.get(boundary.step, {}) for boundary in read.boundaries(name)],
        {one.name: scores(read, name, measure(one.measure)).get(WHOLE) for one in OUTCOMES},
        exported,
    )


def _on_the_page(page: Page, one: carryover.CarryOverMetric, text: str) -> bool:
    words = map(re.escape, (one.title, one.abbreviation, text, one.meaning))
    return re.search(r"\s*".join(words), page.text) is not None


@pytest.mark.parametrize("name", SHAPES)
def test_what_sums_a_run_up_is_the_same_everywhere(told: dict[str, Told], name: str) -> None:
    run = told[name]
    numbers = run.story["carry_over"]
    assert list(numbers) == [one.name for one in OUTCOMES]
    assert run.compared == numbers
    assert {one.name: run.mlflow[-1].get(one.mlflow) for one in OUTCOMES} == numbers
    if run.exported:
        last = run.exported[max(run.exported)]
        assert {key: value for key, value in last.items() if not key.startswith("switch/")} == numbers
    for one in OUTCOMES:
        text = outcomes_as_text(numbers).get(one.name)
        assert _on_the_page(run.page, one, str(text)) == (text is not None)


@pytest.mark.parametrize("name", SHAPES)
def test_the_error_of_a_change_is_that_of_both_boundaries(told: dict[str, Told], ledger: Ledger, name: str) -> None:
    wholes = [cell for cell in ledger.reading.matrix(name, "pass_1") if cell.category is None]
    for environment, of in told[name].story["environments"].items():
        course = sorted((cell.after_stage, cell.stderr) for cell in wholes if cell.environment == environment)
        (_, first), (_, last) = course[0], course[-1]
        assert first is not None
        assert last is not None
        assert of["accuracy_change_stderr"] == pytest.approx(math.hypot(first, last))


@pytest.mark.parametrize("name", SHAPES)
def test_forgetting_is_the_mean_of_what_environments_lost_since_their_best(told: dict[str, Told], name: str) -> None:
    story = told[name].story
    falls = [fall for of in story["environments"].values() if (fall := of["accuracy_since_best"]) is not None]
    if (forgetting := story["carry_over"]["forgetting"]) is not None:
        assert -sum(falls) / len(falls) == pytest.approx(forgetting)


@pytest.mark.parametrize("name", SHAPES)
def test_what_a_stage_did_is_the_same_everywhere(told: dict[str, Told], name: str) -> None:
    run = told[name]
    for switch in run.story["switches"]:
        stage = switch["stage"]
        told_by_story = {key: switch[key] for key in switch if key.startswith("switch/")}
        assert list(told_by_story) == [one.name for one in SWITCHES]
        assert {one.name: run.mlflow[stage].get(one.name) for one in SWITCHES} == told_by_story
        assert {one.name: run.exported[stage][one.name] for one in SWITCHES} == told_by_story
    assert len(run.story["switches"]) == (0 if name in ("flat", "begun") else SHAPES[name].stages)


def test_a_run_s_number_and_a_stage_s_have_names_of_their_own(told: dict[str, Told]) -> None:
    run = told["returning"]
    carries = [switch["switch/entropy_carry"] for switch in run.story["switches"]]
    assert carries[0] is None, "nothing was carried to the first stage"
    mean = math.exp(sum(math.log(carry) for carry in carries[1:]) / 3)
    assert run.mlflow[-1]["cl/entropy_carried"] == pytest.approx(mean)
    assert run.mlflow[-1]["switch/entropy_carry"] == carries[-1] != pytest.approx(mean)
    names = list(PATTERNS)
    assert len(names) == len(set(names))
    assert {one.mlflow for one in OUTCOMES} | {one.name for one in SWITCHES} <= set(names)
    assert {one.measure for one in OUTCOMES} <= set(MEASURES)


@pytest.mark.parametrize("name", ["returning", "untrained", "one", "flat"])
def test_the_sentence_about_entropy_is_about_the_same_number(told: dict[str, Told], name: str) -> None:
    story = told[name].story
    assert f" to {story['carry_over']['entropy_left']:.0%} of its start" in what_it_cost(story)


def test_every_boundary_is_told_as_if_the_run_had_ended_there(ledger: Ledger, told: dict[str, Told]) -> None:
    for after in (1, 2, 3):
        shape = Shape(stages=4, boundaries=after + 1)
        short = carryover.of_run(ledger.reading.carry_over(written(ledger, shape, f"short {after}").name))
        assert {one.name: told["returning"].mlflow[after].get(one.mlflow) for one in OUTCOMES} == short
        exported = told["returning"].exported[after]
        assert {one.name: exported[one.name] for one in OUTCOMES} == short


def test_where_nothing_was_learnt_there_is_nothing_to_forget(told: dict[str, Told]) -> None:
    run = told["untrained"]  # the book falls from the start on
    assert run.story["carry_over"]["forgetting"] == pytest.approx(0.1)
    assert run.story["carry_over"]["relative_forgetting"] is None
    assert "cl/relative_forgetting" not in run.mlflow[-1]
    relative = next(one for one in OUTCOMES if one.name == "relative_forgetting")
    assert _on_the_page(run.page, relative, NOTHING_LEARNT)


def test_in_flat_mode_only_what_needs_no_stage_is_defined(told: dict[str, Told]) -> None:
    defined = {key for key, value in told["flat"].story["carry_over"].items() if value is not None}
    assert defined == {"average", "forgetting", "relative_forgetting", "entropy_left"}, (
        "every stage trains all environments"
    )


def test_show_tells_them_too(told: dict[str, Told]) -> None:
    for name, shown in (
        ("returning", "Relative forgetting"),
        ("untrained", f"Relative forgetting {NOTHING_LEARNT}"),
    ):
        lines = " ".join(_shown(told[name].story).split())
        assert "What carries over" in lines
        assert f"Forgetting {signed(told[name].story['carry_over']['forgetting'])}" in lines
        assert shown in lines
    assert "What carries over" not in _shown(told["begun"].story), "nothing to tell yet"


def test_an_environment_that_joined_at_a_fork_counts_from_its_first_boundary() -> None:
    """As in the sentence about entropy: its first value is not the run's first."""
    entropy = {(0, "a"): 1.0, (1, "a"): 0.5, (1, "b"): 2.0, (2, "a"): 0.25, (2, "b"): 1.0}
    found = carryover.Matrices(entropy, entropy, {}, ["a", "b"])
    assert carryover.of_run(found)["entropy_left"] == pytest.approx(math.sqrt(0.25 * 0.5))


def _shown(story: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=120)
    print_story(console, {"digest": None, **story})
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
