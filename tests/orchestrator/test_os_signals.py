from __future__ import annotations

import ctypes
import errno
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from orchestrator import os_signals
from orchestrator.errors import RESUMABLE
from orchestrator.os_signals import (
    Interrupted,
    catching_signals,
    end_by_signals,
    hold,
    interrupted_by,
    interruptible,
    noted,
)
from policies.launchers import SIGNALS


@pytest.fixture(autouse=True)
def _hears_sighup() -> Iterator[None]:
    """As outside `nohup`, under which the tests may run."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_the_first_signal_is_noted_and_ends_nothing(number: int, name: str) -> None:
    with catching_signals() as signalled:
        assert signalled.name is None
        os.kill(os.getpid(), number)
        assert signalled.name == name


def test_a_second_ctrl_c_ends_the_process_and_a_second_sigterm_does_not() -> None:
    with catching_signals() as signalled:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signalled.name == "SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with catching_signals():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_outside_the_main_thread_nothing_is_caught() -> None:
    """Python would refuse; a run started there can still be asked to stop."""
    names: list[str | None] = []

    def use() -> None:
        with catching_signals() as signalled:
            names.append(signalled.name)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert names == [None]


def test_sighup_asks_like_sigterm_unless_nohup_has_it_ignored() -> None:
    with catching_signals() as signalled:
        os.kill(os.getpid(), signal.SIGHUP)
    assert signalled.name == "SIGHUP"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with catching_signals() as signalled:
            os.kill(os.getpid(), signal.SIGHUP)
        assert signalled.name is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_urgent_block_is_ended_until_there_is_something_to_save() -> None:
    with catching_signals(is_urgent=True) as signalled:
        with pytest.raises(Interrupted) as ended:
            os.kill(os.getpid(), signal.SIGTERM)
        assert (str(ended.value), ended.value.exit_code) == ("SIGTERM", 143)
        signalled.name = None
        hold()
        os.kill(os.getpid(), signal.SIGTERM)
        assert noted() == "SIGTERM"
    assert noted() is None


class Dying:
    """Is told to end by a signal as it goes: Python swallows what the handler raises."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def end_in_a_destructor() -> None:
    Dying()


def end_in_a_callback_of_the_collector() -> None:
    def tell(phase: str, info: object) -> None:
        if phase == "start":
            os.kill(os.getpid(), signal.SIGTERM)

    gc.callbacks.append(tell)
    try:
        gc.collect()
    finally:
        gc.callbacks.remove(tell)


@pytest.fixture
def _ended_by_signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    end_by_signals()
    yield
    end_by_signals()  # forgets what was heard
    for number, handler in before.items():
        signal.signal(number, handler)


swallowing = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@swallowing
@pytest.mark.usefixtures("_ended_by_signals")
@pytest.mark.parametrize("end", [end_in_a_destructor, end_in_a_callback_of_the_collector])
def test_a_signal_whose_exception_was_swallowed_ends_the_command_when_its_run_would_begin(
    end: Callable[[], None],
) -> None:
    end()
    with pytest.raises(Interrupted, match="SIGTERM"), catching_signals(is_urgent=True):
        raise AssertionError("a run that was told to end has begun")
    with catching_signals(is_urgent=True) as signalled:
        assert signalled.name is None, "it has ended one command"
        end()
        with pytest.raises(Interrupted, match="SIGTERM"):
            hold()


@swallowing
@pytest.mark.usefixtures("_ended_by_signals")
def test_a_signal_whose_exception_was_swallowed_stops_what_has_begun() -> None:
    end_in_a_destructor()
    with catching_signals() as signalled:
        assert (signalled.name, noted()) == ("SIGTERM", "SIGTERM")
    with catching_signals(is_urgent=True):
        end_in_a_destructor()
        with catching_signals() as signalled:
            assert (signalled.name, noted()) == ("SIGTERM", "SIGTERM")


