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

from orchestrator.errors import RESUMABLE, YOUR_MISTAKE, UserError
from orchestrator.studies.run_processes import LOST, ONE_THREAD, RunRequest
from store.home import Home
from store.lock import holder, request_stop

TRIES_ELSEWHERE = 10  # of one task, when nodes are lost
STORE_BYTES = 80_000_000  # of a cluster that is started here: nothing but requests and exit codes is in its store
POLL_S = 0.2
LOCK_S = 60.0  # for a run's lock, which a lost node may still hold
CHILD = "import sys; from orchestrator.cli.study_worker import main; sys.exit(main())"
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}


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
        self._connect()

    def _connect(self) -> None:
        import ray

        os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
        own = {} if self._address else {"object_store_memory": STORE_BYTES, "include_dashboard": False}
        try:
            ray.init(address=self._address or "local", log_to_driver=False, logging_level="ERROR", **own)
        except (ConnectionError, RuntimeError, ValueError) as error:
            where = self._address or "this machine"
            raise UserError(f"--on ray: no cluster at {where}: {str(error).splitlines()[0]}") from error

    def __enter__(self) -> RayTasks:
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        ray.shutdown()  # what this process has started goes with its connection

    def require_shared_ledger(self, url: str) -> None:
        """Refuse a ledger in a file where the nodes are several machines."""
        import ray

        hosts = {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
        if len(hosts) > 1 and url.startswith("sqlite"):
            raise UserError(
                f"--on ray: {len(hosts)} machines cannot write one SQLite file: give the study's spec a ledger on "
                "PostgreSQL, `ledger: {url: postgresql://...}`"
            )

    def capacity(self, spec: Mapping[str, Any]) -> int:
        """Count the runs of a spec that fit the cluster at a time. Raises UserError: none does."""
        import ray

        there, wanted = ray.cluster_resources(), resources_of(spec, has_gpus=self._has_gpus())
        fitting = min(int(there.get(name, 0) // num) for name, num in wanted.items() if num)
        if not fitting:
            words = ", ".join(f"{num} {name}" for name, num in wanted.items() if num)
            raise UserError(f"--on ray: a run takes {words}, and the cluster has {there.get('CPU', 0):.0f} CPU in all")
        return fitting

    def start(self, request: RunRequest) -> None:
        """Give a run a task, which waits until there is room."""
        import ray

        wanted = resources_of(request.spec, has_gpus=self._has_gpus())
        self._requests[request.name] = request
        self._ended.pop(request.name, None)
        task = ray.remote(do_run).options(
            name=request.name, num_cpus=wanted["CPU"], num_gpus=wanted["GPU"], max_retries=TRIES_ELSEWHERE
        )
        self._tasks[request.name] = task.remote(json.dumps(asdict(request)))

    def ask_to_stop(self, name: str) -> None:
        """Ask a run to finish its step, save and exit; one that has no folder yet does not begin."""
        import ray

        request = self._requests[name]
        folder = Home(request.home).run_folder(name)
        if folder.is_dir():
            request_stop(folder)
        else:
            ray.cancel(self._tasks[name])

    def exit_code(self, name: str) -> int | None:
        """Return a run's exit code, below 0 for the signal that killed it; None while it goes."""
        import ray
        from ray.exceptions import RayError, RayTaskError, TaskCancelledError

        if name in self._ended or name not in self._tasks:
            return self._ended.get(name)
        ready, _ = ray.wait([self._tasks[name]], timeout=0)
        if not ready:
            return None
        try:
            code: int = ray.get(ready[0])
        except TaskCancelledError:
            code = RESUMABLE
        except RayTaskError as error:  # before the run: what it says stands nowhere else
            self._note(name, str(error.cause if isinstance(error.cause, Exception) else error))
            code = YOUR_MISTAKE
        except RayError as error:
            self._note(name, f"its node was lost {TRIES_ELSEWHERE + 1} times: {error}")
            code = LOST
        self._ended[name] = code
        return code

    def _has_gpus(self) -> bool:
        import ray

        return bool(ray.cluster_resources().get("GPU"))

    def _note(self, name: str, text: str) -> None:
        log = Path(self._requests[name].log)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            file.write(text.rstrip() + "\n")


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
    while folder.is_dir() and holder(folder) is not None and time.monotonic() < until:
        time.sleep(POLL_S)  # a node that was lost may not have ended yet
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", CHILD], stdin=subprocess.PIPE, env={**os.environ, **ONE_THREAD}, text=True
    )
    assert process.stdin is not None
    with process.stdin:
        process.stdin.write(text)
    try:
        while (code := process.poll()) is None:  # a cancelled task hears of it between two instructions
            time.sleep(POLL_S)
    except BaseException:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(LOCK_S)
        process.kill()
        raise
    return code
