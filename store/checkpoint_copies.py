"""Copies of a run's checkpoints elsewhere, by a URL that fsspec knows: object storage, another host, another disk.

    URL/<run>/run.json                            what the run is; spec.yaml too, unless a password stands in it
    URL/<run>/checkpoints/<name>/...              the files of a checkpoint, its manifest last

A checkpoint without a manifest is none: whoever reads the place never takes half a one for whole. Copies are made by a
thread, the newest first; one that fails is tried again, and never costs the run. Checkpoints that the run does not keep
are deleted there, those of a course that it left too; nothing else is.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from store import checkpoints, identity
from store.checkpoints import FOLDER, MANIFEST, OPTIMIZER
from store.errors import CheckpointError, HomeError
from store.files import new_folder
from store.records import CheckpointRecord
from store.secrets import url_without_logins, without_logins
from store.sentences import listed

SPEC_FILE = "spec.yaml"  # in a run's folder
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 300.0  # between two attempts, doubled after each that fails
PATIENCE_S = 600.0  # at a run's end, for what is not copied yet, since the last file that was
DELETING_S = 60.0  # then for what is not deleted yet: it costs room there, and no run waits long for that

Tell = Callable[[str], None]


def require_lasting(url: str) -> None:
    """Raise HomeError: the place is another one for a command that is given in another folder."""
    scheme, _, path = url.partition("://")
    if scheme in ("file", "local") and not path.startswith(("/", "~")):
        raise HomeError(
            f"checkpoint.copy_to: {url} is relative, and later commands run in other folders: give the path from /, as "
            "in file:///backup/runs"
        )


class CopyPlace:
    """A run's folder at a URL; errors of its file system are raised as they are, most of them OSError."""

    def __init__(self, url: str, run: str) -> None:
        """Raises HomeError: nothing installed here knows such a URL."""
        import fsspec

        try:
            self._files, root = fsspec.core.url_to_fs(url)
        except Exception as error:  # of whatever library knows the place, or wants to
            raise HomeError(f"checkpoint.copy_to: {url_without_logins(url)}: {_said(error)}") from error
        self.url, self._folder = url_without_logins(url), f"{root.rstrip('/')}/{run}"

    def read(self, path: str) -> bytes:
        """Read a file by its path in the run's folder. Raises OSError."""
        content: bytes = self._files.cat_file(self._at(path))
        return content

    def put(self, file: Path, path: str) -> None:
        """Write a file there, and see that it has its size."""
        target = self._at(path)
        self._files.makedirs(posixpath.dirname(target), exist_ok=True)
        self._files.put_file(str(file), target)
        if (size := self._files.size(target)) != file.stat().st_size:
            raise OSError(f"{path} has {size} bytes there and {file.stat().st_size} here")

    def get(self, path: str, file: Path) -> None:
        """Write a file of the run's folder to one here."""
        file.parent.mkdir(parents=True, exist_ok=True)
        self._files.get_file(self._at(path), str(file))

    def begun_checkpoints(self) -> list[str]:
        """Name the checkpoints of which something is there, the newest first."""
        self._files.invalidate_cache()
        folder = self._at(FOLDER)
        if not self._files.exists(folder):
            return []
        names = {posixpath.basename(one.rstrip("/")) for one in self._files.ls(folder, detail=False)}
        return sorted((name for name in names if _place(name)[0] >= 0), key=_place, reverse=True)

    def checkpoints(self) -> list[str]:
        """Name the whole checkpoints, the newest first."""
        return [name for name in self.begun_checkpoints() if self.exists(f"{FOLDER}/{name}/{MANIFEST}")]

    def exists(self, path: str) -> bool:
        """Whether there is something."""
        return bool(self._files.exists(self._at(path)))

    def is_here(self, run_folder: Path) -> bool:
        """Whether the place is a run's own folder on this machine."""
        return "file" in self._files.protocol and Path(self._folder).resolve() == run_folder.resolve()

    def remove(self, path: str) -> None:
        """Delete a file or a folder, if there is one."""
        if self.exists(path):
            self._files.rm(self._at(path), recursive=True)

    def _at(self, path: str) -> str:
        return f"{self._folder}/{path}"


