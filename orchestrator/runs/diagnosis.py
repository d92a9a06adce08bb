"""What is wrong with a home and its runs, and what to do about each. It looks and mends nothing; it loads no torch."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sqlite3
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from environments.contracts import EnvironmentFault
from environments.slices.slice_file import read_kept_slices
from orchestrator.errors import UserError
from orchestrator.recording import outbox
from orchestrator.redirects import WITHOUT_REDIRECTS
from orchestrator.runs import stop_reasons
from orchestrator.runs.catalog import entered_again, existing, inventory, kept_sections, opened
from orchestrator.runs.kept_spec import kept_spec
from orchestrator.runs.provenance import differences, versions
from orchestrator.runs.recovery import unrecorded
from orchestrator.runs.tracker_process import job_of
from policies.errors import PolicyError
from policies.samplers.serving.server_list import ServerList
from store import checkpoints
from store.courses import RunCourse
from store.errors import CheckpointError, StoreError
from store.home import DATABASES, Home
from store.identity import SLICES
from store.ledger import Reading
from store.ledger.engine import read_only_uri
from store.lock import holder
from store.run_status import status
from store.secrets import url_without_logins
from store.sentences import listed, num, size_in_words
from store.tracker.pages import Cursor, covered
from store.tracker.record import CURSOR, UID, Target, is_server
from store.tracker.sinks import Kept, missing

Severity = Literal["error", "warning", "note"]
Tell = Callable[[str], None]

ANSWER_S = 3.0  # for a server that is asked whether it is there
ANSWER_BYTES = 1 << 20
GOES_ON = ("running", "stopped", "killed", "failed")  # what such a run needs is needed again
ROOM = 2  # newest checkpoints that a run in need of disk should find room for: one is written beside the last
NVIDIA = Path("/dev")  # where the system shows its GPUs


@dataclass(frozen=True)
class Diagnosis:
    """One thing that was found."""

    severity: Severity
    about: str  # "disk", "ledger", "host", "mlflow", or a run's name
    text: str
    remedy: str = ""  # a command, or what to do; empty: nothing has to be done


def diagnose(path: Path, only: str | None = None, tell: Tell = lambda text: None) -> Iterator[Diagnosis]:
    """Look at a home, its ledgers and its runs; at one run all checkpoints are read, else every run's newest.

    `tell` hears what is being looked at. Raises UserError for a run that is not there.
    """
    home = Home(path, create=False)
    if only is not None:
        existing(home, only)
    tell("disk and databases")
    yield from _home(home)
    try:
        found = inventory(path)
    except (StoreError, UserError) as failed:
        yield Diagnosis("error", "ledger", str(failed))
        return
    yield from (Diagnosis("error", "ledger", text) for text in found.problems)
    for name in found.half_removed:
        if only in (None, name):
            yield Diagnosis("warning", name, "is half removed", f"`evergreen rm {name}` removes the rest")
    for name, study in found.strays.items():
        if only in (None, name):
            text = "its folder is here, and its ledger does not know it"
            yield Diagnosis("warning", name, text, entered_again(name, study))
    runs = [run for run in found.runs if only in (None, run.name) and home.run_folder(run.name).is_dir()]
    for number, run in enumerate(runs, start=1):
        tell(f"{run.name} ({number} of {len(runs)})")
        try:
            with opened(path, run.name) as (_, ledger):
                yield from _run(home, run, ledger.reading, is_close=only is not None)
        except (StoreError, UserError) as failed:
            yield Diagnosis("error", run.name, str(failed))


def _home(home: Home) -> Iterator[Diagnosis]:
    """Look at the folder and the disk below it, and at databases that are files."""
    if not os.access(home.path, os.W_OK | os.X_OK):
        remedy = "give yourself the right to write there, or copy it; looking needs none"
        yield Diagnosis("error", "disk", f"{home.path} cannot be written to: no run can go on there", remedy)
    for name in DATABASES:
        file = home.path / name
        if file.is_file() and (wrong := damage(file)):
            yield Diagnosis("error", name, f"the database {file} is damaged: {wrong}", _REMEDY_OF_DAMAGE[name])
    for entry in sorted(home.warm_starts.glob("[!.]*")):
        try:
            checkpoints.verify(entry)
        except CheckpointError as wrong:
            yield Diagnosis("warning", "warm start", str(wrong), "the next run that begins with it makes it again")


def damage(database: Path) -> str | None:
    """What SQLite finds wrong with a file, without changing it; None: nothing."""
    try:
        with closing(_reader(database)) as connection:
            rows = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
    except sqlite3.OperationalError as failed:
        return None if "lock" in str(failed) else str(failed)
    except sqlite3.DatabaseError as failed:
        return str(failed)
    return None if rows == ["ok"] else "; ".join(line for row in rows for line in str(row).splitlines()[:3])


def _reader(database: Path) -> sqlite3.Connection:
    uri = read_only_uri(database) or f"{database.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=10)


def _run(home: Home, run: RunCourse, read: Reading, is_close: bool) -> Iterator[Diagnosis]:
    """Look at one run."""
    folder, now = home.run_folder(run.name), status(run.status, home.run_folder(run.name))
    diverged = stop_reasons.last_divergence(read.events(run.name)) if now in GOES_ON else None
    if diverged is not None and now != "running":
        yield Diagnosis("error", run.name, diverged.text)  # which says how to go on
    elif now == "killed":
        yield Diagnosis("warning", run.name, "was killed", f"`evergreen resume {run.name}` goes on with it")
    elif now in ("stopped", "failed"):
        why = f": {run.end}" if run.end else ""
        yield Diagnosis("note", run.name, f"{now}{why}", f"`evergreen resume {run.name}` goes on with it")
    elif now == "running":
        yield Diagnosis("note", run.name, f"is run by {holder(folder)}")
    yield from _checkpoints(run, read, folder, is_close, now, stop_reasons.healthy_under(diverged))
    if (folder / outbox.FILE).is_file() and now != "running":
        text = "its last steps are in its folder and not in the ledger, which was away"
        yield Diagnosis("warning", run.name, text, f"`evergreen resume {run.name}` tells it")
    if (folder / SLICES).is_file() and now in GOES_ON:
        try:
            read_kept_slices(folder / SLICES)
        except EnvironmentFault as fault:
            yield Diagnosis("error", run.name, str(fault))
    kept = kept_spec(read, folder, run.name)
    yield from (Diagnosis("warning", run.name, text) for text in kept.said(kept.spec) if now != "running")
    if now in GOES_ON:
        yield from _host(run.name, read.host(run.name), read.spec(run.name))
    yield from _tracked(home, run, read, now)


def _checkpoints(
    run: RunCourse, read: Reading, folder: Path, is_close: bool, now: str, is_healthy: Callable[[Path], None]
) -> Iterator[Diagnosis]:
    """Read checkpoints: is each as it was written and healthy, and is there room for the next?"""
    records = read.checkpoints(run.name)
    is_settled = is_close and now != "running"  # a run that goes on deletes older ones meanwhile
    broken: dict[int, CheckpointError] = {}  # by place among the records
    for place, record in enumerate(records if is_settled else records[:1]):
        try:
            checkpoints.verify(folder / record.folder, record.sha256)
            is_healthy(folder / record.folder)
        except CheckpointError as wrong:
            broken[place] = wrong
    # what was not read is not promised
    sound = next((one.step for place, one in enumerate(records) if place not in broken), None)
    for place, fault in broken.items():
        record = records[place]
        if not is_settled and len(records) > 1:
            older = f"looks for an older one (`evergreen doctor {run.name}` says which are whole)"
        else:
            older = "begins at step 0" if sound is None else f"takes that of step {sound}"
        remedy = f"`evergreen resume {run.name}` passes it over and {older}"
        if now == "finished":
            anew = f"; `evergreen fork {run.name} --stage N` goes on from one that holds"
            remedy = f"what is told of it stays{anew if sound is not None else ''}"
        elif sound is None and run.parent is not None:
            remedy = f"no other is whole: {stop_reasons.begun_anew(run, folder)}"
        yield Diagnosis("error", run.name, f"the checkpoint of step {record.step}: {fault}", remedy)
    # one that was being written when the run was killed is no news
    for path in unrecorded(folder, records) if now not in ("running", "killed") else ():
        text = f"the ledger does not know the checkpoint {path.name}"
        yield Diagnosis(
            "warning", run.name, text, f"`evergreen resume {run.name}` enters it if it is newer, and goes on"
        )
    if now in GOES_ON and records and (free := shutil.disk_usage(folder).free) < ROOM * records[0].num_bytes:
        text = f"{size_in_words(free)} of disk are free, and a checkpoint takes {size_in_words(records[0].num_bytes)}"
        yield Diagnosis("error", run.name, text, "`evergreen prune` deletes what no run needs, --dry-run says how much")


def _host(name: str, before: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Diagnosis]:
    """Is what a run needs to go on still here: versions, processor, GPU, engine?"""
    if changed := differences(before, versions()):
        text = f"since it began {listed(changed, 4)}: it goes on, but perhaps not bit for bit"
        yield Diagnosis("warning", name, text, "install those versions again where the bits matter")
    if spec["resources"]["device"] == "cuda" and not any(NVIDIA.glob("nvidia[0-9]*")):
        text = "it runs on a GPU, and the system shows none"
        yield Diagnosis("error", name, text, "`nvidia-smi` tells why; `--set resources.device=cpu` goes on without one")
    sampler = spec["sampler"]
    if sampler["type"] == "vllm" and find_spec("vllm") is None:
        yield Diagnosis("error", name, "it plays with vLLM, which is not installed", "pip install 'evergreen-rl[vllm]'")
    for url in _servers(sampler) if sampler["type"] == "vllm_server" else ():
        if why := silence(f"{url}/health", directly=True):
            text = f"its server {url_without_logins(url)} does not answer: {why}"
            yield Diagnosis("error", name, text, "`evergreen serve SPEC` starts the servers of this host")


def _servers(sampler: Mapping[str, Any]) -> list[str]:
    """Give the URLs of a sampler's servers as they are listed now; none, where the list cannot be read."""
    file = sampler.get("urls_file")
    try:
        return ServerList(sampler["urls"], file and Path(file), sampler.get("every_address", False)).read()
    except PolicyError:
        return []


