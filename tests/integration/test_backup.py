"""Backups of a home whose runs go on: what is restored goes on as the run did, whenever the copy was taken."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest

import orchestrator
from orchestrator.errors import StoppedEarly
from orchestrator.runs.catalog import opened
from store import backup
from store.backup import back_up, restore
from store.errors import CheckpointError, HomeError
from store.files import write_text
from store.ledger import Ledger
from tests.conftest import Evergreen
from tests.integration.runs import At, ending, told
from tests.integration.test_earlier_homes import HOMES
from tests.orchestrator.specs import alone, small
from tests.shares import share

OFTEN = ["checkpoint.every_steps=1", "checkpoint.keep=1"]  # what is copied is deleted again soon


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody touched."""
    home = tmp_path_factory.mktemp("whole")
    orchestrator.run(small(), OFTEN, home=home)
    return home


@pytest.mark.parametrize("n", share([6, 1, 3, 9, 13], 1))
def test_a_copy_taken_in_mid_run_goes_on_to_the_same_end(tmp_path: Path, whole: Path, n: int) -> None:
    copy = At(n, lambda: back_up(tmp_path / "home", tmp_path / "copy") and None)
    orchestrator.run(small(), OFTEN, home=tmp_path / "home", watcher=copy)
    restore(tmp_path / "copy", tmp_path / "again")
    assert ending(tmp_path / "home", "small") == ending(whole, "small"), "a backup disturbs nothing"
    orchestrator.resume("small", home=tmp_path / "again")
    assert ending(tmp_path / "again", "small") == ending(whole, "small")


