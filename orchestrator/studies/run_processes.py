"""Runs as processes of their own, one thread each, forked from one server and gone when the study is.

The server is ours since multiprocessing's forkserver breaks promises, as a trial showed: it runs an unguarded script
of the user again in every run, imports modules from the folder that the user is in, and a SIGTERM to the study's group
kills it and all runs before they can save. It has one thread and touches no device, so that forking it is safe; it
dies with the study, and the runs die with it.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from environments.scoring.leader import die_with

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")
# by the server, once; and the worker's module
IMPORTED = ("orchestrator.runs.api", "transformers.generation")
SERVER = "import sys; from orchestrator.studies.run_processes import main; main(*sys.argv[1:])"
POLL_S = 0.05
PATIENCE_S = 3.0  # until all runs are killed
LOST = -signal.SIGKILL  # the exit code of runs whose server died: they died with it


@dataclass(frozen=True)
class RunRequest:
    """One run, to its own process."""

    home: str
    name: str  # of the run, exactly
    log: str  # the file that it prints into
    spec: dict[str, Any]  # resolved
    member: dict[str, Any]  # the fields of a `MemberRecord`


class RunProcesses:
    """Starts runs through a server, which is started when it is needed. As a context: all are gone at its end."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._server: subprocess.Popen[bytes] | None = None
        self._connection: Connection
        self._going: set[str] = set()
        self._ended: dict[str, int] = {}

    def __enter__(self) -> RunProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is None:
            return
        self._connection.close()  # it then ends its runs, and itself
        try:
            self._server.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:  # still importing: it has no runs yet
            self._server.kill()
            self._server.wait()

    def start(self, request: RunRequest) -> None:
        """Give a run a process."""
        if self._server is None or self._server.poll() is not None:
            self._start_server()
        self._going.add(request.name)
        self._ended.pop(request.name, None)
        self._send(request)

    def ask_to_stop(self, name: str) -> None:
        """Ask a run to finish its step, save and exit; one that has ended hears nothing."""
        self._send((name, signal.SIGTERM))

    def _send(self, order: RunRequest | tuple[str, int]) -> None:
        with suppress(OSError):  # a server that died is noticed by who listens
            self._connection.send(order)

    def exit_code(self, name: str) -> int | None:
        """Return a run's exit code, below 0 for the signal that killed it; None while it goes.

        Without a server all its runs are lost.
        """
        if self._server is not None:
            is_alive = self._server.poll() is None  # asked first: what it wrote before its end is then read
            with suppress(EOFError, OSError):
                while self._connection.poll():
                    ended, exit_code = self._connection.recv()
                    self._going.discard(ended)
                    self._ended[ended] = exit_code
            if not is_alive:
                self._ended |= dict.fromkeys(self._going, LOST)
                self._going.clear()
        return self._ended.get(name)

    def _start_server(self) -> None:
        """Start it in a session of its own, so that Ctrl-C does not reach it.

        `-P` keeps the folder that the user happens to be in from lending it modules.
        """
        self._connection, theirs = Pipe()
        handle = theirs.fileno()
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-P", "-c", SERVER, str(os.getpid()), str(handle), self._worker],
                stdin=subprocess.DEVNULL,
                pass_fds=[handle],
                start_new_session=True,
                env={**os.environ, **ONE_THREAD},
            )


def main(parent: str, connection: str, worker: str) -> None:
    """Be the server: import what runs need, then serve."""
    die_with(int(parent))
    os.dup2(2, 1)  # what a library prints is no result of the study
    os.set_inheritable(int(connection), False)
    for module in (*IMPORTED, worker):
        importlib.import_module(module)
    serve(Connection(int(connection)), worker)


def serve(study: Connection, worker: str) -> None:
    """Fork runs, pass signals on and report ends, until the study closes the connection; then end what still goes.

    Requests and (name, signal) arrive from `study`, (name, exit code) of ended runs goes there. `worker`: a module
    whose `live(request, parent)` is a run's whole process, and returns its exit code.
    """
    pids: dict[int, str] = {}
    while True:
        try:
            order = study.recv() if study.poll(POLL_S) else None
        except EOFError:
            break
        if isinstance(order, RunRequest):
            pids[fork_run(order, worker, study)] = order.name
        elif order is not None:
            name, number = order
            for pid in [pid for pid, of in pids.items() if of == name]:
                os.kill(pid, number)  # not reaped yet, so the number is still its own
        while pids and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            study.send((pids.pop(ended[0]), os.waitstatus_to_exitcode(ended[1])))
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)


def fork_run(request: RunRequest, worker: str, study: Connection) -> int:
    """Give a run a process; its id."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        study.close()
        code = importlib.import_module(worker).live(request, parent)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return pid
