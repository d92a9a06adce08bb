"""Runs as tasks of a Ray cluster, each a process of its own beside the task; on other machines where there are any.

Ray finds the place, by the cores and GPUs that a run takes, and starts a task again elsewhere when its node is lost;
the run then goes on from its newest checkpoint. So the home has to be where all nodes see it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from orchestrator.errors import RESUMABLE, YOUR_MISTAKE, EvergreenError, UserError
from orchestrator.locations import kinds_of
from orchestrator.studies.run_processes import LOST, ONE_THREAD, RunRequest
from store.home import Home
from store.lock import holder, request_stop

TRIES_ELSEWHERE = 10  # of one task, when nodes are lost
STORE_BYTES = 80_000_000  # of a cluster that is started here: nothing but requests and exit codes is in its store
POLL_S = 0.2
ANSWER_S = 10.0
LOOK_S = 2.0  # between two looks at the cluster's head
HEAD_S = 40.0  # without an answer of it: after 60 s Ray would end this process, without a word
LOCK_S = 300.0  # for a run's lock, which a file server may keep for a lost node: NFS does for 90 s, as it comes
SAVE_S = 60.0  # for a run that is ended with its task to finish its step and save
# A run's process, with its parent's id: it ends with that before the imports of a run, which take seconds.
CHILD = """import sys
from environments.scoring.leader import die_with
die_with(int(sys.argv[1]))
from orchestrator.cli.study_worker import main
sys.exit(main(int(sys.argv[1])))"""
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}


class ClusterLost(EvergreenError):
    """The cluster is gone; the same command goes on where there is one again."""

    exit_code = RESUMABLE


class Head:
    """A cluster's head, and since when it does not answer."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._looked_at = time.monotonic()
        self._silent_since: float | None = None  # the first look in vain, however long ago the one before was

    def require(self) -> None:
        """Look now and then. Raises ClusterLost: no answer for too long."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_S:
            return
        host, _, port = self._address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), LOOK_S).close()
            self._silent_since = None
        except OSError as error:
            if self._silent_since is None:
                self._silent_since = now
            if now - self._silent_since >= HEAD_S:
                raise ClusterLost(
                    f"--on ray: the cluster's head at {self._address} does not answer any more ({error}); its runs end "
                    "with it. The same command goes on with them once there is a cluster"
                ) from error
        self._looked_at = time.monotonic()


class RayTasks:
    """Starts runs on a cluster, as `RunProcesses` does on this machine. As a context: all are gone at its end."""

    def __init__(self, address: str | None = None) -> None:
        """`address`: the cluster's; None: that of RAY_ADDRESS, else one on this machine, for as long as this lasts.

        Raises UserError: Ray is not installed, or there is no cluster.
        """
        if find_spec("ray") is None:
            raise UserError("--on ray needs Ray, which is not here: pip install 'evergreen-rl[ray]'")
        self._address = address or os.environ.get("RAY_ADDRESS")
        self._tasks: dict[str, Any] = {}
        self._requests: dict[str, RunRequest] = {}
        self._ended: dict[str, int] = {}
        self._asked: set[str] = set()  # to stop
        self._connect()

    def _connect(self) -> None:
        import ray
        from ray.exceptions import RayError

        _require_answer(self._address)

        os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
        own = {} if self._address else {"object_store_memory": STORE_BYTES, "include_dashboard": False}
        try:
            ray.init(address=self._address or "local", log_to_driver=False, logging_level="ERROR", **own)
        except (ConnectionError, RuntimeError, ValueError, RayError) as error:
            where, hint = self._address or "this machine", ""
            if self._address and "RAY_AUTH_MODE" not in os.environ:  # a token goes nowhere unless the user says so
                hint = "; if it wants a token, as clusters do that `ray start` makes where ~/.ray/auth_token is, set"
                hint += " RAY_AUTH_MODE=token"
            raise UserError(f"--on ray: no cluster at {where}: {str(error).splitlines()[0]}{hint}") from error
        # Asked once, for without the head such calls wait until Ray ends this process.
        self._head = Head(ray.get_runtime_context().gcs_address)
        self._has_gpus = bool(ray.cluster_resources().get("GPU"))
        self._do_run = ray.remote(do_run)

    def __enter__(self) -> RayTasks:
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        ray.shutdown()  # what this process has started goes with its connection

    def require_shared_databases(self, ledger_url: str, tracker: Mapping[str, Any]) -> None:
        """Refuse a ledger or an MLflow record in a file of SQLite where the nodes are several machines."""
        import ray

        hosts = {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
        if len(hosts) == 1:
            return
        refused = f"--on ray: {len(hosts)} machines cannot write one SQLite file: give the study's spec"
        if ledger_url.startswith("sqlite"):
            raise UserError(f"{refused} a ledger on PostgreSQL, `ledger: {{url: postgresql://...}}`")
        if "mlflow" in kinds_of(tracker) and (tracker["uri"] or "sqlite").startswith("sqlite"):
            raise UserError(f"{refused} an MLflow server, `tracker: {{uri: http://...}}`, or `tracker: none`")

    def capacity(self, spec: Mapping[str, Any]) -> int:
        """Count the runs of a spec that fit the nodes at a time. Raises UserError: none does."""
        import ray

        wanted = {name: num for name, num in resources_of(spec, has_gpus=self._has_gpus).items() if num}
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        fitting = sum(min(int(there.get(name, 0) // num) for name, num in wanted.items()) for there in nodes)
        if not fitting:
            words = " and ".join(f"{num} {name}" for name, num in wanted.items())
            most = max((there.get("CPU", 0) for there in nodes), default=0)
            raise UserError(f"--on ray: a run takes {words} of one node, and the largest has {most:.0f} CPU")
        return fitting

    def start(self, request: RunRequest) -> None:
        """Give a run a task, which waits until there is room."""
        wanted = resources_of(request.spec, has_gpus=self._has_gpus)
        self._requests[request.name] = request
        _stop_file(request).unlink(missing_ok=True)
        self._ended.pop(request.name, None)
        task = self._do_run.options(
            name=request.name, num_cpus=wanted["CPU"], num_gpus=wanted["GPU"], max_retries=TRIES_ELSEWHERE
        )
        self._tasks[request.name] = task.remote(json.dumps(asdict(request)))

    def ask_to_stop(self, name: str) -> None:
        """Ask a run to finish its step, save and exit; one that has not begun does not begin."""
        import ray

        self._asked.add(name)
        _stop_file(self._requests[name]).touch()
        if not self._ask_again(name):  # it waits for room, or has hardly begun and loses nothing
            ray.cancel(self._tasks[name])

    def _ask_again(self, name: str) -> bool:
        """Ask a run that somebody holds: nobody else hears, and whoever takes it forgets what was asked before."""
        folder = Home(self._requests[name].home).run_folder(name)
        is_held = folder.is_dir() and holder(folder) is not None
        if is_held:
            request_stop(folder)
        return is_held

    def exit_code(self, name: str) -> int | None:
        """Return a run's exit code, below 0 for the signal that killed it; None while it goes.

        Raises ClusterLost.
        """
        import ray
        from ray.exceptions import RayError, RayTaskError, TaskCancelledError

        if name in self._ended or name not in self._tasks:
            return self._ended.get(name)
        ready, _ = ray.wait([self._tasks[name]], timeout=0)
        if not ready:
            self._head.require()
            if name in self._asked:
                self._ask_again(name)
            return None
        try:
            code: int = ray.get(ready[0])
        except TaskCancelledError:  # by us, before it began
            code = RESUMABLE
        except RayTaskError as error:  # before the run: what it says stands nowhere else
            _note(self._requests[name], str(error.cause if isinstance(error.cause, Exception) else error))
            code = YOUR_MISTAKE
        except RayError as error:
            _note(self._requests[name], f"Ray gave it up, after up to {TRIES_ELSEWHERE + 1} tries: {error}")
            code = LOST
        self._ended[name] = code
        return code


def _note(request: RunRequest, text: str) -> None:
    """Add to what a run has printed."""
    log = Path(request.log)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        file.write(text.rstrip() + "\n")


def _stop_file(request: RunRequest) -> Path:
    """Name a file that says that a run shall not begin any more."""
    return Path(f"{request.log}.stop")


def _require_answer(address: str | None) -> None:
    """Refuse an address where nothing listens, for which Ray would wait for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        try:
            socket.create_connection((host, int(port)), ANSWER_S).close()
        except OSError as error:
            raise UserError(f"--on ray: no cluster at {address}: {error}") from error


