"""A state that several ranks save together, each its share: they tell one another by files of a folder that all see.

    optimizer-00002-of-00002.safetensors    a rank's share
    .rank-1.json                            it is durable: its size and sha256; or why it could not be written

No rank calls another, so that a thread of each may write while the ranks make updates together.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from policies.errors import PolicyError, RankLost

Save = Callable[[Path], Mapping[str, str]]  # writes files into a folder; gives their sha256, by name
POLL_S = 0.02
SILENCE_S = 1800.0  # how long no share may have grown: on another machine a rank may be lost without a word


def begin(folder: Path) -> None:
    """As rank 0: make the folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def write_share(save: Save, folder: Path, rank: int) -> None:
    """As another rank: write its share, and then that it is durable, or why it is not.

    A rank that cannot even say so ends its process, with its last words, which rank 0 notices.
    """
    own = folder / f".share-{rank}"
    try:
        own.mkdir()
        described = {name: _settled(own / name, sha256) for name, sha256 in save(own).items()}
        for name in described:
            (own / name).rename(folder / name)
        told: dict[str, Any] = {"files": described}
    except Exception as failed:
        shutil.rmtree(own, ignore_errors=True)  # on a full disk, room for the note
        number = failed.errno if isinstance(failed, OSError) else None
        told = {"error": str(failed) or type(failed).__name__, "errno": number}
    try:
        _leave(folder / _note(rank), told)
    except OSError as failed:
        if not folder.exists():  # rank 0 waits no more
            return
        print(f"{folder} cannot be written: {told.get('error', failed)}", file=sys.stderr, flush=True)
        os._exit(1)


def collect(folder: Path, target: Path, size: int, lost: Callable[[], str | None]) -> dict[str, str]:
    """As rank 0: wait for the shares of the other ranks and move them to where they belong; give their sha256.

    Raises RankLost: one has ended, as `lost` says, or has written nothing for long; OSError: one's disk takes no more.
    """
    hashed: dict[str, str] = {}
    for rank in range(1, size):
        for name, description in _await(folder, rank, lost).items():
            (folder / name).rename(target / name)
            if (found := _size(target / name)) != description["num_bytes"]:
                raise PolicyError(
                    f"rank {rank} wrote {description['num_bytes']} bytes of {name}, and rank 0 sees {found}: is the "
                    "home on one file system that all machines see?"
                )
            hashed[name] = description["sha256"]
    return hashed


def _await(folder: Path, rank: int, lost: Callable[[], str | None]) -> dict[str, Any]:
    note, seen, since = folder / _note(rank), -1, time.monotonic()
    while not note.exists():
        if (who := lost()) is not None and not note.exists():
            raise RankLost(f"{who}, while a checkpoint was written. `evergreen resume` goes on from the one before it")
        if (written := _written(folder)) != seen:
            seen, since = written, time.monotonic()
        if time.monotonic() - since > SILENCE_S:
            raise RankLost(
                f"rank {rank} has written nothing of its share of a checkpoint for {SILENCE_S / 60:.0f} minutes: its "
                "own output may say why. `evergreen resume` goes on from the checkpoint before it"
            )
        time.sleep(POLL_S)
    told = json.loads(note.read_text())
    if (number := told.get("errno")) is not None:
        raise OSError(number, os.strerror(number), str(folder))
    if "error" in told:
        raise PolicyError(f"rank {rank} could not write its share of a checkpoint: {told['error']}")
    files: dict[str, Any] = told["files"]
    return files


def _settled(path: Path, sha256: str) -> dict[str, Any]:
    """Make a file durable, and describe it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return {"sha256": sha256, "num_bytes": _size(path)}


def _size(path: Path) -> int:
    """Measure a file by opening it: on a network's file system what another machine wrote is sure to be seen then."""
    with path.open("rb") as file:
        return file.seek(0, os.SEEK_END)


def _written(folder: Path) -> int:
    """Count the bytes of all shares, so far."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_size
            except FileNotFoundError:  # renamed just now
                continue
    return total


def _note(rank: int) -> str:
    return f".rank-{rank}.json"


def _leave(path: Path, told: Mapping[str, Any]) -> None:
    """Write a note so that it is there whole or not at all."""
    aside = path.with_name(f"{path.name}.part")
    with aside.open("w") as file:
        json.dump(told, file)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
