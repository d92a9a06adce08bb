"""Backups of small made-up homes: what happens to runs, disks and other processes while one copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from store import checkpoints
from store.backup import back_up, restore
from store.checkpoints import Component
from store.home import Home
from store.ledger import Ledger
from store.ledger.names import RunHandle
from store.records import CheckpointRecord
from tests.store.ledger.example import begin


class LittleHome:
    """A home with a ledger and runs of small checkpoints."""

    def __init__(self, path: Path) -> None:
        self.home = Home(path)
        self.path = path
        self.ledger = Ledger.open(self.home.ledger_url)
        self._handles: dict[str, RunHandle] = {}

    def begin(self, name: str, *steps: int) -> Path:
        """Begin a run, with a checkpoint after each of these steps."""
        folder = self.home.make_run_folder(name)
        (folder / "spec.yaml").write_text(f"name: {name}\n")
        self._handles[name] = begin(self.ledger, name)
        for step in steps:
            self.checkpoint(name, step)
        return folder

    def checkpoint(self, name: str, step: int, size: int = 100) -> Path:
        """Make a checkpoint of a run."""
        parts = [Component(part, 1, _writer(bytes([step]) * size)) for part in ("weights", "optimizer")]
        saved = checkpoints.save(self.path / name, f"step-{step:06}", parts)
        record = CheckpointRecord(step, 1, "periodic", saved.folder, saved.sha256, saved.num_bytes)
        self.ledger.record_checkpoint(self._handles[name], record)
        return self.path / name / saved.folder


def _writer(content: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "state.bin").write_bytes(content)

    return write


@pytest.fixture
def little(tmp_path: Path) -> Iterator[LittleHome]:
    home = LittleHome(tmp_path / "home")
    with home.ledger:
        yield home


def once(what: Callable[[], object]) -> Callable[[str], None]:
    """Do something when the first run is about to be copied."""
    waiting = [what]

    def tell(_: str) -> None:
        if waiting:
            waiting.pop()()

    return tell


@pytest.mark.parametrize("steps", [(), (1, 2)])
def test_a_run_that_begins_while_others_are_copied_is_in_the_backup(
    tmp_path: Path, little: LittleHome, steps: tuple[int, ...]
) -> None:
    little.begin("old", 1)
    made = back_up(little.path, tmp_path / "copy", once(lambda: little.begin("young", *steps)))
    restore(tmp_path / "copy", tmp_path / "again")
    with Ledger.open(Home(tmp_path / "again").ledger_url) as ledger:
        runs = [run.name for run in ledger.reading.runs()]
        named = {run: [one.folder for one in ledger.reading.checkpoints(run)] for run in runs}
    assert (made.runs, made.damaged) == (2, ())
    assert named["young"] == [f"checkpoints/step-{step:06}" for step in sorted(steps, reverse=True)]
    for run, folders in named.items():
        assert (tmp_path / "again" / run / "spec.yaml").is_file()
        for folder in folders[:1]:
            checkpoints.verify(tmp_path / "again" / run / folder)
