"""Weights on their way to servers: a directory a version, durable and checked before any server hears of it.

A server that is given a directory it cannot read does not refuse it, it dies. So a directory is filled aside, made
durable and renamed, and its files are read against its manifest each time before it is named to a server.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from policies.errors import CheckpointError, PolicyError

MANIFEST = "manifest.json"
KEPT = 2  # directories: the one that servers play, and the one before, which a late server may be reading

Shapes = dict[str, list[int]]


class WeightFiles:
    """The newest directories of one sampler, below a folder that the servers can read too."""

    def __init__(self, root: Path | None) -> None:
        self._own = Path(tempfile.mkdtemp(prefix="evergreen-weights-")) if root is None else None
        self.root = (self._own or root or Path()).absolute()
        self._kept: list[Path] = []

    def put(self, save: Callable[[Path], object], label: str) -> Path:
        """Have weights saved in a new directory of this name; the oldest beyond two goes."""
        folder = self.root / label
        try:
            write(save, folder)
        except OSError as failed:
            raise PolicyError(
                f"the weights cannot be written for the servers: {failed}. sampler.weights names the folder; it needs "
                f"room for {KEPT + 1} copies of the policy"
            ) from failed
        self._kept.append(folder)
        while len(self._kept) > KEPT:
            shutil.rmtree(self._kept.pop(0), ignore_errors=True)
        return folder

    def close(self) -> None:
        """Remove what is left of it."""
        for folder in (*self._kept, *([self._own] if self._own else [])):
            shutil.rmtree(folder, ignore_errors=True)
        self._kept.clear()


def write(save: Callable[[Path], object], folder: Path) -> None:
    """Have weights saved as safetensors in a directory that appears whole or not at all."""
    aside = folder.with_name(f".aside-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        save(aside)
        found = {file.name: _shapes(file) for file in sorted(aside.glob("*.safetensors"))}
        (aside / MANIFEST).write_text(json.dumps(found, indent=1))
        for entry in (*aside.iterdir(), aside):
            _fsync(entry)
        aside.rename(folder)
        _fsync(folder.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def require_valid(folder: Path) -> None:
    """Refuse a directory whose files do not hold what its manifest lists: a server given it would die of it."""
    try:
        meant: dict[str, Shapes] = json.loads((folder / MANIFEST).read_text())
        found = {file.name: _shapes(file) for file in sorted(folder.glob("*.safetensors"))}
    except (OSError, ValueError, SafetensorError) as broken:
        raise CheckpointError(
            f"the weights in {folder} are not whole, and are named to no server: {broken}"
        ) from broken
    if not meant or found != meant:
        wrong = [file for file in sorted({*meant, *found}) if meant.get(file) != found.get(file)]
        raise CheckpointError(
            f"the weights in {folder} are not those that were written there ({', '.join(wrong) or 'there are none'}), "
            "and are named to no server: something else writes to this folder"
        )


def _shapes(file: Path) -> Shapes:
    """Read names and shapes from a file's header; a file that was cut short is an error."""
    with safe_open(str(file), framework="pt") as tensors:
        return {name: list(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
