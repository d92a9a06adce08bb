"""The pool that is set aside for a study's end: read once, by a command that says so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator.runs.api import resume, run
from orchestrator.runs.catalog import opened
from orchestrator.runs.provenance import RunRelations
from orchestrator.spec import load_spec
from orchestrator.studies import final as final_pool
from store.home import Home
from store.ledger import Ledger
from store.records import MemberRecord, StudyRecord
from tests.conftest import Evergreen
from tests.integration.runs import told
from tests.orchestrator.specs import alone, small

RATES = {"a": 0.003, "b": 0.03, "c": 0.3}  # by setting


def made_study(home: Path, environments: Any = None, items: int = 1, labels: str = "ab") -> None:
    """Finished runs of these settings."""
    with Ledger.open(Home(home).ledger_url) as ledger:
        settings = [{"label": label} for label in labels]
        ledger.start_study(StudyRecord("trial", {"settings": settings, "seeds": [3], "compare": {}}))
    spec = alone(character="noisy", steps=1, stages=1)
    spec["environments"] = environments or spec["environments"]
    spec["evaluate"]["items"] = items
    for label in labels:
        member = RunRelations(member=MemberRecord("trial", label, {}))
        run(
            spec,
            [f"learner.lr={RATES[label]}", "scoring.isolation=none"],
            home=home,
            relations=member,
            name=f"trial.{label}",
        )


def test_it_is_read_once_and_recorded_and_compared_by(
    tmp_path: Path, evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_study(tmp_path)
    before = told(tmp_path, "trial.a")
    unread = evergreen("compare", "trial", "--pool", "final", "--home", tmp_path)
    does_it = f"`evergreen final trial --home {tmp_path}` does it, once"
    assert (unread.exit_code, does_it in unread.stderr) == (2, True)

    evaluate, seen = final_pool._evaluate, list[str]()

    def interrupted(ledger, place, name, watcher):  # type: ignore[no-untyped-def]
        if seen:
            raise KeyboardInterrupt
        seen.append(name)
        return evaluate(ledger, place, name, watcher)

    monkeypatch.setattr(final_pool, "_evaluate", interrupted)
    stopped = evergreen("final", "trial", "--home", tmp_path)
    assert "go on with: " in stopped.stderr
    assert stopped.exit_code != 0
    monkeypatch.setattr(final_pool, "_evaluate", evaluate)
    looked = evergreen("final", "trial", "--home", tmp_path)
    assert looked.exit_code == 0, looked.stderr
    assert [line.split()[0] for line in looked.stdout.splitlines()[:-1]] == ["trial.b"], "the other one was done"

    refused = evergreen("final", "trial", "--home", tmp_path)
    assert (refused.exit_code, "is no longer fresh" in refused.stderr) == (2, True)
    with opened(tmp_path, "trial.a") as (_, ledger):
        read = ledger.reading
        pools = {row.purpose: row.sha256 for row in read.holdouts("trial.a")}
        assert set(pools) == {"anchor", "final"}
        assert pools["anchor"] != pools["final"], "other tasks"
        assert [(row.asker, row.environment) for row in read.holdout_queries("trial.a")] == [("final", "one")]
        assert [(cell.after_stage, cell.split) for cell in read.matrix("trial.a", "pass_1", "final")] == [
            (1, "final")
        ] * 2
    after = told(tmp_path, "trial.a")
    assert after["digest"] == before["digest"]
    assert after["matrices"] == before["matrices"], "reports show what they showed"

    seen.clear()
    monkeypatch.setattr(final_pool, "_evaluate", interrupted)
    assert evergreen("final", "trial", "--again", "--home", tmp_path).exit_code != 0
    monkeypatch.setattr(final_pool, "_evaluate", evaluate)
    again = evergreen("final", "trial", "--again", "--home", tmp_path)
    assert (again.exit_code, [line.split()[0] for line in again.stdout.splitlines()[:-1]]) == (0, ["trial.b"])
    events = evergreen("show", "trial.b", "--events", "--home", tmp_path).stdout
    assert "the final pool was read: 1 environment" in events
    assert "the final pool was read, for the 2. time" in events
    shown = evergreen("compare", "trial", "--pool", "final", "--home", tmp_path)
    assert shown.exit_code == 0, shown.stderr
    assert "on the tasks set aside for the end" in shown.stdout
    said, elsewhere = " ".join(shown.stdout.split()), "on the held-out tasks of the boundaries"
    assert f"What carried over {elsewhere}, not on those set aside for the end, mean of the seeds" in said
    page, before = tmp_path / "final.html", evergreen("compare", "trial", "--home", tmp_path)
    assert evergreen("compare", "trial", "--pool", "final", "-o", page, "--home", tmp_path).exit_code == 0
    assert f"What carries over, {elsewhere}" in page.read_text()
    assert (before.exit_code, elsewhere in before.stdout) == (0, False)


def test_of_how_few_tasks_a_final_accuracy_is_is_said(tmp_path: Path, evergreen: Evergreen) -> None:
    """An endless category may hold few distinct tasks: gcd of 1 to 9 has 4 final ones."""
    gcd = {"type": "reasoning_gym", "dataset": "gcd", "categories": {"9": {"min_value": 1, "max_value": 9}}}
    made_study(tmp_path, {"gcd": {**gcd, "max_tokens": 1}, "one": alone()["environments"]["one"]}, items=16)
    looked = evergreen("final", "trial", "--home", tmp_path)
    assert looked.exit_code == 0, looked.stderr
    first = looked.stdout.splitlines()[0]
    assert re.search(r"gcd [\d.]+ \(4 of 16 tasks asked for\)", first)
    assert re.search(r"one [\d.]+$", first)
    events = evergreen("show", "trial.a", "--events", "--home", tmp_path).stdout
    assert "2 environments; fewer tasks than asked for: gcd 4 of 16" in " ".join(events.split())


def test_a_run_that_went_on_has_another_last_policy(tmp_path: Path, evergreen: Evergreen) -> None:
    made_study(tmp_path)
    assert evergreen("final", "trial", "--home", tmp_path).exit_code == 0
    resume("trial.a", stages=2, home=tmp_path)
    unread = evergreen("compare", "trial", "--pool", "final", "--home", tmp_path)
    assert unread.exit_code == 2
    assert "The final pool was not evaluated for trial.a" in " ".join(unread.stderr.split())
    looked = evergreen("final", "trial", "--home", tmp_path)
    assert looked.exit_code == 0, looked.stderr
    assert [line.split()[0] for line in looked.stdout.splitlines()[:-1]] == ["trial.a"]
    with opened(tmp_path, "trial.a") as (_, ledger):
        assert {cell.after_stage for cell in ledger.reading.final_cells("trial.a", "pass_1")} == {2}


def test_runs_on_closed_environments_alone_are_left_out_and_named(tmp_path: Path, evergreen: Evergreen) -> None:
    """They have no final pool; the study's other runs were never read."""
    book = {"book": {"type": "codebook", "keys": 8, "categories": {"4": 4}}}
    made_study(tmp_path, book, labels="a")
    none = evergreen("final", "trial", "--home", tmp_path)
    assert (none.exit_code, "no finished run of study trial has a final pool" in none.stderr) == (2, True)
    made_study(tmp_path, labels="bc")
    looked = evergreen("final", "trial", "--home", tmp_path)
    assert looked.exit_code == 0, looked.stderr
    assert "1 run without a final pool, on closed environments only, and left out: trial.a" in " ".join(
        looked.stderr.split()
    )
    assert [line.split()[0] for line in looked.stdout.splitlines()[:-1]] == ["trial.b", "trial.c"]
    assert "is no longer fresh" in evergreen("final", "trial", "--home", tmp_path).stderr
    among = evergreen("compare", "trial", "--pool", "final", "--home", tmp_path)
    assert (among.exit_code, "No final pool in trial.a: " in " ".join(among.stderr.split())) == (2, True)
    assert evergreen("compare", "trial.b", "trial.c", "--pool", "final", "--home", tmp_path).exit_code == 0


def test_a_study_without_a_finished_run_has_no_end_yet(tmp_path: Path, evergreen: Evergreen) -> None:
    with Ledger.open(Home(tmp_path).ledger_url) as ledger:
        ledger.start_study(StudyRecord("trial", {"settings": [], "seeds": []}))
    refused = evergreen("final", "trial", "--home", tmp_path)
    assert (refused.exit_code, "no run of study trial is finished" in refused.stderr) == (2, True)


def test_the_policy_of_a_run_on_several_ranks_is_looked_at_by_one_process() -> None:
    """Its replicas were kept beside one rank: "1 rank cannot be 2 replicas"."""
    of_run = load_spec({**small("trial"), "resources": {"ranks": 4, "replicas": 2}}).model_dump(mode="json")
    resources = load_spec(of_run, final_pool.ONE_PROCESS).resources
    assert (resources.ranks, resources.replicas) == (1, 1)
