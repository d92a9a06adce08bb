"""Checkpoints on disk: named components with versions and checksums, whole or not there at all.

    checkpoints/step-000040/
        manifest.json         components, their versions, their files with size and sha256
        weights/...           one folder a component; what is inside is the component's business
        bandits/state.json

Nothing in a checkpoint depends on when, where or by which run it was made, so equal states have equal
manifests. The store imports no framework: a component writes and reads its own files. The ledger's row is written
after the folder is durable, by the caller.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

from store import long_values
from store.errors import CheckpointError
from store.files import fsync, new_folder, remove_folder, sha256_of
from store.home import SLUG
from store.records import LASTING, CheckpointRecord

FOLDER, MANIFEST, STATE, WEIGHTS = "checkpoints", "manifest.json", "state.json", "weights"
OPTIMIZER = "optimizer"  # a component that may be taken out of a checkpoint that stays: `thin`
NUM_WHOLE = 2  # boundaries whose checkpoints always stay whole, should the newest be damaged
FORMAT = 1  # of the manifest
ARRAYS = 100  # more is the version of a component with long values beside its JSON: without them it would be misread
INTERVENED = "-intervened"  # ends the name of a checkpoint that was made after an intervention
DIVERGED = ".diverged"  # follows the name of one that was put aside

Versions = Mapping[str, int]  # of components, by name
Records = Sequence[CheckpointRecord]  # the newest first


@dataclass(frozen=True)
class Component:
    """One part of a checkpoint. `write` fills an empty folder of its own.

    Where it gives a mapping, that is the sha256 of files by relative path, found as they were written: they are not
    read again.
    """

    name: str
    version: int  # raised when its files change meaning
    write: Callable[[Path], object]


@dataclass(frozen=True)
class SavedCheckpoint:
    """A checkpoint that is durable."""

    folder: str  # relative to the run's folder
    sha256: str  # of its manifest
    num_bytes: int


@dataclass(frozen=True)
class Skipped:
    """A checkpoint that could not be used, and why."""

    record: CheckpointRecord
    reason: str
    is_whole: bool = False  # its files are those that were written


@dataclass(frozen=True)
class OpenCheckpoint:
    """A checkpoint whose components are those expected. Made by `open_checkpoint`."""

    components: Mapping[str, Path]  # the folder of each

    def read_json(self, name: str) -> Any:
        """Read what `json_component` wrote."""
        folder = self.components[name]
        return long_values.put_back(json.loads((folder / STATE).read_text("utf-8")), folder)


def json_component(name: str, version: int, data: Any) -> Component:
    """Make a component of plain data and arrays; floats come back exactly, tuples as lists.

    What is long lies beside the JSON where it is much (`long_values`): a million numbers as text take seconds. The
    version tells. Where it is not, arrays come back as lists.
    """
    taken = long_values.LongValues()
    short = taken.take(data)
    if taken.num_entries <= long_values.LEAST:
        taken, short = long_values.LongValues(), data
    text = json.dumps(short, sort_keys=True, indent=1, default=long_values.listed)

    def write(folder: Path) -> None:
        (folder / STATE).write_text(text, "utf-8")
        taken.write(folder)

    return Component(name, version + ARRAYS if taken.index else version, write)


def save(run_folder: Path, name: str, components: Iterable[Component]) -> SavedCheckpoint:
    """Write a checkpoint; when this returns it survives a power cut. One of the same name is replaced."""
    folder = f"{FOLDER}/{name}"
    return SavedCheckpoint(folder, *write(run_folder / folder, components))


def write(target: Path, components: Iterable[Component]) -> tuple[str, int]:
    """Write components and their manifest as a durable folder; returns the manifest's sha256 and the size in bytes."""
    with new_folder(target) as folder:
        described = {component.name: _write_component(folder, component) for component in components}
        text = json.dumps({"format": FORMAT, "components": described}, sort_keys=True, indent=1)
        (folder / MANIFEST).write_text(text, "utf-8")
    return hashlib.sha256(text.encode()).hexdigest(), _num_bytes(described) + len(text.encode())


def describe(run_folder: Path, name: str) -> SavedCheckpoint:
    """Describe a checkpoint as its manifest does; its files are not read. Raises `CheckpointError`."""
    folder = run_folder / FOLDER / name
    manifest = folder / MANIFEST
    num_bytes = _num_bytes(_present(folder, _manifest(folder))) + manifest.stat().st_size
    return SavedCheckpoint(f"{FOLDER}/{name}", sha256_of(manifest), num_bytes)


