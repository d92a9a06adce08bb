"""MLflow's side: where a record goes, and one experiment's runs, found and made and written to.

The only file that talks to MLflow.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sqlalchemy import create_engine, make_url, select
from sqlalchemy.exc import SQLAlchemyError

from store.errors import TrackerError
from store.home import sqlite_url
from store.ledger.engine import switch_to_wal
from store.lock import taking_turns
from store.secrets import url_without_logins, without_logins
from store.tracker import saved_view
from store.tracker.names import TRAINABILITY, MlflowValue

SERVERS = ("http://", "https://", "databricks")
BATCH = 1000  # values a request, MLflow's own limit
POLL_S = 0.1  # between two tries of a lock
MAKING_S = 120.0  # for another process to make the database, which takes ten

KIND, UID, CURSOR = "evergreen.kind", "evergreen.run_uid", "evergreen.cursor"
REACH = "evergreen.reach"  # tag, set before a pass's first value: values may be there up to this position
_AWAY = {  # errors of the HTTP library, which MLflow wraps
    "RetryError": "it answers with errors only",
    "ConnectionError": "nobody answers there",
    "ConnectTimeout": "nobody answers there",
    "ReadTimeout": "no answer in time",
}


MANNERS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
PATIENCE = {  # a server that is away is for our own pauses, not for minutes inside one call
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


@dataclass(frozen=True)
class Target:
    """A place for records."""

    uri: str  # an MLflow tracking URI
    experiment: str
    artifacts: str | None  # a URI for files; None: the server keeps them itself

    @property
    def database(self) -> Path | None:
        """The file of an SQLite database; None for everything else."""
        if not self.uri.startswith("sqlite:"):
            return None
        return Path(make_url(self.uri).database or "").absolute()

    def __str__(self) -> str:
        return url_without_logins(self.uri)


def is_server(uri: str) -> bool:
    """Whether a tracking URI names a server, which keeps files itself; else it names a database."""
    return uri.startswith(SERVERS)


def mind_manners() -> None:
    """Set MLflow's switches for this process and its children; before MLflow is imported."""
    os.environ.update(MANNERS)
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)


@dataclass(frozen=True)
class MlflowRun:
    """A run of MLflow's: a curriculum or one of its stages."""

    id: str
    status: str
    ended_ms: int | None
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)


