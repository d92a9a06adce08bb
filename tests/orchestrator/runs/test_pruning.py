from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from sqlalchemy import text

import orchestrator
from orchestrator.runs.catalog import opened
from orchestrator.runs.pruning import prune, size_on_disk
from store.lock import entry_lock, run_lock
from tests.conftest import Evergreen
from tests.integration.runs import ending
from tests.orchestrator.specs import small


@pytest.fixture
def home(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished home, to delete in."""
    copy = tmp_path / "home"
    shutil.copytree(finished, copy)
    return copy


def kinds(home: Path, name: str) -> list[str]:
    with opened(home, name) as (_, ledger):
        return [record.kind for record in ledger.reading.checkpoints(name)]


def size(home: Path) -> int:
    return size_on_disk([home])


def test_checkpoints_between_boundaries_go_and_what_is_said_to_be_freed_is(home: Path) -> None:
    before, weights = size(home), ending(home, "small").weights
    assert "periodic" in kinds(home, "small")
    said = prune(home, ["small"], dry_run=True)
    assert size(home) == before
    freed = prune(home, ["small"])
    assert freed == said
    assert size(home / "small") < before
    assert freed[0].num_bytes > 0
    assert kinds(home, "small") == ["boundary"] * 4
    assert ending(home, "small").weights == weights
    assert orchestrator.fork("small", 1, home=home).status == "finished"


def test_the_disk_shrinks_by_what_is_said(home: Path) -> None:
    folder = home / "small" / "checkpoints"
    before = size(folder)
    (freed,) = prune(home, ["small"], boundaries=True)
    assert before - size(folder) == freed.num_bytes
    assert kinds(home, "small") == ["boundary"]


def test_a_stopped_run_keeps_what_it_needs_to_go_on(finished: Path, tmp_path: Path) -> None:
    orchestrator.run(small(objective="repo_r"), home=tmp_path / "cut", until_step=5)
    prune(tmp_path / "cut", boundaries=True, warm_starts=True)
    assert len(kinds(tmp_path / "cut", "small")) == 1
    orchestrator.resume("small", home=tmp_path / "cut")
    assert ending(tmp_path / "cut", "small") == ending(finished, "small")


@pytest.mark.slow
def test_files_that_a_fork_shares_are_not_counted_as_freed(home: Path) -> None:
    orchestrator.fork("small", 3, home=home, overrides=["curriculum.stages=4", "checkpoint.every_steps=0"])
    (freed,) = prune(home, ["small-fork"], boundaries=True)
    assert (freed.num_items, freed.num_bytes) == (1, 0), "its first checkpoint is its parent's too"


def test_a_run_in_use_is_left_alone(home: Path) -> None:
    with run_lock(home / "small"):
        (freed,) = prune(home, ["small"])
    assert freed.skipped is not None
    assert freed.skipped.startswith("in use by process")
    assert "periodic" in kinds(home, "small")


def test_leftovers_of_a_crash_go_too(home: Path) -> None:
    leftover = home / "small" / "checkpoints" / ".aside-1-step"
    leftover.mkdir()
    (leftover / "half").write_bytes(b"x" * 5000)
    prune(home, ["small"])
    assert not leftover.exists()


def test_what_was_put_aside_since_it_diverged_goes_too(home: Path) -> None:
    newest = max((home / "small" / "checkpoints").iterdir())
    copy = newest.with_name("step-000003-boundary-001.diverged-2")
    shutil.copytree(newest, copy)
    before = prune(home, ["small"], dry_run=True)
    assert prune(home, ["small"]) == before
    assert not copy.exists()
    assert newest.exists()


def test_a_warm_start_that_a_run_makes_or_takes_is_left_alone(home: Path) -> None:
    cache, made = home / "warm_starts", "0" * 32
    taken, *others = cache.iterdir()
    (cache / f".aside-1-{made}").mkdir()  # a leftover, if nobody made it
    (cache / f".aside-1-{'1' * 32}").mkdir()

    def gives_up() -> None:
        raise TimeoutError

    with entry_lock(cache / made, gives_up), entry_lock(taken, gives_up, shared=True):
        (freed,) = [one for one in prune(home, warm_starts=True) if one.what == "warm starts"]
    assert (freed.num_items, freed.kept) == (len(others), "2 in use")
    assert {path.name for path in cache.iterdir()} == {taken.name, f".aside-1-{made}"}
    prune(home, warm_starts=True)
    assert list(cache.iterdir()) == []


def test_what_is_not_ours_stays(home: Path) -> None:
    (elsewhere := home.parent / "elsewhere").mkdir()
    for folder in (home / "small" / "checkpoints", home / "warm_starts"):
        (folder / ".DS_Store").touch()
        (folder / "mine").mkdir()
        (folder / "link").symlink_to(elsewhere)
    prune(home, warm_starts=True)
    assert sorted(path.name for path in (home / "warm_starts").iterdir()) == [".DS_Store", "link", "mine"]
    left = {path.name for path in (home / "small" / "checkpoints").iterdir()}
    assert {".DS_Store", "link", "mine"} < left


def test_a_run_whose_newest_checkpoint_is_damaged_keeps_the_newest_whole_one(home: Path) -> None:
    folder = home / "small" / "checkpoints"
    newest = max(folder.iterdir())
    (newest / "manifest.json").unlink()
    prune(home, ["small"], boundaries=True)
    assert [path.name for path in sorted(folder.iterdir())] == ["step-000008-boundary-003", newest.name]
    assert orchestrator.resume("small", home=home, stages=4).status == "finished"


def test_a_damaged_checkpoint_that_the_run_went_back_behind_goes_and_a_whole_one_waits(home: Path) -> None:
    folder = home / "small" / "checkpoints"
    with opened(home) as (_, ledger), ledger.engine.begin() as connection:
        connection.execute(text("DELETE FROM checkpoint WHERE step > 6"))
    damaged, whole = sorted(folder.iterdir())[-2:]
    (damaged / "manifest.json").write_text("{}")
    prune(home, ["small"])
    assert not damaged.exists()
    assert whole.exists()


def test_the_command_says_what_and_how_much(evergreen: Evergreen, home: Path) -> None:
    planned = evergreen("prune", "--dry-run", "--warm-starts", "--home", home)
    assert planned.exit_code == 0
    assert "would be freed" in planned.stdout
    facts = json.loads(evergreen("prune", "--warm-starts", "--json", "--home", home).stdout)
    assert {one["what"] for one in facts} >= {"small", "flat", "warm starts"}
    assert evergreen("prune", "nobody", "--home", home).exit_code == 2
    assert not list((home / "warm_starts").iterdir())