def resources_of(spec: Mapping[str, Any], *, has_gpus: bool) -> dict[str, int]:
    """Say what a run of a spec takes: a core a thread, and a GPU a rank where it trains on GPUs."""
    asked = spec["resources"]
    is_on_gpu = asked["device"] == "cuda" or (asked["device"] == "auto" and has_gpus)
    return {"CPU": asked["threads"] * asked["ranks"], "GPU": asked["ranks"] if is_on_gpu else 0}


def do_run(text: str) -> int:
    """Do a run on a node, in a process beside this one; its exit code. Raises RuntimeError: the home is not here."""
    request = RunRequest(**json.loads(text))
    if not Path(request.log).parent.is_dir():
        raise RuntimeError(
            f"{socket.gethostname()} does not see the home {request.home}: have it where all nodes see it"
        )
    folder, until = Home(request.home).run_folder(request.name), time.monotonic() + LOCK_S
    while not _stop_file(request).exists() and folder.is_dir() and (who := holder(folder)) is not None:
        if time.monotonic() >= until:
            _note(request, f"the run is in use by {who}, for {LOCK_S:.0f} s at least; the same command goes on with it")
            return RESUMABLE
        time.sleep(POLL_S)  # a node that was lost may not have ended yet
    if _stop_file(request).exists():
        return RESUMABLE
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", CHILD, str(os.getpid())],
        stdin=subprocess.PIPE,
        env={**os.environ, **ONE_THREAD},
        text=True,
    )
    assert process.stdin is not None
    try:
        with process.stdin:
            process.stdin.write(text)
        while process.poll() is None:
            time.sleep(POLL_S)
    except KeyboardInterrupt:  # the task is cancelled, of which it hears between two instructions
        _end(process)
    except BaseException:
        _end(process)
        raise
    return process.wait()


def _end(process: subprocess.Popen[str]) -> None:
    """Have a run finish its step and save, if that does not take too long."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(SAVE_S)
    process.kill()
