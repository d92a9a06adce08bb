"""What becomes of MLflow's record when a run is removed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from store.errors import TrackerError
from store.lock import is_locked
from store.tracker import daemon, places, record
from store.tracker.daemon import LOCK, TrackerJob, forget, turn
from store.tracker.record import MlflowRecord, Target
from store.tracker.sync import Source, catch_up
from tests.store.tracker.conftest import Copy
from tests.store.tracker.content import names


def job_of(source: Source, target: Target) -> TrackerJob:
    return TrackerJob(source.run, str(source.folder), source.url, target)


@pytest.mark.slow
def test_a_runs_record_goes_and_the_others_stay(source_of: Copy, target: Target) -> None:
    small, flat = source_of("small"), source_of("flat")
    for source in (small, flat):
        catch_up(source, MlflowRecord(target))
    before = names(target)
    uid = small.read.run("small").uid
    assert not forget(job_of(small, target), None), "it is left where that is wanted"
    assert names(target) == before
    assert forget(job_of(small, target), uid)
    assert names(target) == [name for name in before if "flat" in name] != []
    assert not forget(job_of(small, target), uid)


@pytest.mark.slow
def test_it_goes_from_the_places_of_earlier_specs_too(source_of: Copy, target: Target, other: Target) -> None:
    source = source_of()
    uid = source.read.run("small").uid
    second = replace(target, experiment="second")
    for place in (target, second, other):
        catch_up(source, MlflowRecord(place))
    assert forget(job_of(source, second), uid) == ["MLflow"]
    assert names(target) == names(other) == names(second) == []
    assert not forget(job_of(source, second), uid)


def test_an_earlier_place_that_cannot_be_asked_is_named_and_the_others_are_asked(
    source_of: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, asked = source_of(), list[Target]()
    gone, kept, now = (Target(f"http://{host}:5000", "x", None) for host in ("gone", "me:***@kept", "now"))

    def ask(target: Target, uid: str) -> bool:
        asked.append(target)
        if target == gone:
            raise TrackerError("Nobody answers at gone.")
        return True

    for place in (gone, replace(kept, uri="http://me:secret@kept:5000"), now, now):
        places.remember(source.folder, place)
    assert "secret" not in (source.folder / places.FILE).read_text()
    monkeypatch.setattr(daemon, "_forget_in_mlflow", ask)
    monkeypatch.setenv("EVERGREEN_TRACKER_PASSWORD", "secret")
    with pytest.raises(TrackerError, match=r"at gone\. What its experiment 'x' has of the run stays\.$"):
        forget(job_of(source, now), "uid")
    assert asked == [now, gone, replace(kept, uri="http://me:secret@kept:5000")]


def test_a_database_in_a_copied_home_is_that_of_the_copy(tmp_path: Path) -> None:
    for home in ("first", "second"):
        (tmp_path / home / "run").mkdir(parents=True)
    first, second = (Target(f"sqlite:///{tmp_path / home / 'mlflow.db'}", "x", None) for home in ("first", "second"))
    places.remember(tmp_path / "first" / "run", first)
    shutil.copy(tmp_path / "first" / "run" / places.FILE, tmp_path / "second" / "run")
    assert places.earlier(tmp_path / "second" / "run", None) == [second]
    assert places.earlier(tmp_path / "second" / "run", second) == []


def test_where_no_record_is_none_is_made(source_of: Copy, tmp_path: Path, target: Target) -> None:
    source = source_of()
    absent = Target(f"sqlite:///{tmp_path / 'none.db'}", "evergreen", None)
    assert not forget(job_of(source, absent), "uid")
    assert not (tmp_path / "none.db").exists()
    assert not forget(job_of(source, Target(target.uri, "another", target.artifacts)), "uid")
    assert MlflowRecord.of(Target(target.uri, "another", target.artifacts)) is None


def test_a_tracker_that_sends_the_run_lets_go_first(
    source_of: Copy, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of()
    heard: list[bool] = []
    with turn(source.folder, 1.0) as is_mine:
        monkeypatch.setattr(daemon, "TURN_S", 0.2)
        monkeypatch.setattr(record, "POLL_S", 0.05)
        monkeypatch.setattr(record.time, "sleep", lambda seconds: heard.append(is_mine()))
        with pytest.raises(TrackerError, match="another tracker is sending"):
            forget(job_of(source, target), "uid")
        assert set(heard) == {False}, "it is told that it is not wanted any more"
        assert is_mine(), "who waited in vain leaves it the run"
    assert not is_locked(source.folder / LOCK)
    assert not forget(job_of(source, target), "uid")