def _tracked(home: Home, run: RunCourse, read: Reading, now: str) -> Iterator[Diagnosis]:
    """Is every tracker's record as far as the ledger?"""
    remedy = f"`evergreen ui {run.name} --catch-up-only` brings it up to date"
    if (job := job_of(kept_sections(home, run.name), home, run.name)) is None:
        return
    for to in job.also:
        if (install := missing(to.kind)) is not None:
            yield Diagnosis("warning", run.name, f"its record goes to {to.name}, and {to.kind} is not here", install)
        kept = Kept.read(home.run_folder(run.name), to.kind)
        sent = kept.cursor if kept.uid == run.uid else Cursor()
        yield from _behind(run.name, to.name, sent, covered(read, run.name), now, remedy)
    if job.target is not None:
        yield from _in_mlflow(run, job.target, read, now, remedy)


def _in_mlflow(run: RunCourse, target: Target, read: Reading, now: str, remedy: str) -> Iterator[Diagnosis]:
    """Is MLflow's record as far as the ledger?"""
    uri, sent = target.uri, None
    if is_server(uri):
        if why := silence(f"{uri.rstrip('/')}/health"):
            text = f"its MLflow server {url_without_logins(uri)} does not answer: {why}; the run goes on without"
            yield Diagnosis("warning", run.name, text, f"once it is there, {remedy}")
            return
        try:
            sent = _sent_to_server(uri.rstrip("/"), target.experiment, run.uid)
        except (OSError, ValueError, KeyError, TypeError) as failed:
            text = f"its MLflow server {url_without_logins(uri)} does not say how far its record goes: {failed}"
            yield Diagnosis("note", run.name, text)
    elif (file := target.database) is not None:
        sent = _sent(file, run.uid)
    if sent is not None:
        yield from _behind(run.name, "MLflow", sent, covered(read, run.name), now, remedy)


