from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from store import lock
from store.errors import RunBusy
from store.lock import entry_lock, run_lock, taking_turns

# takes the lock, says so, and waits to be killed; with "fork" a child of it lives on
HOLD = """
import os, sys, time
from pathlib import Path
from store.lock import run_lock
with run_lock(Path(sys.argv[1])):
    if sys.argv[2] == "fork" and (child := os.fork()) == 0:
        time.sleep(60)
        os._exit(0)
    print(child if sys.argv[2] == "fork" else 0, flush=True)
    time.sleep(60)
"""


def _hold(folder: Path, how: str = "alone") -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder), how], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def _kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_a_run_in_use_names_the_process_and_the_remedy(tmp_path: Path) -> None:
    process, _ = _hold(tmp_path)
    try:
        with (
            pytest.raises(RunBusy, match=rf"in use by process {process.pid} on .*evergreen stop"),
            run_lock(tmp_path),
        ):
            pass
        assert str(lock.holder(tmp_path)).startswith(f"process {process.pid} on ")
    finally:
        _kill(process)


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    process, _ = _hold(tmp_path)
    _kill(process)
    assert lock.holder(tmp_path) is None
    with run_lock(tmp_path):
        assert str(lock.holder(tmp_path)).startswith(f"process {os.getpid()} on ")


def test_a_worker_that_outlives_its_trainer_does_not_keep_the_lock(tmp_path: Path) -> None:
    process, worker = _hold(tmp_path, "fork")
    _kill(process)
    try:
        with run_lock(tmp_path):
            os.kill(worker, 0)  # it is still there
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_run_is_locked_against_its_own_process_and_free_afterwards(tmp_path: Path) -> None:
    with run_lock(tmp_path), pytest.raises(RunBusy), run_lock(tmp_path):
        pass
    with run_lock(tmp_path):
        pass


def test_an_error_inside_frees_the_run(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), run_lock(tmp_path):
        raise ZeroDivisionError
    assert lock.holder(tmp_path) is None


def test_asking_who_holds_a_run_leaves_no_trace(tmp_path: Path) -> None:
    assert lock.holder(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_someone_who_only_looks_keeps_nobody_out(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    assert lock.try_lock(descriptor)
    looking = threading.Timer(0.05, os.close, [descriptor])
    looking.start()
    with run_lock(tmp_path):
        looking.join()


def test_a_stop_request_stays_until_it_is_cleared(tmp_path: Path) -> None:
    assert not lock.stop_requested(tmp_path)
    for _ in range(2):
        lock.request_stop(tmp_path)
        assert lock.stop_requested(tmp_path)
    for _ in range(2):
        lock.clear_stop(tmp_path)
        assert not lock.stop_requested(tmp_path)


def test_whoever_takes_turns_waits_and_a_file_that_nobody_holds_is_not_in_the_way(tmp_path: Path) -> None:
    file = tmp_path / "turn"
    file.touch()  # as a killed process leaves it

    def gives_up() -> None:
        raise TimeoutError

    with taking_turns(file, gives_up), pytest.raises(TimeoutError), taking_turns(file, gives_up):
        pass
    with taking_turns(file, gives_up):
        pass


def test_an_entry_is_held_alone_or_by_all_who_read_it_and_its_lock_goes_with_the_last(tmp_path: Path) -> None:
    entry = tmp_path / "entry"

    def gives_up() -> None:
        raise TimeoutError

    for shared in (False, True):
        with entry_lock(entry, gives_up), pytest.raises(TimeoutError), entry_lock(entry, gives_up, shared=shared):
            pass
    with entry_lock(entry, gives_up, shared=True):
        with entry_lock(entry, gives_up, shared=True):
            pass
        with pytest.raises(TimeoutError), entry_lock(entry, gives_up):
            pass
    assert list(tmp_path.iterdir()) == []


def test_who_waited_for_an_entry_holds_it_against_those_who_come_later(tmp_path: Path) -> None:
    """The file that one waits for is deleted by who held it."""
    entry, first = tmp_path / "entry", ExitStack()

    def gives_up() -> None:
        raise TimeoutError

    first.enter_context(entry_lock(entry, gives_up))
    with entry_lock(entry, first.close), pytest.raises(TimeoutError), entry_lock(entry, gives_up):
        pass
