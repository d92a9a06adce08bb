"""The home folder: everything of one user's runs in one place.

evergreen.db     the ledger, unless the spec names another
mlflow.db        MLflow's record of the runs, with mlflow_artifacts/, unless the spec names a server
tensorboard/     a folder of event files a run, where the spec names TensorBoard
wandb/           what Weights & Biases keeps on this machine, where the spec names it
warm_starts/     policies after their supervised start, by content hash
studies/         one folder a study: its lock, and what the processes of its runs printed
index.html       the page of all runs, once `evergreen ls --html` has written it
<run>/           one folder a run: resolved spec, checkpoints, lock, report
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

from store.errors import HomeError, NameTaken, RunBusy
from store.files import ASIDE, fsync
from store.lock import FILES as OF_LOCKS
from store.lock import clear_stop, run_lock

VARIABLE, DEFAULT = "EVERGREEN_HOME", Path("runs")  # where runs are if nobody says
SLUG = re.compile(r"[a-z0-9_.-]+")
LONGEST_NAME = 200  # characters: a folder has 255 at most, and what is written aside begins with some more
BESIDE = ("-journal", "-wal", "-shm")  # what SQLite puts beside a database
DATABASES = ("evergreen.db", "mlflow.db")
STUDIES = "studies"
BACKUP_NOTE = "backup.json"  # in a copy of the home
RESERVED = frozenset(
    {
        *(".", "..", "index.html", "mlflow_artifacts", "tensorboard", "wandb", STUDIES, "warm_starts"),
        *(f"{database}{end}" for database in DATABASES for end in ("", *BESIDE)),
    }
)
OF_COPIES = frozenset({*OF_LOCKS, BACKUP_NOTE})  # files of a backup: no new run is called so, earlier ones may be


class Home:
    """A home folder. Made when missing, unless `create` is false; none given: that of EVERGREEN_HOME, else ./runs."""

    def __init__(self, path: str | Path | None = None, create: bool = True) -> None:
        self.path = Path(path or os.environ.get(VARIABLE) or DEFAULT).expanduser().absolute()
        try:
            str(self.path).encode()
        except UnicodeEncodeError as failed:
            raise HomeError(f"No URL can name the home {str(self.path)!a}: it is not UTF-8. {_REMEDY}") from failed
        if not create and not self.path.is_dir():
            raise HomeError(f"There is no home folder {self.path}. {_WHERE}")
        if create:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except OSError as failed:
                raise HomeError(f"The home folder {self.path} cannot be made: {failed.strerror}. {_REMEDY}") from failed
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise HomeError(f"The home folder {self.path} cannot be written to. {_REMEDY}")

    @property
    def ledger_url(self) -> str:
        """The ledger's default place, as an SQLAlchemy URL."""
        return sqlite_url(self.path / "evergreen.db")

    @property
    def mlflow_uri(self) -> str:
        """MLflow's default place, as a tracking URI."""
        return sqlite_url(self.path / "mlflow.db")

    @property
    def mlflow_artifacts(self) -> Path:
        """Where MLflow's default place keeps files; may not exist yet."""
        return self.path / "mlflow_artifacts"

    @property
    def warm_starts(self) -> Path:
        """Where supervised starts are cached; may not exist yet."""
        return self.path / "warm_starts"

    def study_folder(self, name: str) -> Path:
        """Where a study keeps its lock and what the processes of its runs printed; may not exist yet."""
        check_name(name)
        return self.path / STUDIES / name

    def run_folder(self, name: str) -> Path:
        """Where a run's files are; may not exist yet."""
        check_name(name)
        return self.path / name

    @contextmanager
    def new_run_folder(self, name: str, taken: Collection[str] = (), *, is_exact: bool = False) -> Iterator[Path]:
        """Make and hold a new run's folder: of this name, or of the first of NAME-2, NAME-3, ... that is free.

        A folder that a killed process left with nothing in it is free. `taken` are names that are not; with `is_exact`
        no other name is tried. Raises NameTaken; RunBusy: another process is making it.
        """
        names = [name] if is_exact else (name if number == 1 else f"{name}-{number}" for number in count(1))
        for one in names:
            if one in taken:
                continue
            try:
                folder = self.make_run_folder(one)
            except NameTaken:
                folder = self.run_folder(one)
                if not _is_empty(folder):
                    continue
            with ExitStack() as held:
                try:
                    held.enter_context(run_lock(folder))
                except RunBusy:
                    if is_exact:
                        raise
                    continue
                if _is_empty(folder):
                    clear_stop(folder)
                    yield folder
                    return
        raise NameTaken(f"There is a run {name} in {self.path}. Choose another name.")

    def make_run_folder(self, name: str) -> Path:
        """Make a run's folder; two processes cannot both get it. Raises NameTaken."""
        folder = self.run_folder(name)
        if name in OF_COPIES:
            raise HomeError(f"{name!r} cannot name a run: a backup has a file that is called so. Choose another.")
        for end in BESIDE:
            if name.endswith(end) and (self.path / name.removesuffix(end)).is_file():
                base = name.removesuffix(end)
                raise HomeError(f"{name!r} cannot name a run: SQLite needs it for {base}. Choose another.")
        try:
            folder.mkdir()
        except FileExistsError:
            raise NameTaken(f"{folder} is there already. Choose another name for the run.") from None
        fsync(self.path)
        return folder


def sqlite_url(file: Path) -> str:
    """Name an SQLite database by its file, whatever characters the path has."""
    from sqlalchemy import URL  # takes a while, and not everybody with a home asks

    return URL.create("sqlite", database=str(file)).render_as_string()


def check_name(name: str) -> None:
    """Refuse a run's name that cannot be a folder, a link and a metric's suffix at once."""
    if "/" in name:
        last = Path(name.removesuffix("/spec.yaml")).name
        mean = f" Did you mean {last}?" if SLUG.fullmatch(last) else ""
        raise HomeError(
            f"{name[:LONGEST_NAME]!r} is a path and cannot name a run: give a name, as `evergreen ls` lists them.{mean}"
        )
    if len(name) > LONGEST_NAME:
        raise HomeError(f"A run's name has at most {LONGEST_NAME} characters, not {len(name):,}.")
    if not SLUG.fullmatch(name):
        raise HomeError(f"{name!r} cannot name a run: use small letters, digits, '_', '.' and '-' only.")
    if name in RESERVED or name.startswith("."):
        raise HomeError(f"{name!r} cannot name a run: the home folder uses it itself. Choose another.")


def _is_empty(folder: Path) -> bool:
    """Whether a folder has nothing of a run but its lock."""
    return folder.is_dir() and all(one.name in OF_LOCKS or one.name.startswith(ASIDE) for one in folder.iterdir())


_REMEDY = f"Give a folder you can write to with --home, or set {VARIABLE}."
_WHERE = f"Runs are kept in `{DEFAULT}` of the folder where they were started: cd there, or say --home or {VARIABLE}."
