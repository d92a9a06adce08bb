"""A run and its tracker: started beside it, waited for at its end, caught up later."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import orchestrator
from orchestrator.callbacks import Callback
from orchestrator.runs import tracker_process
from orchestrator.runs.api import resume
from orchestrator.runs.tracker_process import TrackerProcess, job_of, jobs
from store.home import Home
from store.tracker.daemon import turn
from store.tracker.record import Target
from tests.orchestrator.specs import alone
from tests.store.tracker.content import names, series
from tests.store.tracker.databases import empty


@dataclass
class Heard(Callback):
    """Notes what a person would be told."""

    phases: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def phase(self, text: str) -> None:
        self.phases.append(text)

    def event(self, texts: Sequence[str]) -> None:
        self.events.extend(texts)


@pytest.fixture
def place(tmp_path: Path) -> Home:
    """A home that has MLflow's empty tables already."""
    place = Home(tmp_path / "home")
    empty(place.path)
    return place


def target_in(place: Home) -> Target:
    return Target(place.mlflow_uri, "evergreen", place.mlflow_artifacts.as_uri())


def sections(**tracker: Any) -> dict[str, Any]:
    return {
        "tracker": {"type": "mlflow", "uri": None, "experiment": "evergreen", **tracker},
        "ledger": {"url": None},
    }


def test_the_home_folder_keeps_the_record_unless_the_spec_names_a_place(place: Home) -> None:
    job = job_of(sections(), place, "a")
    assert job is not None
    assert job.target == target_in(place)
    assert (job.folder, job.ledger_url) == (str(place.run_folder("a")), place.ledger_url)
    job = job_of(sections(uri="http://host:5000", experiment="ours"), place, "a")
    assert job is not None
    assert job.target == Target("http://host:5000", "ours", None)  # a server keeps files itself
    assert job_of(sections(type="none"), place, "a") is None


def test_a_run_is_in_mlflow_when_it_returns_and_resuming_it_brings_a_lost_record_back(
    place: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker_process, "WAIT_S", 200.0)  # whatever else this machine does
    heard = Heard()
    spec = {**alone(), "tracker": "mlflow"}
    assert orchestrator.run(spec, home=place.path, watcher=heard).status == "finished"
    assert heard.phases[-1].startswith("sending the rest of the record to MLflow")
    assert heard.events == []
    sent = series(target_in(place))
    assert names(target_in(place)) == ["01 one (alone)", "02 one (alone)", "alone"]
    assert [job.run for job in jobs(place)] == ["alone"]

    for path in place.path.glob("mlflow.db*"):
        path.unlink()
    empty(place.path)
    assert resume("alone", home=place.path).status == "finished"
    assert series(target_in(place)) == sent


def test_a_run_never_waits_long_for_mlflow(place: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker_process, "WAIT_S", 0.5)
    heard, spec = Heard(), {**alone(), "tracker": {"type": "mlflow", "uri": "http://127.0.0.1:9"}}
    assert orchestrator.run(spec, home=place.path, watcher=heard).status == "finished"
    (event,) = heard.events
    assert "`evergreen ui` or `evergreen resume alone` brings it up to date" in event
    with turn(place.run_folder("alone"), 30):
        pass  # its tracker, which would have gone on for minutes, has let go


def test_a_tracker_that_dies_hurts_nobody_and_its_last_words_are_told(place: Home) -> None:
    place.make_run_folder("lost")
    heard, tracker = Heard(), TrackerProcess(sections(), place, "lost")  # there is no ledger
    tracker.finish(heard)
    (event,) = heard.events
    assert "gave up: There is no ledger" in event
    assert "tracker.log" in event


def test_the_tracker_is_started_in_a_moment_and_out_of_reach_of_ctrl_c(
    place: Home,
) -> None:
    place.make_run_folder("lost")
    begun = time.monotonic()
    tracker = TrackerProcess(sections(), place, "lost")
    assert time.monotonic() - begun < 2
    assert tracker.process is not None
    assert os.getsid(tracker.process.pid) != os.getsid(0)
    tracker.finish(Heard())


def test_no_tracker_leaves_no_trace(tmp_path: Path) -> None:
    heard = Heard()
    assert orchestrator.run(alone(stages=1), home=tmp_path, watcher=heard).status == "finished"
    assert not [path.name for path in tmp_path.rglob("*") if "mlflow" in path.name or "tracker" in path.name]
    assert heard.phases == [] or not heard.phases[-1].startswith("sending")
