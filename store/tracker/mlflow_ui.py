"""MLflow's own UI over a database of ours, in a process of its own, while a block lasts."""

from __future__ import annotations

import errno
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
LOOPBACK = "127.0.0.1"
# At a first visit MLflow's pages lay a chat panel over a third of the window if the address says localhost, 127.0.0.1
# or ::1; no option of the server's and no parameter of the address turns that off (3.17). A name below localhost is
# this machine too (RFC 6761: a browser asks nobody), and MLflow then shows what it shows on any server.
NAME = "evergreen.localhost"

_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy would look for it on itself
_OWN_RULES = {"MLFLOW_SERVER_ALLOWED_HOSTS", "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"}
_ENVIRONMENT = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight more processes that nothing here needs
    "PYTHONSAFEPATH": "1",  # the folder that the user is in lends it no modules
    "PYTHONWARNINGS": "ignore",
}


@contextmanager
def served(target: Target, host: str, port: int, log: Path) -> Iterator[str]:
    """Serve MLflow's UI while the block lasts; yields the URL to open once it answers. Raises `TrackerError`."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as failed:
            is_port = failed.errno in (errno.EADDRINUSE, errno.EACCES)
            remedy = "another port with --port" if is_port else "an IPv4 address of this machine with --host"
            raise TrackerError(
                f"MLflow's UI cannot listen on {host}:{port}: {failed.strerror}. Name {remedy}."
            ) from failed
    process = _start(target, host, port, log)
    try:
        _wait_until_ready(process, f"http://{LOOPBACK if host == '0.0.0.0' else host}:{port}", log)
        yield address(host, port)
    finally:
        for how in (signal.SIGINT, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, how)
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_S)
                break


def address(host: str, port: int) -> str:
    """The URL to open: by our name, where nobody asked for a host or made rules of MLflow's for hosts."""
    if host == LOOPBACK and not _OWN_RULES & os.environ.keys() and _is_found(NAME):
        return f"http://{NAME}:{port}"
    return f"http://{LOOPBACK if host == '0.0.0.0' else host}:{port}"


def _is_found(name: str) -> bool:
    """Whether this machine's browsers find the name. Safari asks the system; others know that it is this machine."""
    if sys.platform != "darwin":
        return True
    with suppress(OSError):
        return bool(socket.getaddrinfo(name, None))
    return False


def _rules(host: str, port: int) -> dict[str, str]:
    """What makes MLflow's server answer to our name: the hosts it may be called by, the pages that may write."""
    url = address(host, port)
    if NAME not in url:
        return {}
    hosts = [f"{NAME}:{port}", *(f"{name}{end}" for name in ("localhost", LOOPBACK) for end in ("", ":*"))]
    return {"MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(hosts), "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": url}


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
            env={**os.environ, **_ENVIRONMENT, **_rules(host, port), **own},
            start_new_session=True,
        )


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    give_up_at = time.monotonic() + READY_S
    while process.poll() is None and time.monotonic() < give_up_at:
        with suppress(OSError), _DIRECTLY.open(f"{url}/health", timeout=2):
            return
        time.sleep(0.2)
    raise TrackerError(f"MLflow's UI did not start; {log} says why.")