class CheckpointCopier:
    """Keeps the copies of one run as its folder is, in a thread beside it."""

    def __init__(self, url: str, folder: Path) -> None:
        """Begin with what the run is. Raises HomeError: the place is another run's, not to be written, or relative."""
        require_lasting(url)
        self._place, self._run_folder = CopyPlace(url, folder.name), folder
        try:
            self._begin()
            found = self._place.begun_checkpoints()
            self._there = {name for name in found if self._is_as_here(name)}
            self._others = set(found) - self._there  # of an earlier process; half a one, none here, or another by now
        except Exception as error:  # of whatever library knows the place
            if isinstance(error, HomeError):
                raise
            raise HomeError(f"checkpoint.copy_to: {self._place.url} cannot be written: {_said(error)}") from error
        self._wanted: list[str] = []  # names of checkpoints, the newest first
        self._thin: set[str] = set()  # those without the optimiser's state
        self._doomed: set[str] = set()
        self._dropped: set[str] = set()  # what of them is under way is not theirs any more
        self._news: list[str] = []
        self._fault: str | None = None
        self._num_done = 0  # files and deletions, for whoever waits
        self._is_over = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="checkpoint copies", daemon=True)
        self._thread.start()

    def _begin(self) -> None:
        if self._place.is_here(self._run_folder):
            raise HomeError(
                f"checkpoint.copy_to: {self._place.url} is the run's own folder: name one on another disk or machine"
            )
        own = identity.read(self._run_folder)
        if self._place.exists(identity.FILE):
            there = json.loads(self._place.read(identity.FILE))
            if own is not None and there.get("uid") != own.uid:
                raise HomeError(
                    f"checkpoint.copy_to: {self._place.url} holds another run {own.name}: choose another place, or "
                    "another name"
                )
        self._place.put(self._run_folder / identity.FILE, identity.FILE)
        spec = self._run_folder / SPEC_FILE
        if spec.is_file() and without_logins(text := spec.read_text("utf-8")) == text:
            self._place.put(spec, SPEC_FILE)
        if (slices := self._run_folder / identity.SLICES).is_file():
            self._place.put(slices, identity.SLICES)

    def _is_as_here(self, name: str) -> bool:
        """Whether a copy holds what the checkpoint of its name does."""
        own, path = self._run_folder / FOLDER / name / MANIFEST, f"{FOLDER}/{name}/{MANIFEST}"
        return own.is_file() and self._place.exists(path) and own.read_bytes() == self._place.read(path)

    @property
    def newest(self) -> str | None:
        """The newest whole checkpoint that is there."""
        return max(self._there, key=_place, default=None)

    def want(self, names: Sequence[str], thin: Sequence[str] = ()) -> None:
        """Have these checkpoints there, the newest first, some thin; all others go, once these are there."""
        with self._changed:
            self._doomed |= {*self._wanted, *self._there, *self._others}
            self._doomed -= set(names)
            self._others.clear()
            self._wanted, self._thin = list(names), set(thin)
            self._changed.notify_all()

    def drop(self, name: str) -> None:
        """Have a copy deleted, whose checkpoint is another by now or none; wanted again, it is copied anew."""
        with self._changed:
            self._wanted = [one for one in self._wanted if one != name]
            self._there.discard(name)
            self._doomed.add(name)
            self._dropped.add(name)
            self._changed.notify_all()

    def go_back_to(self, name: str) -> None:
        """Have every later copy deleted, at "" all: the run leaves that course, and may use their names again."""
        with self._changed:
            later = [one for one in self._there | self._others if _place(one) > _place(name)]
            for one in later:
                self.drop(one)

    def take_news(self) -> list[str]:
        """Say what failed, and that it is mended, since the last time."""
        with self._changed:
            news, self._news = self._news, []
        return news

    def finish(self, tell: Tell, patience_s: float = PATIENCE_S) -> None:
        """Wait until all is there and nothing else is, as long as something gets done now and then.

        What is missing, or too much, is in the news.
        """
        with self._changed:
            if self._open():
                tell(f"copying checkpoints to {self._place.url}")
            self._wait_while(self._open, patience_s)
            if not self._open():
                self._wait_while(lambda: self._doomed or self._thinnable(), min(patience_s, DELETING_S))
            why = self._fault or "it takes too long"
            if missing := self._open():
                self._news.append(
                    f"{len(missing)} checkpoints are not at {self._place.url} ({listed(missing)}): {why}. A resume "
                    "goes on with them"
                )
            elif self._doomed:
                self._news.append(
                    f"{len(self._doomed)} checkpoints that the run does not keep are still at {self._place.url} "
                    f"({listed(sorted(self._doomed, key=_place))}): {why}. Delete them there"
                )

    def _wait_while(self, is_open: Callable[[], Collection[str]], patience_s: float) -> None:
        until, num_done = time.monotonic() + patience_s, self._num_done
        while is_open() and (left_s := until - time.monotonic()) > 0:
            self._changed.wait(left_s)
            if self._num_done != num_done:
                num_done, until = self._num_done, time.monotonic() + patience_s

    def close(self) -> None:
        """Begin nothing further."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _open(self) -> list[str]:
        return [name for name in self._wanted if name not in self._there]

    def _work(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_over or self._open() or self._doomed or self._thinnable())
                if self._is_over:
                    return
            try:
                self._do_one()
            except Exception as error:  # whatever library is behind the URL: it is told, and tried again
                with self._changed:
                    if self._fault is None:
                        self._news.append(f"copying to {self._place.url} failed, and is tried again: {_said(error)}")
                    self._fault = _said(error)
                    self._changed.wait_for(lambda: self._is_over, pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            else:
                pause_s = FIRST_PAUSE_S
                with self._changed:
                    if self._fault is not None:
                        self._news.append(f"copying to {self._place.url} goes on")
                    self._fault = None
                    self._changed.notify_all()

    def _thinnable(self) -> set[str]:
        return self._thin & self._there

    def _do_one(self) -> None:
        """Copy the newest checkpoint that is missing; where none is, delete what is not wanted any more."""
        with self._changed:
            missing, doomed, thin = self._open(), sorted(self._doomed), sorted(self._thinnable())
        if missing:
            self._copy(missing[0])
        elif doomed:
            folder = f"{FOLDER}/{doomed[0]}"
            self._place.remove(f"{folder}/{MANIFEST}")  # first: half a checkpoint is none
            self._place.remove(folder)
            with self._changed:
                self._there.discard(doomed[0])
                self._doomed.discard(doomed[0])
        elif thin:
            self._place.remove(f"{FOLDER}/{thin[0]}/{OPTIMIZER}")
            with self._changed:
                self._thin.discard(thin[0])
        self._count()

    def _copy(self, name: str) -> None:
        with self._changed:
            self._dropped.discard(name)
        folder = self._run_folder / FOLDER / name
        files = checkpoints.files(folder)
        if not files:  # deleted here since it was asked for
            with self._changed:
                self._wanted = [one for one in self._wanted if one != name]
                self._doomed.add(name)
            return
        self._place.remove(f"{FOLDER}/{name}/{MANIFEST}")  # of an earlier one of this name: half a checkpoint is none
        for file in files:
            try:
                self._place.put(file, f"{FOLDER}/{name}/{file.relative_to(folder).as_posix()}")
            except FileNotFoundError:
                if file.exists():
                    raise
                return  # deleted or thinned here meanwhile: what is left of it is looked at next
            self._count()
        with self._changed:
            if name not in self._dropped:
                self._there.add(name)

    def _count(self) -> None:
        with self._changed:
            self._num_done += 1
            self._changed.notify_all()


def fetch(url: str, run: str, folder: Path, tell: Tell) -> list[str]:
    """Make a run's folder of its copy: what is whole there, with its checksums; name the checkpoints, newest first.

    Damaged ones are told and left out. Raises HomeError: the folder is there, or there is no such run.
    """
    place = CopyPlace(url, run)
    if folder.exists():
        raise HomeError(f"{folder} is there already: `evergreen resume {run}` goes on from it")
    try:
        names = place.checkpoints()
        has_identity = place.exists(identity.FILE)
    except Exception as error:  # of whatever library knows the place
        raise HomeError(f"{place.url} cannot be read: {_said(error)}") from error
    if not has_identity or not names:
        raise HomeError(f"there is no run {run} with a whole checkpoint at {place.url}")
    found = []
    with new_folder(folder) as aside:
        for file in (identity.FILE, SPEC_FILE, identity.SLICES):
            if place.exists(file):
                place.get(file, aside / file)
        for number, name in enumerate(names, start=1):
            tell(f"fetching {name}, {number} of {len(names)}")
            try:
                _fetch_checkpoint(place, name, aside / FOLDER / name)
                found.append(name)
            except Exception as wrong:
                tell(f"the copy of {name} is not used: {_said(wrong)}")
        if not found:
            raise HomeError(f"no checkpoint of {run} at {place.url} is whole")
    return found


def fetch_back(url: str, run_folder: Path, record: CheckpointRecord) -> bool:
    """Put a run's checkpoint that is damaged or lost back from its copy; whether that is whole and the one recorded.

    Raises HomeError: the place cannot be read, or has nothing of a run that was copied to it, as a disk's that is away.
    """
    place, folder = CopyPlace(url, run_folder.name), run_folder / record.folder
    manifest = f"{FOLDER}/{folder.name}/{MANIFEST}"
    try:
        if not place.exists(identity.FILE):
            raise FileNotFoundError(f"nothing of {run_folder.name} is there")
        if not place.exists(manifest) or hashlib.sha256(place.read(manifest)).hexdigest() != record.sha256:
            return False
        _fetch_checkpoint(place, folder.name, folder)
    except CheckpointError:  # damaged there as well
        return False
    except Exception as error:  # of whatever library knows the place
        raise HomeError(f"{place.url} cannot be read: {_said(error)}") from error
    return True


def _fetch_checkpoint(place: CopyPlace, name: str, folder: Path) -> None:
    """Write a checkpoint's files here and compare their checksums; its folder is there if they are right."""
    at = f"{FOLDER}/{name}"
    with new_folder(folder) as aside:
        place.get(f"{at}/{MANIFEST}", aside / MANIFEST)
        for file in checkpoints.named_files(aside):
            component = file.relative_to(aside).parts[0]
            if component != OPTIMIZER or place.exists(f"{at}/{OPTIMIZER}"):
                place.get(f"{at}/{file.relative_to(aside).as_posix()}", file)
        checkpoints.verify(aside)


def _place(name: str) -> tuple[int, str]:
    """Order checkpoints by their names: by step, whatever the number of its digits."""
    step = name.partition("-")[2].partition("-")[0]
    return (int(step) if step.isdecimal() else -1), name


def _said(error: BaseException) -> str:
    return without_logins(str(error).strip() or type(error).__name__)