class MlflowRecord:
    """An experiment of MLflow's. Whatever goes wrong is a `TrackerError` in words; see `speaking_of`."""

    def __init__(self, target: Target) -> None:
        mind_manners()
        from mlflow import MlflowClient

        make_database(target)
        self.target = target
        self.client: Any = MlflowClient(target.uri)
        experiment = self._experiment()
        self.experiment_id = str(experiment.experiment_id)
        self.has_view = self._offer_view(experiment)

    def curriculum(self, uid: str) -> MlflowRun | None:
        """Find the run of a curriculum. Of twins, which a lost answer can leave, the one that was written to."""
        found = self._find(f"tags.`{KIND}` = 'curriculum' and tags.`{UID}` = '{uid}'")
        return max(found, key=_written, default=None)

    def curricula(self) -> dict[str, MlflowRun]:
        """Find the runs of all curricula, by the uid; of twins as `curriculum` does.

        A database is asked for tags and params alone: MLflow's search brings the last value of every metric along,
        for a thousand runs four seconds' worth.
        """
        is_curriculum = f"tags.`{KIND}` = 'curriculum'"
        found = self._find(is_curriculum) if self.target.database is None else self._curricula_in_database()
        by_uid: dict[str, MlflowRun] = {}
        for entry in sorted(found, key=_written):
            by_uid[entry.tags.get(UID, "")] = entry
        return by_uid

    def _curricula_in_database(self) -> list[MlflowRun]:
        from mlflow.store.tracking.dbmodels.models import SqlParam, SqlRun, SqlTag

        run, tag, param = (model.__table__.c for model in (SqlRun, SqlTag, SqlParam))
        here = run.experiment_id == int(self.experiment_id), run.lifecycle_stage == "active"
        ours = select(tag.run_uuid).where(tag.key == KIND, tag.value == "curriculum")
        runs = select(run.run_uuid, run.status, run.end_time).where(*here, run.run_uuid.in_(ours))
        engine = create_engine(self.target.uri)
        try:
            with engine.connect() as connection:
                found = {id: MlflowRun(id, status, ended, {}, {}) for id, status, ended in connection.execute(runs)}
                for of, name in ((tag, "tags"), (param, "params")):
                    for id, key, value in connection.execute(select(of.run_uuid, of.key, of.value)):
                        if id in found:
                            getattr(found[id], name)[key] = value
        finally:
            engine.dispose()
        return list(found.values())

    def stages(self, parent: MlflowRun) -> dict[int, MlflowRun]:
        """Find the runs of a curriculum's stages, by number."""
        found = self._find(f"tags.`mlflow.parentRunId` = '{parent.id}'")
        tag = "evergreen.stage"
        return {int(entry.tags[tag]): entry for entry in found if tag in entry.tags}

    def begin(self, name: str, started_ms: int, tags: Mapping[str, str]) -> MlflowRun:
        """Make a run."""
        return _entry(self.client.create_run(self.experiment_id, started_ms, dict(tags), name))

    def describe(self, entry: MlflowRun, params: Mapping[str, str]) -> None:
        """Give a run the params that it does not have yet; MLflow refuses to change one."""
        from mlflow.entities import Param

        new = [Param(key, value) for key, value in params.items() if key not in entry.params]
        if new:
            self.client.log_batch(entry.id, params=new)

    def tag(self, entry: MlflowRun, tags: Mapping[str, str]) -> None:
        """Set the tags that differ."""
        from mlflow.entities import RunTag

        new = [RunTag(key, value) for key, value in tags.items() if entry.tags.get(key) != value]
        if new:
            self.client.log_batch(entry.id, tags=new)

    def write(self, entry: MlflowRun, points: Sequence[MlflowValue]) -> None:
        """Add points to a run's series; those that are there already stay single."""
        from mlflow.entities import Metric

        if self.has_view and any(point.name == TRAINABILITY for point in points):
            self.has_view = self._offer_view(self.client.get_experiment(self.experiment_id), has_trainability=True)
        metrics = [Metric(point.name, point.value, point.at_ms, point.step) for point in points]
        for start in range(0, len(metrics), BATCH):
            self.client.log_batch(entry.id, metrics=metrics[start : start + BATCH])

    def move_cursor(self, entry: MlflowRun, text: str) -> None:
        """Remember, beside the values themselves, how far they go."""
        self.client.set_tag(entry.id, CURSOR, text)

    def attach(self, entry: MlflowRun, folder: Path) -> None:
        """Put files beside a run's values, over those of the same name."""
        self.client.log_artifacts(entry.id, str(folder))

    def conclude(self, entry: MlflowRun, status: str, ended_ms: int | None) -> None:
        """Set a run's status, and when it ended, unless they are so already."""
        if status == entry.status and (ended_ms is None or ended_ms == entry.ended_ms):
            return
        if ended_ms is None:
            self.client.update_run(entry.id, status)
        else:
            self.client.set_terminated(entry.id, status, ended_ms)

    def forget(self, parent: MlflowRun) -> None:
        """Delete a curriculum's runs, its own last: a crash on the way leaves it to be found and forgotten again."""
        for stage in self._find(f"tags.`mlflow.parentRunId` = '{parent.id}'"):
            self.client.delete_run(stage.id)
        self.client.delete_run(parent.id)

    @classmethod
    def of(cls, target: Target) -> MlflowRecord | None:
        """Open the experiment if it is there, and make nothing."""
        mind_manners()
        if target.database is not None and not target.database.exists():
            return None
        from mlflow import MlflowClient

        experiment = MlflowClient(target.uri).get_experiment_by_name(target.experiment)
        return cls(target) if experiment is not None and experiment.lifecycle_stage == "active" else None

    def _find(self, query: str) -> list[MlflowRun]:
        """Search all pages: a curriculum may have more stages than one holds."""
        found: list[MlflowRun] = []
        token = None
        while True:
            page = self.client.search_runs([self.experiment_id], query, page_token=token)
            found += map(_entry, page)
            token = page.token
            if not token:
                return found

    def _offer_view(self, experiment: Any, has_trainability: bool = False) -> bool:
        """Put our view beside those that people saved, unless it is there; False where MLflow takes none.

        One with trainability stays: some run of the experiment has it.
        """
        from mlflow.exceptions import MlflowException

        offered = experiment.tags.get(saved_view.TAG, "")
        view = saved_view.tag(has_trainability or TRAINABILITY in offered)
        if offered != view:
            try:
                self.client.set_experiment_tag(self.experiment_id, saved_view.TAG, view)
            except MlflowException:  # one who may write runs need not be one who may edit the experiment
                return False
        return True

    def _experiment(self) -> Any:
        from mlflow.exceptions import MlflowException

        name = self.target.experiment
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            try:
                tags = {"mlflow.experimentKind": "custom_model_development"}  # its UI has two faces
                made = self.client.create_experiment(name, self.target.artifacts, tags)
                return self.client.get_experiment(made)
            except MlflowException:  # another tracker may have been faster
                experiment = self.client.get_experiment_by_name(name)
                if experiment is None:
                    raise
        if experiment.lifecycle_stage != "active":
            raise TrackerError(
                f"The experiment {name!r} at {self.target} was deleted. Restore it with `mlflow experiments restore "
                f"-x {experiment.experiment_id}`, or name another with `--set tracker.experiment=NAME`."
            )
        return experiment


