"""A disk that takes no more, or nothing at all: the run stops, says what is safe, and goes on bit for bit."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.runs.api import run
from orchestrator.runs.catalog import opened
from policies.policy import Policy
from store.ledger import engine
from tests.conftest import Evergreen
from tests.integration.runs import ending, told
from tests.orchestrator.specs import alone, small, written
from tests.shares import share

Break = Callable[[], None]


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Break]:
    """Make fsync fail for paths with these words in them, from the nth such call on; returns what mends it."""

    def break_(number: int, *words: str, after: int = 0) -> Break:
        real, seen = os.fsync, [0]

        def fsync(descriptor: int) -> None:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            seen[0] += all(word in path for word in words)
            if seen[0] > after and all(word in path for word in words):
                raise OSError(number, os.strerror(number))
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        return lambda: monkeypatch.setattr(os, "fsync", real)

    return break_


@pytest.mark.parametrize("number", share([errno.ENOSPC, errno.EROFS], 1))
def test_a_checkpoint_that_cannot_be_written_stops_the_run_and_loses_nothing(
    tmp_path: Path, evergreen: Evergreen, full: Callable[..., Break], number: int
) -> None:
    run(alone("whole"), home=tmp_path)
    mend = full(number, "checkpoints", "boundary-003")
    stopped = evergreen("run", written(tmp_path, alone()), "--home", tmp_path)
    said = " ".join(stopped.stderr.split())
    assert stopped.exit_code == 75
    folder = tmp_path / "alone" / "checkpoints" / "step-000006-boundary-003"
    assert f"{folder} cannot be written: {os.strerror(number)}" in said
    assert "Nothing is lost: the newest checkpoint is of step 5" in said
    assert f"Go on with: evergreen resume alone --home {tmp_path}" in said
    assert told(tmp_path, "alone")["status"] == "stopped"
    assert not list(folder.parent.glob(".aside-*"))
    mend()
    assert evergreen("resume", "alone", "--home", tmp_path).exit_code == 0
    assert ending(tmp_path, "alone") == ending(tmp_path, "whole")


def test_a_ledger_that_is_full_stops_the_run_and_loses_nothing(
    tmp_path: Path, evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(alone("whole", stages=5), home=tmp_path / "whole")
    pragmas = engine._PRAGMAS
    evergreen("run", written(tmp_path, alone(stages=5)), "--home", tmp_path, "--until-step", 1)
    with opened(tmp_path) as (_, ledger), ledger.engine.connect() as connection:
        num_pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    monkeypatch.setattr(engine, "_PRAGMAS", (*pragmas, f"max_page_count = {num_pages + 2}"))
    stopped = evergreen("resume", "alone", "--home", tmp_path)
    said = " ".join(stopped.stderr.split())
    assert stopped.exit_code == 75
    assert "the ledger cannot be written: database or disk is full. Nothing is lost: the newest checkpoint" in said
    assert "Go on with: evergreen resume alone" in said
    monkeypatch.setattr(engine, "_PRAGMAS", pragmas)
    assert evergreen("resume", "alone", "--home", tmp_path).exit_code == 0
    assert ending(tmp_path, "alone").digest_all == ending(tmp_path / "whole", "whole").digest_all


def test_a_warm_start_that_cannot_be_kept_stops_the_run(
    tmp_path: Path, evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Policy.save

    def save(policy: Policy, folder: Path) -> None:
        if "warm_starts" in str(folder):  # as safetensors tells it
            raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
        real(policy, folder)

    monkeypatch.setattr(Policy, "save", save)
    stopped = evergreen("run", written(tmp_path, small()), "--home", tmp_path, "--until-step", 1)
    assert stopped.exit_code == 75
    said = " ".join(stopped.stderr.split())
    assert f"{tmp_path / 'small'} cannot be written: No space left on device. It has no checkpoint yet" in said
    monkeypatch.undo()
    assert evergreen("resume", "small", "--home", tmp_path, "--until-step", 1).exit_code == 75


def test_a_fork_that_has_no_room_for_its_checkpoint_is_not_begun(
    tmp_path: Path, evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(source: object, target: object, **how: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    def is_full(source: object, target: object, **how: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), target)

    run(alone(), home=tmp_path, until_step=4)
    with monkeypatch.context() as patched:
        patched.setattr(os, "link", refused)
        patched.setattr(shutil, "copy2", is_full)
        failed = evergreen("fork", "alone", "--stage", 1, "--set", "name=child", "--home", tmp_path)
    assert failed.exit_code == 2
    said = " ".join(failed.stderr.split())
    assert f"{tmp_path / 'child' / 'checkpoints' / 'step-000003-boundary-002'} cannot be written: No space left" in said
    assert not (tmp_path / "child").exists()
    assert evergreen("fork", "alone", "--stage", 1, "--set", "name=child", "--home", tmp_path).exit_code == 0


def test_a_run_whose_spec_cannot_be_written_is_not_begun(
    tmp_path: Path, evergreen: Evergreen, full: Callable[..., Break]
) -> None:
    mend = full(errno.ENOSPC, "spec.yaml")
    refused = evergreen("run", written(tmp_path, alone()), "--home", tmp_path / "home")
    assert refused.exit_code == 2
    assert f"{tmp_path / 'home' / 'alone' / 'spec.yaml'} cannot be written: No space left" in refused.stderr
    assert not (tmp_path / "home" / "alone").exists()
    mend()
    assert evergreen("run", written(tmp_path, alone()), "--home", tmp_path / "home").exit_code == 0


@pytest.mark.parametrize(
    "words",
    [
        ("report", "small", "-o", "PLACE/page.html"),
        ("compare", "small", "flat", "-o", "PLACE/page.html"),
        ("export", "small", "PLACE/tables"),
        ("weights", "small", "PLACE/weights"),
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_what_cannot_be_written_elsewhere_is_told_with_its_path(
    finished: Path, tmp_path: Path, evergreen: Evergreen, full: Callable[..., Break], words: Any, number: int
) -> None:
    full(number, str(tmp_path))
    place = [word.replace("PLACE", str(tmp_path)) for word in words]
    refused = evergreen(*place, "--home", finished)
    assert refused.exit_code == 2, refused.output
    assert f"{place[-1]} cannot be written: {os.strerror(number)}" in " ".join(refused.stderr.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("weights", "small", "PLACE/weights"), "weights"),
        (("fork", "small", "--stage", "2", "--set", "name=child"), "step-000006-boundary-003"),
    ],
    ids=["weights", "fork"],
)
def test_a_disk_that_is_full_while_a_checkpoint_is_copied_is_told(
    finished: Path, tmp_path: Path, evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch, words: Any, what: str
) -> None:
    def refuse(number: int) -> Callable[..., None]:
        def refused(*_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        return refused

    home = tmp_path / "home"
    shutil.copytree(finished, home)
    monkeypatch.setattr(os, "link", refuse(errno.EXDEV))  # another disk
    monkeypatch.setattr(os, "sendfile", refuse(errno.ENOSPC))  # with which files are copied
    said = evergreen(*(word.replace("PLACE", str(tmp_path)) for word in words), "--home", home)
    assert said.exit_code == 2, said.output
    assert f"{what} cannot be written: {os.strerror(errno.ENOSPC)}" in " ".join(said.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert not list(home.rglob(".aside-*"))
