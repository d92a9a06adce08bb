"""The leader of a session in which foreign code runs: a script that leaves none of its processes behind.

    python -P leader.py PARENT HANDLE MODULE PATH

The leader forks at once. The child goes on as the worker: it takes the path (JSON) for its own, imports MODULE, and
gives `serve` of it the descriptor HANDLE. The leader waits until the worker has ended, or is told to end (SIGTERM), or
PARENT is not its parent any more (it was killed, and could end nothing itself). Then everything that descends from it
is killed. On Linux that holds for whatever left the group or the session as well: the leader is the reaper of all its
orphans, so none of them gets away from it. Elsewhere the worker's group is killed.

Only the standard library is imported before the path is set, and nothing by name out of this folder.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import os
import resource
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
LOOK_S = 0.5  # between two looks at who the parent is
END_S = 5.0  # for what descends from the leader to be gone
PROC = Path("/proc")
PACKAGE = Path(__file__).parents[1]  # the package `environments`


def main() -> None:
    """Lead, and in the worker serve."""
    parent, handle, module, path = sys.argv[1:]
    lead(int(parent))
    sys.path[:] = json.loads(path)
    claim()
    importlib.import_module(module).serve(int(handle))


def lead(parent: int) -> None:
    """Return in a child, the worker; the process itself stays and ends with the worker, as that did."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    signals: list[int] = []
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.signal(signal.SIGTERM, lambda number, frame: signals.append(number))
    leader, worker = os.getpid(), os.fork()
    if worker == 0:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):  # a handler would wait for the end of a long C call
            signal.signal(number, signal.SIG_DFL)
        os.close(woken)
        os.close(wake)
        os.setpgid(0, 0)
        die_with(leader)
        return
    code = None
    while code is None and not signals and os.getppid() == parent:
        if select.select([woken], [], [], LOOK_S)[0]:
            os.read(woken, 4096)
        code = _reap(worker)
    _end_all(worker)
    if code is not None and code < 0:  # end by the signal that killed the worker
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(OSError):  # SIGKILL needs no handler, and takes none
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code is not None and code >= 0 else 1)


def claim() -> None:
    """Import the package that this file is of, whatever else is called so on the path."""
    place = str(PACKAGE / "__init__.py")
    spec = importlib.util.spec_from_file_location(PACKAGE.name, place, submodule_search_locations=[str(PACKAGE)])
    assert spec is not None
    assert spec.loader is not None
    sys.modules[PACKAGE.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def die_with(parent: int) -> None:
    """Have this process killed when its parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:

        def watch() -> None:
            while os.getppid() == parent:
                time.sleep(1.0)
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()
    if os.getppid() != parent:  # it died before we could ask
        os._exit(1)


def _reap(worker: int) -> int | None:
    code = None
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return code
            if pid == worker:
                code = os.waitstatus_to_exitcode(status)
    return code


def _end_all(worker: int) -> None:
    """Kill the worker's group, which no fork escapes, then whatever left it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)
    give_up_at = time.monotonic() + END_S
    while (found := _descendants()) and time.monotonic() < give_up_at:
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)
        _reap(worker)


def _descendants() -> set[int]:
    parents: dict[int, int] = {}
    for entry in PROC.glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            state, parent = entry.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state not in "ZX":
                parents[int(entry.parent.name)] = int(parent)
    found, newest = set[int](), {os.getpid()}
    while newest:
        newest = {pid for pid, parent in parents.items() if parent in newest}
        found |= newest
    return found


if __name__ == "__main__":
    main()