def _behind(run: str, whose: str, sent: Cursor, known: Cursor, now: str, remedy: str) -> Iterator[Diagnosis]:
    """Does a record lack what is certain, where no tracker is sending it?"""
    behind = max(known.step - sent.step, 0), max(known.num_boundaries - sent.num_boundaries, 0)
    if any(behind) and now != "running":
        its = "'" if whose.endswith("s") else "'s"
        text = f"{whose}{its} record lacks {num(behind[0], 'step')}, and of the boundaries {behind[1]}"
        yield Diagnosis("warning", run, text, remedy)


def _sent(database: Path, uid: str) -> Cursor:
    """How far the record of a run goes, read from MLflow's tables."""
    query = (
        "SELECT c.value FROM tags c JOIN tags u ON u.run_uuid = c.run_uuid JOIN runs r ON r.run_uuid = c.run_uuid "
        "WHERE c.key = ? AND u.key = ? AND u.value = ? AND r.lifecycle_stage = 'active'"
    )
    if not database.is_file():
        return Cursor()
    try:
        with closing(_reader(database)) as connection:
            row = connection.execute(query, (CURSOR, UID, uid)).fetchone()
    except sqlite3.DatabaseError:  # `damage` tells; without tables there is no record
        row = None
    return Cursor.from_tag(row and row[0])


