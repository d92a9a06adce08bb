"""Evaluations inside stages: points of learning curves, and nothing else of a run is other than without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.runs.api import fork, resume, run
from orchestrator.runs.catalog import opened
from store.report import learning_curves
from store.report.report_data import ReportData
from store.tracker.pages import Cursor, HistoryPages, covered
from tests.integration.runs import At, Killed, ending, kill, told
from tests.orchestrator.specs import Raw, alone, flat, small
from tests.shares import share

HERE = "scoring.isolation=none"
ASKED = ["evaluate.every=2", "evaluate.every_on=all"]
SPECS: dict[str, Raw] = {
    "small": small(objective="repo_r"),
    "ahead": small("ahead", sampler={"max_tokens": 3, "ahead": 1}),
    "flat": flat(objective="repo"),
}


def found(home: Path, name: str) -> list[tuple[Any, ...]]:
    with opened(home, name) as (_, ledger):
        rows = ledger.reading.evaluations(name)
    return [(row.step, row.metric, row.environment, row.category, row.value, row.n) for row in rows]


@pytest.mark.parametrize("name", share(["ahead", "small", "flat"], 1))
def test_what_is_trained_and_measured_is_bit_for_bit_what_it_is_without(tmp_path: Path, name: str) -> None:
    run(SPECS[name], [HERE], home=tmp_path)
    run(SPECS[name], [HERE, "name=looked", *ASKED], home=tmp_path)
    plain, looked = ending(tmp_path, name), ending(tmp_path, "looked")
    assert (looked.digest, looked.weights) == (plain.digest, plain.weights)
    assert looked.digest_all != plain.digest_all, "what was measured more is part of what was measured"
    rows = found(tmp_path, "looked")
    assert {row[0] for row in rows} == {2, 5, 8}, "in every stage of three steps the second"
    assert {row[2] for row in rows} == {"numbers", "book", "noise"}
    before, after = told(tmp_path, name), told(tmp_path, "looked")
    for fact in ("matrices", "carry_over", "arms", "num_boundaries", "allocation"):
        assert after[fact] == before[fact]


def test_its_values_are_those_that_a_boundary_would_have_found(tmp_path: Path) -> None:
    run(alone("inside", steps=4, stages=1, character="noisy"), ["evaluate.every=2"], home=tmp_path)
    run(alone("between", steps=2, stages=2, character="noisy"), home=tmp_path)
    inside = {row[1]: row[4] for row in found(tmp_path, "inside") if row[3] is None}
    with opened(tmp_path, "between") as (_, ledger):
        for metric in ("pass_1", "pass_4", "value", "entropy_token", "truncated_frac"):
            (cell,) = (c for c in ledger.reading.matrix("between", metric) if c.after_stage == 1 and not c.category)
            assert inside[f"eval_{metric}"] == cell.value, metric
    assert inside["eval_entropy_token"] > 0
    story = told(tmp_path, "inside")
    assert story["num_boundaries"] == 2
    assert sorted(story["matrices"]["pass_1"]) == ["0", "1"]


@pytest.mark.parametrize("moment", share([3, 4, 7], 1))
def test_a_run_killed_around_one_equals_the_uninterrupted_run(tmp_path: Path, moment: int) -> None:
    """At once after a step whose evaluation is recorded with it, and before one that is due again."""
    for name in ("whole", "killed"):
        spec = alone(name, steps=5, character="noisy")
        watcher = At(moment, kill, ["step"]) if name == "killed" else None
        try:
            run(spec, [HERE, "evaluate.every=3"], home=tmp_path, watcher=watcher)
        except Killed:
            assert resume(name, home=tmp_path).status == "finished"
    assert ending(tmp_path, "killed") == ending(tmp_path, "whole")
    assert found(tmp_path, "killed") == found(tmp_path, "whole")


def test_readers_show_it_and_time_is_booked_to_evaluation(tmp_path: Path) -> None:
    run(alone("seen", steps=6, stages=2), [HERE, "evaluate.every=3"], home=tmp_path)
    with opened(tmp_path, "seen") as (place, ledger):
        read = ledger.reading
        aside = {row.step: row.value or 0.0 for row in read.series("seen", "seconds_evaluate")}
        data = ReportData(ledger, place.run_folder("seen"), "seen")
        history = HistoryPages(read, read.run("seen"))
        points = [p for page in history.pages(Cursor(), covered(read, "seen")) for p in page.curriculum]
        at_boundaries = sum(one.seconds for one in read.boundaries("seen"))
    assert list(aside) == [3, 9]
    assert min(aside.values()) > 0
    assert told(tmp_path, "seen")["seconds"]["evaluate"] == pytest.approx(at_boundaries + sum(aside.values()))
    for chart in (learning_curves.held_out(data), learning_curves.entropy(data)):
        assert all(f"one, step {step}: " in str(chart) for step in (3, 9))
    sent = {(p.name, p.step) for p in points}
    assert {(name, step) for name, step in sent if name.startswith("eval_")} == {
        (f"eval_{metric}/one", step) for metric in ("pass_1", "entropy_token") for step in (3, 9)
    }
    assert ("train/reward", 3) not in sent, "of other numbers the curriculum has every tenth step"


def test_a_fork_may_look_more_often_than_its_parent(tmp_path: Path) -> None:
    run(alone("parent"), [HERE], home=tmp_path)
    fork("parent", 1, overrides=["name=curious", "evaluate.every=2"], home=tmp_path)
    assert {row[0] for row in found(tmp_path, "curious")} == {5}
    assert ending(tmp_path, "curious").weights == ending(tmp_path, "parent").weights