@pytest.mark.slow
def test_copies_taken_all_the_time_are_each_whole(tmp_path: Path, whole: Path) -> None:
    """From another thread, as another process would: at no moment in particular."""
    home, over, taken = tmp_path / "home", threading.Event(), []

    def copy_again_and_again() -> None:
        while not over.is_set():
            if (home / "small" / "spec.yaml").is_file():
                target = tmp_path / f"copy-{len(taken)}"
                if taken and len(taken) % 3:  # most bring the last one up to date
                    shutil.copytree(taken[-1], target)
                back_up(home, target)
                taken.append(target)

    thread = threading.Thread(target=copy_again_and_again)
    thread.start()
    try:
        orchestrator.run(small(), OFTEN, home=home)
    finally:
        over.set()
        thread.join()
    assert len(taken) > 3
    for target in taken[:: max(1, len(taken) // 6)]:
        again = target.with_name(f"{target.name}-again")
        restore(target, again)
        orchestrator.resume("small", home=again)
        assert ending(again, "small") == ending(whole, "small"), target


def test_a_second_backup_copies_what_is_new_and_keeps_what_the_home_has_lost(tmp_path: Path) -> None:
    home, copy = tmp_path / "home", tmp_path / "copy"
    orchestrator.run(alone("one"), home=home)
    first = back_up(home, copy)
    before = {path: path.stat().st_ino for path in (copy / "one" / "checkpoints").rglob("*.safetensors")}
    orchestrator.run(alone("two"), home=home)
    shutil.rmtree(home / "one")
    second = back_up(home, copy)
    assert (first.runs, second.runs, second.gone) == (1, 2, ("one",))
    assert before
    assert all(path.stat().st_ino == inode for path, inode in before.items())
    restore(copy, tmp_path / "again")
    assert told(tmp_path / "again", "two")["digest"] == told(home, "two")["digest"]


@pytest.mark.parametrize("schema", ["0001", "0003"])
def test_a_home_of_an_earlier_schema_is_copied_as_it_is_and_upgraded_after(tmp_path: Path, schema: str) -> None:
    shutil.copytree(HOMES / schema, tmp_path / "home")
    back_up(tmp_path / "home", tmp_path / "copy")
    restore(tmp_path / "copy", tmp_path / "again")
    Ledger.upgrade(f"sqlite:///{tmp_path / 'again' / 'evergreen.db'}")
    assert orchestrator.resume("stopped", home=tmp_path / "again").status == "finished"


def test_an_emptied_home_does_not_empty_its_backup(tmp_path: Path) -> None:
    home, copy = tmp_path / "home", tmp_path / "copy"
    orchestrator.run(alone(), home=home)
    back_up(home, copy)
    shutil.rmtree(home)
    home.mkdir()
    with pytest.raises(HomeError, match="evergreen restore"):
        back_up(home, copy)
    restore(copy, home)
    assert told(home, "alone")["digest"]


def test_a_checkpoint_that_is_damaged_in_the_home_is_named_and_left_out(tmp_path: Path) -> None:
    home, copy = tmp_path / "home", tmp_path / "copy"
    orchestrator.run(alone(), home=home)
    newest = max((home / "alone" / "checkpoints").iterdir())
    weights = next(newest.rglob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])
    made = back_up(home, copy)
    assert made.damaged == (f"alone/checkpoints/{newest.name}",)
    restore(copy, tmp_path / "again")
    orchestrator.resume("alone", home=tmp_path / "again", stages=3)


def test_a_damaged_backup_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    home, copy, again = tmp_path / "home", tmp_path / "copy", tmp_path / "again"
    orchestrator.run(alone(), home=home)
    back_up(home, copy)
    weights = next((copy / "alone").rglob("*.safetensors"))
    good = weights.read_bytes()
    weights.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    with pytest.raises(CheckpointError, match="has changed"):
        restore(copy, again)
    weights.write_bytes(good)
    ledger = copy / "evergreen.db"
    ledger.write_bytes(ledger.read_bytes()[:4096] + b"\xff" * 9000)
    with pytest.raises(HomeError, match="damaged"):
        restore(copy, again)
    assert not again.exists()


def test_what_is_no_backup_and_what_is_not_empty_are_left_alone(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    orchestrator.run(alone(), home=home)
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    for target in (other, other / "mine.txt"):
        with pytest.raises(HomeError, match="no backup"):
            back_up(home, target)
    for target in (home / "inside", tmp_path):
        with pytest.raises(HomeError, match="hold one another"):
            back_up(home, target)
    with pytest.raises(HomeError, match="is no backup"):
        restore(other, tmp_path / "new")
    back_up(home, tmp_path / "copy")
    with pytest.raises(HomeError, match="not empty"):
        restore(tmp_path / "copy", other)
    assert [path.name for path in other.iterdir()] == ["mine.txt"]


def test_a_backup_that_was_interrupted_is_none_until_it_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, copy = tmp_path / "home", tmp_path / "copy"
    orchestrator.run(alone(), home=home)

    def full(*args: object) -> None:
        raise StoppedEarly("in the middle")

    with monkeypatch.context() as patched:
        patched.setattr(backup, "_copy_database", full)
        with pytest.raises(StoppedEarly):
            back_up(home, copy)
    with pytest.raises(HomeError, match="not finished"):
        restore(copy, tmp_path / "again")
    back_up(home, copy)
    restore(copy, tmp_path / "again")
    assert told(tmp_path / "again", "alone")["digest"] == told(home, "alone")["digest"]


def test_the_commands_say_what_they_did_and_what_comes_next(tmp_path: Path, evergreen: Evergreen) -> None:
    home = tmp_path / "home"
    orchestrator.run(alone(), home=home)
    with opened(home, "alone") as (place, _):
        spec = place.run_folder("alone") / "spec.yaml"
    write_text(spec, spec.read_text().replace("url: null", 'url: "postgresql://u:it\'s-secret@db/evergreen"'))
    said = evergreen("backup", str(tmp_path / "a copy"), "--home", str(home))
    assert said.exit_code == 0
    assert all(word in said.output for word in ("1 run", "pg_dump"))
    assert "secret" not in said.output
    assert f"evergreen restore '{tmp_path}/a copy' --home NEW" in " ".join(said.output.split()), "to be pasted"
    said = evergreen("restore", str(tmp_path / "a copy"), "--home", str(tmp_path / "again"))
    assert said.exit_code == 0
    assert "doctor" in said.output
    assert json.loads((tmp_path / "a copy" / "backup.json").read_text())["runs"] == 1
    assert evergreen("restore", str(tmp_path / "a copy"), "--home", str(home)).exit_code == 2
