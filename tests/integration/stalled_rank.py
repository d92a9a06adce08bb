"""A rank that stops in the middle of an update or of a checkpoint, says so in a file, and waits to be killed.

    python -m tests.integration.stalled_rank FOLDER RANK MOMENT NOTE        a follower; MOMENT: update or save

NOTE is a file that then holds its process id. With `failure` for MOMENT it fails in the update instead.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from policies import follower, learner, optimizer
from policies.forward import Scored
from policies.learner import Learner, UpdateReport
from policies.micro_batches import score_micro
from policies.tensor_files import Piece, write

UPDATE, FILE = 5, 3  # the so many-eth update, and file of an optimiser's state


def stall(moment: str, note: Path) -> None:
    """Have this process, as a rank, stop at one of the two moments, or fail."""
    {"update": in_update, "save": in_save, "failure": partial(in_update, then=fail)}[moment](note)


def in_update(note: Path, then: Callable[[Path], None] | None = None) -> None:
    """Stop between a forward pass and its backward pass, in which the other ranks then wait."""
    update, num = Learner.update, [0]

    def counted(self: Learner, *given: Any, **options: Any) -> UpdateReport:
        num[0] += 1
        return update(self, *given, **options)

    def stalling(*given: Any) -> Scored:
        scored = score_micro(*given)
        if num[0] == UPDATE:
            (then or wait_to_be_killed)(note)
        return scored

    Learner.update = counted  # type: ignore[method-assign]
    learner.score_micro = stalling  # type: ignore[attr-defined]


def fail(note: Path, error: BaseException | None = None) -> None:
    raise error or RuntimeError("no room")


def in_save(note: Path) -> None:
    """Write only half of a file of the optimiser's state."""
    num = [0]

    def stalling(path: Path, tensors: Mapping[str, Tensor], pieces: Mapping[str, Piece]) -> str:
        num[0] += 1
        sha256 = write(path, tensors, pieces)
        if num[0] == FILE:
            os.truncate(path, path.stat().st_size // 2)
            wait_to_be_killed(note)
        return sha256

    optimizer.write = stalling  # type: ignore[assignment]


def wait_to_be_killed(note: Path) -> None:
    aside = note.with_suffix(".part")
    aside.write_text(str(os.getpid()))
    aside.rename(note)
    time.sleep(600)


if __name__ == "__main__":
    follower._end_with_rank_0()
    stall(sys.argv[3], Path(sys.argv[4]))
    follower.main(Path(sys.argv[1]), int(sys.argv[2]))
