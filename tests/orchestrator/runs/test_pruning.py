from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

import orchestrator
from orchestrator.rollout.player import Player
from orchestrator.runs.catalog import opened
from orchestrator.runs.pruning import prune, size_on_disk
from orchestrator.runs.ranks import START
from policies.errors import NonFiniteLogits
from store.lock import entry_lock, run_lock
from tests.conftest import Evergreen
from tests.integration.runs import ending
from tests.orchestrator.specs import alone, small


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
    assert kinds(tmp_path / "cut", "small") == ["periodic", "boundary"]
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


@pytest.mark.parametrize("place", ["checkpoints/.aside-1-step", f"{START}abc"])
def test_leftovers_of_a_crash_go_too(home: Path, place: str) -> None:
    leftover = home / "small" / place
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
    kept = ["step-000006-boundary-003", "step-000008-boundary-003", newest.name]
    assert [path.name for path in sorted(folder.iterdir())] == kept
    assert orchestrator.resume("small", home=home, stages=4).status == "finished"


EVERY_STEP = {"every_steps": 1, "background": False}


@pytest.mark.parametrize("boundaries", [False, True])
def test_a_diverged_run_keeps_the_checkpoint_that_it_goes_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boundaries: bool
) -> None:
    real = Player.play

    def play(
        self: Player, tasks: Any, size: int, sampling: Any, stream: str, step: int, *rest: Any, **more: Any
    ) -> Any:
        if step == 5:
            raise NonFiniteLogits("logits that are not finite", self.policy.version)
        return real(self, tasks, size, sampling, stream, step, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Player, "play", play)
        outcome = orchestrator.run({**alone(steps=6, stages=1), "checkpoint": EVERY_STEP}, home=tmp_path)
    assert "diverged at step 5" in str(outcome.reason)
    prune(tmp_path, boundaries=boundaries)
    with opened(tmp_path, "alone") as (_, ledger):
        assert [record.step for record in ledger.reading.checkpoints("alone")] == [4, 3, 0], "4 is what diverged"
    assert orchestrator.resume("alone", home=tmp_path).status == "finished"
    with opened(tmp_path, "alone") as (_, ledger):
        resumed = [event.step for event in ledger.reading.events("alone") if event.kind == "resumed"]
    assert resumed == [3]


def test_the_start_of_the_stage_under_way_stays_for_a_guard_that_goes_back_to_it(tmp_path: Path) -> None:
    guard = {"when": "response_len > 0", "steps": 2, "action": "roll_back", "most": 9}
    spec = {**alone(steps=4), "checkpoint": EVERY_STEP, "guards": {"of": [guard]}}
    orchestrator.run(spec, home=tmp_path / "whole")
    orchestrator.run(spec, home=tmp_path / "cut", until_step=5)
    prune(tmp_path / "cut", boundaries=True)
    assert kinds(tmp_path / "cut", "alone") == ["periodic", "boundary"]
    assert orchestrator.resume("alone", home=tmp_path / "cut").status == "finished"
    assert ending(tmp_path / "cut", "alone") == ending(tmp_path / "whole", "alone")


def averaging(name: str, *origins: str) -> list[str]:
    """Change a fork: it averages its weights with older ones after every stage."""
    asked = [{"type": "average", "of": origin} for origin in origins]
    return [f"name={name}", "curriculum.stages=4", f"curriculum.boundary={json.dumps({'interventions': asked})}"]


def test_boundaries_that_interventions_of_forks_read_stay(tmp_path: Path) -> None:
    orchestrator.run(alone(steps=1, stages=4), home=tmp_path)
    orchestrator.fork("alone", 2, overrides=averaging("child", "base", "previous"), home=tmp_path, until_step=3)
    orchestrator.fork("child", 2, overrides=["name=grandchild"], home=tmp_path, until_step=3)
    prune(tmp_path, boundaries=True)
    kept = sorted(path.name for path in (tmp_path / "alone" / "checkpoints").iterdir())
    stages = (0, 1, 4)  # 2 they have themselves
    assert kept == [f"step-{stage:06d}-boundary-{stage + 1:03d}" for stage in stages]
    assert orchestrator.resume("child", home=tmp_path).status == "finished"
    assert orchestrator.resume("grandchild", home=tmp_path).status == "finished"
    shutil.rmtree(tmp_path / "child")
    shutil.rmtree(tmp_path / "grandchild")
    prune(tmp_path, ["alone"], boundaries=True)
    assert kinds(tmp_path, "alone") == ["boundary"]


def test_a_run_that_keeps_few_boundaries_by_itself_keeps_those_that_its_forks_read(tmp_path: Path) -> None:
    spec = {**alone(steps=1, stages=4), "checkpoint": {"boundaries": "none", "keep": 1}}
    orchestrator.run(spec, home=tmp_path, until_step=2)
    orchestrator.fork("alone", 1, overrides=averaging("child", "base"), home=tmp_path, until_step=2)
    orchestrator.resume("alone", home=tmp_path)
    with opened(tmp_path, "alone") as (_, ledger):
        lasting = [record.num_boundaries for record in ledger.reading.checkpoints("alone") if record.kind == "boundary"]
    assert lasting == [5, 4, 1]
    assert orchestrator.resume("child", home=tmp_path).status == "finished"


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
