"""The writer of a run's checkpoints: at once, or in a thread beside the run from a copy of what moves."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from orchestrator.components import Components
from orchestrator.progress import Progress
from orchestrator.recording.checkpoint import components, name_of
from policies.host_copies import HostCopies
from store import checkpoints
from store.files import beside, remove_folder
from store.records import CheckpointKind, CheckpointRecord


class CheckpointWriter:
    """Makes checkpoints durable in a run's folder, one at a time: `take` what was begun before the next one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._copies = HostCopies()
        self._begun: Future[CheckpointRecord] | None = None

    def write(self, kind: CheckpointKind, parts: Components, at: Progress) -> CheckpointRecord:
        """Write one; when this returns it survives a power cut."""
        return self._taken(kind, parts, at)()

    def begin(self, kind: CheckpointKind, parts: Components, at: Progress) -> None:
        """Copy what moves and begin to write it; the run may go on up to its next boundary."""
        assert self._begun is None
        write = self._taken(kind, parts, at, self._copies)
        begun = self._begun = Future[CheckpointRecord]()

        def settle() -> None:
            try:
                begun.set_result(write())
            except BaseException as failed:
                begun.set_exception(failed)

        self._beside(settle)

    def take(self, *, wait: bool) -> CheckpointRecord | None:
        """Give the one that was begun, once it is durable; raises what kept it from that. None: nothing, or not yet."""
        begun = self._begun
        if begun is None or not (wait or begun.done()):
            return None
        self._begun = None
        return begun.result()

    def remove(self, folder: Path) -> None:
        """Delete a folder; its room is freed beside the run."""
        remove_folder(folder, self._beside)

    def thin(self, folder: Path) -> None:
        """Take the optimiser's state out of a checkpoint, in the same way."""
        checkpoints.thin(folder, self._beside)

    def _beside(self, act: Callable[[], None]) -> None:
        checkpoints.in_background(self.folder, act)

    def _taken(
        self, kind: CheckpointKind, parts: Components, at: Progress, copies: HostCopies | None = None
    ) -> Callable[[], CheckpointRecord]:
        """Take what a checkpoint of this moment holds; what is given writes it."""
        name = name_of(at, kind)
        shares = beside(self.folder / checkpoints.FOLDER / name)
        made, step, num_boundaries = components(parts, at, shares, copies), at.step, at.num_boundaries

        def write() -> CheckpointRecord:
            try:
                saved = checkpoints.save(self.folder, name, made)
            finally:
                shutil.rmtree(shares, ignore_errors=True)
            return CheckpointRecord(step, num_boundaries, kind, **vars(saved))

        return write