def test_a_block_in_a_block_shares_its_note() -> None:
    with catching_signals(is_urgent=True) as outer, catching_signals() as inner:
        os.kill(os.getpid(), signal.SIGHUP)
        assert outer is inner
        assert inner.name == "SIGHUP"
        with interruptible(), pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_handler_whose_terminal_is_gone_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(descriptor: int, data: bytes) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "write", gone)
    with catching_signals() as signalled:
        os.kill(os.getpid(), signal.SIGHUP)
    assert signalled.name == "SIGHUP"


ENDING = """
import os, time
from orchestrator.os_signals import end_by_signals

class Late:
    def __del__(self, write=os.write, sleep=time.sleep):
        write(1, b"ending")
        sleep(1)

late = Late()  # a module's global goes as the interpreter ends
end_by_signals()
"""


def test_a_command_that_is_done_is_not_killed_as_its_interpreter_ends() -> None:
    process = subprocess.Popen([sys.executable, "-c", ENDING], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read(6) == b"ending"
    process.terminate()
    assert process.wait(30) == 0


def test_a_child_of_a_fork_hears_signals_like_any_process() -> None:
    with catching_signals():
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


def test_what_a_thread_finds_is_raised_in_a_block_that_waits_and_once() -> None:
    def wait() -> None:
        with interrupted_by(lambda: ValueError("it has ended"), 0.01):
            try:
                time.sleep(30)
            finally:
                time.sleep(0.1)  # what is put in order is left alone
                is_in_order.append(True)

    before, start = signal.getsignal(signal.SIGURG), time.monotonic()
    is_in_order: list[bool] = []
    with pytest.raises(ValueError, match="it has ended"):
        wait()
    assert is_in_order == [True]
    assert time.monotonic() - start < 10
    assert signal.getsignal(signal.SIGURG) is before
    with interrupted_by(lambda: None, 0.01):
        time.sleep(0.05)


def test_what_the_block_found_itself_is_not_interrupted_as_it_cleans_up() -> None:
    def fail() -> None:
        with interrupted_by(lambda: ValueError("found beside it"), 0.05):
            try:
                raise ValueError("found by itself")
            finally:
                time.sleep(0.2)
                is_in_order.append(True)

    is_in_order: list[bool] = []
    with pytest.raises(ValueError, match="found by itself"):
        fail()
    assert is_in_order == [True]


def test_a_block_that_hears_nothing_ends_the_process_as_a_kill_does() -> None:
    """As it waits in a library for what a lost rank was to send; a mutex's own wait is not interrupted either."""
    child = os.fork()
    if child == 0:
        os.dup2(written := os.open(os.devnull, os.O_WRONLY), 2)
        os_signals.DEAF_S = 0.2
        mutex, library = ctypes.create_string_buffer(256), ctypes.CDLL(None)
        library.pthread_mutex_lock(mutex)
        with interrupted_by(lambda: ValueError("rank 1 has ended"), 0.01):
            library.pthread_mutex_lock(mutex)
        os._exit(written)
    until = time.monotonic() + 20
    while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < until:
        time.sleep(0.01)
    if not ended[0]:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ended[0], "it waits for ever"
    assert os.waitstatus_to_exitcode(ended[1]) == RESUMABLE


def test_what_is_found_too_late_is_raised_nowhere() -> None:
    is_asked, is_over = threading.Event(), threading.Event()

    def find() -> Exception:
        is_asked.set()
        assert is_over.wait(10)
        return ValueError("too late")

    with interrupted_by(find, 0.01):
        assert is_asked.wait(10)
    is_over.set()
    time.sleep(0.1)


def test_outside_the_main_thread_nothing_is_raised() -> None:
    def use() -> None:
        with interrupted_by(lambda: ValueError("it has ended"), 0.01):
            time.sleep(0.05)
        ended.append(True)

    ended: list[bool] = []
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert ended == [True]
