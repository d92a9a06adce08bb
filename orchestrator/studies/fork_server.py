"""The process that a study's runs are forked from: it has imported everything once, so a run costs no imports.

Started as `python -P -m orchestrator.studies.fork_server PARENT CONNECTION WORKER`. It has one thread and touches no
device, so that forking it is safe; it dies with the study, and the runs die with it.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from multiprocessing.connection import Connection

from environments.scoring.leader import die_with
from orchestrator.studies.run_processes import RunRequest

IMPORTED = ("orchestrator.runs.api", "transformers.generation")  # and the worker's module
POLL_S = 0.05


def serve(study: Connection, worker: str) -> None:
    """Fork runs, pass signals on and report ends, until the study closes the connection; then end what still goes.

    Args:
        study: Requests and (name, signal) arrive here, (name, exit code) of ended runs leaves.
        worker: A module whose `live(request, parent)` is a run's whole process, and returns its exit code.
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


def main() -> None:
    """Import what runs need, then serve."""
    parent, connection, worker = sys.argv[1:]
    die_with(int(parent))
    os.dup2(2, 1)  # what a library prints is no result of the study
    os.set_inheritable(int(connection), False)
    for module in (*IMPORTED, worker):
        importlib.import_module(module)
    serve(Connection(int(connection)), worker)


if __name__ == "__main__":
    main()
