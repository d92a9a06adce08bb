"""The process that a study's runs are forked from: it has imported everything once, so a run costs no imports.

Started as `python -m orchestrator.studies.fork_server PARENT`. Orders arrive on its standard input, reports leave on
its standard output. It has one thread and touches no device, so that forking it is safe; it dies with the study, and
the runs die with it.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import sys

from environments.scoring.leader import die_with
from orchestrator.studies.messages import Lines, Order, RunEnd, read_order, write

IMPORTED = ("orchestrator.runs.api", "orchestrator.cli.screen", "transformers.generation")
POLL_S = 0.05
PIECE = 1 << 16  # bytes read at once


class ForkServer:
    """Forks runs, passes signals on, and reports how runs ended."""

    def __init__(self) -> None:
        self._reports = os.dup(1)
        os.dup2(2, 1)  # what a library prints is no report
        os.set_inheritable(self._reports, False)
        self._pids: dict[int, str] = {}

    def serve(self) -> None:
        """Obey until the study closes the pipe; then end what still goes."""
        lines = Lines()
        while True:
            if select.select([0], [], [], POLL_S)[0]:
                data = os.read(0, PIECE)
                if not data:
                    self._end_all()
                    return
                for line in lines.add(data):
                    self._obey(read_order(line))
            self._report()

    def _obey(self, order: Order) -> None:
        if order.job is not None:
            self._bear(order)
        for pid, name in self._pids.items():
            if order.signal and name == order.name:
                os.kill(pid, order.signal)  # not reaped yet, so the number is still its own

    def _bear(self, order: Order) -> None:
        from orchestrator.studies.worker import live

        assert order.job is not None
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            os.close(self._reports)
            code = live(order.job, parent)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        self._pids[pid] = order.name

    def _end_all(self) -> None:
        for pid in self._pids:
            os.kill(pid, signal.SIGKILL)
        for pid in self._pids:
            os.waitpid(pid, 0)

    def _report(self) -> None:
        while self._pids:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            os.write(self._reports, write(RunEnd(self._pids.pop(pid), os.waitstatus_to_exitcode(status))))


def main() -> None:
    """Import what runs need, then serve."""
    die_with(int(sys.argv[1]))
    for module in IMPORTED:
        importlib.import_module(module)
    ForkServer().serve()


if __name__ == "__main__":
    main()