def verify(folder: Path, sha256: str | None = None) -> None:
    """Read every file and compare. Raises `CheckpointError` naming the first that is missing, changed or extra.

    `sha256` is that of the manifest, from the ledger. Hidden files, which file managers leave, are nobody's business.
    """
    try:
        manifest = _manifest(folder)
        if sha256 not in (None, sha256_of(folder / MANIFEST)):
            raise CheckpointError(f"{folder / MANIFEST} is not the one that the ledger recorded.")
        expected = {
            folder / name / file: description
            for name, part in _present(folder, manifest).items()
            for file, description in part["files"].items()
        }
        for path, description in expected.items():
            if not path.is_file():
                raise CheckpointError(f"{path} is missing.")
            if path.stat().st_size != description["num_bytes"] or sha256_of(path) != description["sha256"]:
                raise CheckpointError(f"{path} has changed since it was written.")
        found = {path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")}
        for path in sorted(found - expected.keys() - {folder / MANIFEST}):
            raise CheckpointError(f"{path} does not belong to the checkpoint.")
    except OSError as failed:
        raise CheckpointError(f"{failed.filename or folder} cannot be read: {failed.strerror}.") from failed


def files(folder: Path) -> list[Path]:
    """Name the files that were written as a checkpoint, its manifest last: all, where that cannot be read.

    Without a manifest nothing tells that any of them was.
    """
    try:
        named = named_files(folder)
    except CheckpointError:
        own = [path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST]
        return [*own, folder / MANIFEST] if (folder / MANIFEST).is_file() else []
    return [*(path for path in named if path.is_file()), folder / MANIFEST]


def named_files(folder: Path) -> list[Path]:
    """List the files that a checkpoint's manifest names, whether or not they are there. Raises `CheckpointError`."""
    components = _manifest(folder)["components"]
    named = [folder / name / file for name, part in components.items() for file in part["files"]]
    return [path for path in named if path.resolve().is_relative_to(folder.resolve())]  # a manifest may be anybody's


def open_checkpoint(folder: Path, expected: Versions, may_be: Versions | None = None) -> OpenCheckpoint:
    """Open a checkpoint of exactly these components, `may_be` ones perhaps, in these versions; nothing is hashed.

    With long values a version is more by `ARRAYS`.
    """
    found = {name: part["version"] for name, part in _manifest(folder)["components"].items()}
    expected = {**expected, **{name: v for name, v in (may_be or {}).items() if name in found}}
    wrong = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    wrong += [f"{name} is unexpected" for name in sorted(found.keys() - expected.keys())]
    wrong += [
        f"{name} has version {found[name]}, expected {expected[name]}"
        for name in sorted(found.keys() & expected.keys())
        if found[name] not in (expected[name], expected[name] + ARRAYS)
    ]
    if wrong:
        raise CheckpointError(
            f"The checkpoint {folder} does not fit this Evergreen and spec: {'; '.join(wrong)}. "
            "Resume with the version that wrote it, or start a new run from its weights."
        )
    return OpenCheckpoint({name: folder / name for name in found if name != OPTIMIZER or not is_thin(folder)})


def thin(folder: Path, call: Callable[[Callable[[], None]], object] = lambda act: act()) -> None:
    """Take the optimiser's state out of a checkpoint, most of its bytes; what is left is still whole.

    `call` may free the room later.
    """
    if (folder / OPTIMIZER).is_dir():
        remove_folder(folder / OPTIMIZER, call, parent=folder.parent)


def is_thin(folder: Path) -> bool:
    """Whether the optimiser's state was taken out of a checkpoint."""
    return not (folder / OPTIMIZER).is_dir()


def weights_sha256(folder: Path) -> str:
    """Hash the weights of a checkpoint: the names and checksums of their files, as the manifest has them."""
    components = _manifest(folder)["components"]
    if WEIGHTS not in components:
        raise CheckpointError(f"The checkpoint {folder} has no component {WEIGHTS!r}.")
    files = components[WEIGHTS]["files"]
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def newest_valid(
    run_folder: Path, records: Sequence[CheckpointRecord], also: Callable[[Path], None] = lambda folder: None
) -> tuple[CheckpointRecord | None, list[Skipped]]:
    """Find the checkpoint to resume from: the first of `records`, newest first, that verifies.

    `also` looks at the folder of one that does, and may refuse it with a `CheckpointError`. None: there is none, resume
    at step 0. Also returns those that were passed over, with the reason.
    """
    skipped = []
    for record in records:
        is_whole = False
        try:
            verify(run_folder / record.folder, record.sha256)
            is_whole = True
            also(run_folder / record.folder)
        except CheckpointError as wrong:
            skipped.append(Skipped(record, str(wrong), is_whole))
        else:
            return record, skipped
    return None, skipped


def thinnable(records: Records) -> list[CheckpointRecord]:
    """Choose whose optimiser state is not needed to resume: all of boundaries but the newest; the first has none."""
    lasting, newest = _of_boundaries(records, NUM_WHOLE)
    return [record for record in lasting if record.step > 0 and record.num_boundaries not in newest]


def read_by_interventions(records: Records) -> set[str]:
    """Name the folders that interventions may still read: of the first boundary, and of the newest."""
    boundaries = [record for record in records if record.kind == "boundary"]
    return {record.folder for record in (*boundaries[:1], *boundaries[-1:])}


def in_background(run_folder: Path, act: Callable[[], None]) -> None:
    """Do something with a run's checkpoints in a thread; a process that is killed does not wait for it."""
    Thread(target=act, name=_thread_of(run_folder), daemon=True).start()


def finish_background(run_folder: Path) -> None:
    """Wait for what is in the background of this process with a run, whichever session with the run began it."""
    for thread in threading.enumerate():
        if thread.name == _thread_of(run_folder):
            thread.join()


def _thread_of(run_folder: Path) -> str:
    return f"checkpoints of {run_folder.resolve()}"


def superfluous(
    records: Records, keep: int, boundaries: int | None = None, needed: Collection[str] = ()
) -> list[CheckpointRecord]:
    """Choose what to delete: not the newest, nor `keep` between boundaries, nor those of so many boundaries; None: all.

    What an intervention made of a boundary is the boundary's. `needed`: folders that stay in any case.
    """
    between = [record for record in records if record.kind not in LASTING]
    lasting, newest = _of_boundaries(records, boundaries)
    kept = [*records[:1], *between[:keep], *(record for record in lasting if record.num_boundaries in newest)]
    stays = {record.folder for record in kept} | set(needed)
    return [record for record in records if record.folder not in stays]


def _of_boundaries(records: Records, number: int | None) -> tuple[list[CheckpointRecord], list[int]]:
    """Take the checkpoints of boundaries, and name so many newest boundaries; None: all. One may have two of them."""
    lasting = [record for record in records if record.kind in LASTING]
    return lasting, list(dict.fromkeys(record.num_boundaries for record in lasting))[:number]


def delete(run_folder: Path, records: Records, remove: Callable[[Path], object] = remove_folder) -> None:
    """Delete the folders of these checkpoints, as far as they are there; the ledger still knows them."""
    for record in records:
        if (run_folder / record.folder).exists():
            remove(run_folder / record.folder)


def put_aside(folder: Path) -> str:
    """Give a whole checkpoint whose weights diverged a name under which no run goes on from it; returns that.

    Steps that are gone through again and end the same make the same checkpoint again: that is kept once.
    """
    number = 1
    while True:
        place = folder.with_name(f"{folder.name}{DIVERGED}{f'-{number}' if number > 1 else ''}")
        if not place.exists():
            folder.rename(place)
            fsync(folder.parent)
            return place.name
        if (place / MANIFEST).is_file() and sha256_of(place / MANIFEST) == sha256_of(folder / MANIFEST):
            remove_folder(folder)
            return place.name
        number += 1


def _present(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the components that a checkpoint still has."""
    components = manifest["components"]
    return {name: part for name, part in components.items() if name != OPTIMIZER or not is_thin(folder)}


def _num_bytes(components: Mapping[str, Any]) -> int:
    return sum(file["num_bytes"] for part in components.values() for file in part["files"].values())


def _write_component(checkpoint: Path, component: Component) -> dict[str, Any]:
    if not SLUG.fullmatch(component.name) or component.name == MANIFEST:
        raise CheckpointError(f"{component.name!r} cannot name a component.")
    folder = checkpoint / component.name
    if folder.exists():
        raise CheckpointError(f"Two components of a checkpoint are called {component.name!r}.")
    folder.mkdir()
    given = component.write(folder)
    hashed = given if isinstance(given, Mapping) else {}
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    files = {
        name: {"sha256": hashed.get(name) or sha256_of(path), "num_bytes": path.stat().st_size}
        for name, path in paths.items()
    }
    return {"version": component.version, "files": files}


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise CheckpointError(f"{path} is missing.")
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError as damaged:
        raise CheckpointError(f"{path} is damaged: {damaged}.") from damaged
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a manifest of format {FORMAT}, the one that we read.")
    components = manifest.get("components")
    if not isinstance(components, dict) or not all(map(_has_files, components.values())):
        raise CheckpointError(f"{path} is damaged: it has no components with their versions and files.")
    return manifest


def _has_files(part: Any) -> bool:
    files = part.get("files") if isinstance(part, dict) and isinstance(part.get("version"), int) else None
    return isinstance(files, dict) and all(
        isinstance(file, dict) and {"sha256", "num_bytes"} <= file.keys() for file in files.values()
    )
