"""A follower that stops in the middle of its third file of a checkpoint, and says so.

    python -m tests.integration.stalled_follower FOLDER RANK NOTE

NOTE is a file that then holds its process id.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from policies import follower, optimizer
from policies.tensor_files import Piece, write

STALLS_AT = 3


def stall_at(number: int, note: Path) -> None:
    """Write only half of the file that is the so many-eth, and wait to be killed."""
    seen = [0]

    def stalling(path: Path, tensors: Mapping[str, Tensor], pieces: Mapping[str, Piece]) -> str:
        seen[0] += 1
        sha256 = write(path, tensors, pieces)
        if seen[0] == number:
            os.truncate(path, path.stat().st_size // 2)
            aside = note.with_suffix(".part")
            aside.write_text(str(os.getpid()))
            aside.rename(note)
            time.sleep(600)
        return sha256

    optimizer.write = stalling  # type: ignore[assignment]


if __name__ == "__main__":
    stall_at(STALLS_AT, Path(sys.argv[3]))
    follower.main(Path(sys.argv[1]), int(sys.argv[2]))