def _sent_to_server(uri: str, experiment: str, uid: str) -> Cursor:
    """How far the record of a run goes, asked of MLflow's server as its client asks, with the client's variables."""
    headers = {"Content-Type": "application/json"}
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    elif user := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        login = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"

    def ask(path: str, body: Mapping[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{uri}/api/2.0/mlflow/{path}", data, headers)
        call = urllib.request.urlopen if data is None else WITHOUT_REDIRECTS.open
        with call(request, timeout=ANSWER_S) as answer:
            return json.loads(answer.read(ANSWER_BYTES))

    try:
        found = ask(f"experiments/get-by-name?experiment_name={urllib.parse.quote(experiment, safe='')}")
    except urllib.error.HTTPError as answer:
        if answer.code == 404:  # there is no such experiment yet
            return Cursor()
        raise
    wanted = {"filter": f"tags.`{UID}` = '{uid}'", "max_results": 1}
    runs = ask("runs/search", {"experiment_ids": [found["experiment"]["experiment_id"]], **wanted}).get("runs", [])
    tags = {tag["key"]: tag["value"] for run in runs for tag in run["data"].get("tags", [])}
    return Cursor.from_tag(tags.get(CURSOR))


def silence(url: str, directly: bool = False) -> str | None:
    """Why nobody answers there; None: somebody does, be it with a refusal.

    `directly`: without the proxies that variables name, which a run does not take to its servers either.
    """
    ways = [urllib.request.ProxyHandler({})] if directly else []
    try:
        urllib.request.build_opener(*ways).open(url, timeout=ANSWER_S).close()
    except urllib.error.HTTPError as answer:
        return None if answer.code < 500 else f"HTTP {answer.code}"
    except (OSError, ValueError) as failed:
        return str(getattr(failed, "reason", failed))
    return None


_ASIDE = "put it aside (`mv`, with its -wal and -shm), then"
_REMEDY_OF_DAMAGE = {
    "evergreen.db": f"{_ASIDE} `evergreen resume RUN` enters each run again from its folder and says what is missing",
    "mlflow.db": f"{_ASIDE} `evergreen ui --catch-up-only` makes it anew",
}
