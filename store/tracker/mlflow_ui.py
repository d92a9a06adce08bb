"""MLflow's own UI over a database of ours, in a process of its own, while a block lasts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from store.errors import TrackerError
from store.tracker.record import Target, mind_manners

READY_S = 120.0  # it imports a lot
END_S = 10.0

_ENVIRONMENT = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight more processes that nothing here needs
    "PYTHONSAFEPATH": "1",  # the folder that the user is in lends it no modules
    "PYTHONWARNINGS": "ignore",
}


@contextmanager
def served(target: Target, host: str, port: int, log: Path) -> Iterator[str]:
    """Serve MLflow's UI while the block lasts; yields its URL once it answers. Raises `TrackerError`."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as taken:
            raise TrackerError(
                f"MLflow's UI cannot listen on {host}:{port}: {taken.strerror}. Name another port with --port."
            ) from taken
    process = _start(target, host, port, log)
    try:
        url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
        _wait_until_ready(process, url, log)
        yield url
    finally:
        for how in (signal.SIGINT, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, how)
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_S)
                break


def _start(target: Target, host: str, port: int, log: Path) -> subprocess.Popen[bytes]:
    """Start the server, in a session of its own: its processes are ended together, and by us alone."""
    mind_manners()
    words = ["server", "--host", host, "--port", str(port), "--workers", "1"]
    words += ["--uvicorn-opts", "--log-level warning"]
    own = {"MLFLOW_BACKEND_STORE_URI": target.uri}  # not as an argument: it may hold a password
    if target.artifacts is not None:
        own["MLFLOW_DEFAULT_ARTIFACT_ROOT"] = target.artifacts
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, **_ENVIRONMENT, **own},
            start_new_session=True,
        )


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    give_up_at = time.monotonic() + READY_S
    while process.poll() is None and time.monotonic() < give_up_at:
        with suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=2):
            return
        time.sleep(0.2)
    raise TrackerError(f"MLflow's UI did not start; {log} says why.")