@contextmanager
def locked(path: Path, wait_s: float, what: str, goes_on: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Hold a file's lock. Raises `TrackerError` when it is not free in time, which is given again while `goes_on`."""
    give_up_at = time.monotonic() + wait_s

    def wait() -> None:
        nonlocal give_up_at
        if time.monotonic() > give_up_at and goes_on():
            give_up_at = time.monotonic() + wait_s
        elif time.monotonic() > give_up_at:
            raise TrackerError(f"Waited {wait_s:.0f} s for {what}; another process is still at it.")
        time.sleep(POLL_S)

    with taking_turns(path, wait):
        yield


@contextmanager
def speaking_of(target: Target) -> Iterator[None]:
    """Turn what MLflow, its database or its server raise into a `TrackerError` that names the place."""
    mind_manners()
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as failed:
        raise TrackerError(f"Bringing MLflow at {target} up to date failed: {_reason(failed)}.") from failed


def _reason(failed: BaseException) -> str:
    """Say why in a line; below what MLflow raises there is often a kind of error that says it better."""
    below: BaseException | None = failed
    while below is not None:
        if type(below).__name__ in _AWAY:
            return _AWAY[type(below).__name__]
        below = below.__cause__ or below.__context__
    return without_logins(str(failed)).strip().partition("\n")[0][:300].rstrip(".")


def make_database(target: Target) -> None:
    """Make an SQLite database for MLflow, aside so that a crash leaves none that is half made, and in WAL mode.

    In its usual mode a reader holds up the writer, and the other way round; every write is slower, too.
    """
    path = target.database
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f".{path.name}.lock"), MAKING_S, f"MLflow's database {path} to be made"):
        if not path.exists():
            aside = path.with_name(f".aside-{path.name}")
            aside.unlink(missing_ok=True)
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

            # MLflow makes its tables; they name a place for files of its default experiment, too
            SqlAlchemyStore(sqlite_url(aside), target.artifacts or str(path.parent)).engine.dispose()
            with closing(sqlite3.connect(aside)) as database:
                switch_to_wal(database)
            aside.rename(path)
        else:
            with closing(sqlite3.connect(path, timeout=20)) as database:
                switch_to_wal(database)
                _keep_files_here(database, target)


def _keep_files_here(database: sqlite3.Connection, target: Target) -> None:
    """Have the database of a home that was moved, copied or restored name its own folder for files.

    MLflow keeps absolute places: files would be written over those of the home that it came from.
    """
    here, find = target.artifacts or "", "SELECT artifact_location FROM experiments WHERE name = ?"
    (there,) = database.execute(find, (target.experiment,)).fetchone() or ("",)
    folder, old = (Path(unquote(urlsplit(uri).path)) for uri in (here, there))
    is_own = folder.parent.resolve() == Path(target.database or "").parent.resolve() and old.name == folder.name
    if not (is_own and there.startswith("file://")) or old.resolve() == folder.resolve():
        return
    with database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            database.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column} || '/', 1, ?) = ?",
                (here, len(there) + 1, len(there) + 1, f"{there}/"),
            )


def _written(entry: MlflowRun) -> int:
    """More for a run that values were written to than for one that they were not."""
    return len(entry.tags.get(CURSOR, ""))


def _entry(run: Any) -> MlflowRun:
    info = run.info
    return MlflowRun(info.run_id, info.status, info.end_time, dict(run.data.tags), dict(run.data.params))
