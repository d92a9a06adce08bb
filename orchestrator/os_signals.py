"""SIGINT, SIGTERM and SIGHUP: before a run begins they end the process; then the first asks, a second Ctrl-C kills.

Python swallows what a handler raises where it has interrupted a destructor or a callback of the garbage collector, and
libraries have an `except:` here and there. So what ends the process is noted too, and ends it when a run would begin.
"""

from __future__ import annotations

import atexit
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from types import FrameType

from orchestrator.errors import KILLED, RESUMABLE
from policies.launchers import SIGNALS

STOPPING = "Stopping once this step is saved; Ctrl-C again kills."
REPEATED = "--resume-if-there"  # of `run`: the same command begins a run and goes on with it
DEAF_S = 60.0  # for a block to hear what is wrong beside it


class Interrupted(KeyboardInterrupt):
    """A signal that ends what is being done, since nothing has begun that would have to be saved."""

    def __init__(self, number: int) -> None:
        super().__init__(name_of(number))
        self.number = number

    @property
    def exit_code(self) -> int:
        """As a shell tells the end by a signal."""
        return 128 + self.number

    def at_start(self) -> tuple[str, int]:
        """What to say of a command that it ended before anything was done, and its exit code.

        A run that was to go on is there as before, and the same command does it; one that is to be repeated until a
        run is finished says so whether or not there is a run yet.
        """
        verb, again = sys.argv[1:2], shlex.join(["evergreen", *sys.argv[1:]])
        if verb == ["run"] and REPEATED in sys.argv:
            return f"ended by {self} before the run began or went on. Do so with: {again}", RESUMABLE
        if verb == ["resume"]:
            return f"ended by {self} before the run went on; it is as it was. Go on with: {again}", RESUMABLE
        return f"ended by {self} before anything was begun", self.exit_code


class OutOfTime(KeyboardInterrupt):
    """What `within` raises: foreign code swallows no interrupt, and none is taken for what that code raised."""


@dataclass
class Signalled:
    """Which signal asked the run to stop, if any did."""

    name: str | None = None
    is_urgent: bool = False  # what is noted also raises `Interrupted`
    number: int | None = None  # its number


_noting: Signalled | None = None  # of the block that this process is in
_heard: int | None = None  # the signal that `Interrupted` was last raised for, outside any block


def name_of(number: int) -> str:
    """Name a signal as people do."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def exit_code_of(interrupt: KeyboardInterrupt) -> int:
    """With what to exit when a signal ended the work: 128 + its number."""
    return interrupt.exit_code if isinstance(interrupt, Interrupted) else KILLED


def say(text: str) -> None:
    """Write a line on stderr from inside a handler, where print is not safe; a terminal that is gone hears nothing."""
    with suppress(OSError):
        os.write(2, f"\n{text}\n".encode())


say_stopping = partial(say, STOPPING)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the block after so long; never outside the main thread, which alone hears signals.

    An alarm that somebody else has set rings in time, and goes on afterwards.
    """
    left, started = signal.getitimer(signal.ITIMER_REAL)[0], time.monotonic()
    if threading.current_thread() is not threading.main_thread() or 0 < left <= seconds:
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - started), 1e-3))


@contextmanager
def interrupted_by(find: Callable[[], Exception | None], every_s: float) -> Iterator[None]:
    """Raise in the block what a thread finds to be wrong beside it, once, whatever the block waits for.

    A block that waits so deep in a library that it hears nothing, as for a GPU whose kernels wait for a lost one, will
    not come back: the process ends, as if it were killed, with 75. Nothing outside the main thread, which alone hears
    signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    over, heard, found, hearing = threading.Event(), list[int](), list[Exception](), threading.get_ident()

    def look() -> None:
        while not over.wait(every_s):
            if (wrong := find()) is not None:
                found.append(wrong)
                signal.pthread_kill(hearing, signal.SIGURG)  # one that is ignored where nobody hears it
                until = time.monotonic() + DEAF_S
                while not (heard or over.wait(every_s)):
                    if time.monotonic() > until:
                        say(f"{wrong}. Nothing else is heard here: the process ends at once")
                        os._exit(RESUMABLE)
                return

    def hear(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        # what the block found out by itself is on its way, and is not interrupted as it cleans up
        if found and not over.is_set() and not isinstance(sys.exception(), type(found[0])):
            raise found.pop()

    before = signal.signal(signal.SIGURG, hear)
    threading.Thread(target=look, name="looking", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.signal(signal.SIGURG, before)


def end_by_signals() -> None:
    """Have signals raise `Interrupted` from now on, wherever nothing else is made of them.

    Once the interpreter ends they are ignored: it would put them back to what kills, seconds before it is gone, and a
    command that is done would be told as one that was killed.
    """
    global _heard
    _heard = None

    def interrupt(number: int, frame: FrameType | None) -> None:
        global _heard
        _heard = number
        raise Interrupted(number)

    _handle(interrupt)
    atexit.register(_ignore)  # before any other, so that it comes last


def _ignore() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def catching_signals(heard: Callable[[], None] = say_stopping, is_urgent: bool = False) -> Iterator[Signalled]:
    """Note the first signal inside the block; a second SIGINT raises KeyboardInterrupt.

    A block inside a block shares its note; from there on it is no longer urgent, since there is something to save. A
    signal that should have ended the process before the block, and was swallowed, counts as heard at its beginning.
    Python delivers signals to the main thread only: elsewhere the block changes nothing.

    Args:
        heard: says that a signal was noted; it is called inside the handler, so it may write by `os.write` only.
        is_urgent: until `hold`, a signal raises `Interrupted`.
    """
    global _noting, _heard
    if threading.current_thread() is not threading.main_thread():
        yield Signalled()
        return
    if _noting is not None:
        _noting.is_urgent = False
        yield _noting
        return
    swallowed, _heard = _heard, None
    if is_urgent and swallowed is not None:
        raise Interrupted(swallowed)
    signalled = _noting = Signalled(None if swallowed is None else name_of(swallowed), is_urgent)

    def note(number: int, frame: FrameType | None) -> None:
        is_second = signalled.name is not None
        signalled.name, signalled.number = name_of(number), number
        if signalled.is_urgent:
            raise Interrupted(number)
        if is_second and number == signal.SIGINT:
            raise KeyboardInterrupt
        heard()

    before = _handle(note)
    try:
        yield signalled
    finally:
        _noting = None
        for number, handler in before.items():
            signal.signal(number, handler)


def hold() -> None:
    """Have signals noted and no more from here on: what follows is to be left whole.

    Raises `Interrupted` for one before that was swallowed.
    """
    if _noting is None:
        return
    was_urgent, _noting.is_urgent = _noting.is_urgent, False
    if was_urgent and _noting.name is not None and _noting.number is not None:
        raise Interrupted(_noting.number)


def noted() -> str | None:
    """Name the signal that asked this process to stop, if any did."""
    return _noting.name if _noting is not None else None


@contextmanager
def interruptible() -> Iterator[None]:
    """Let a signal end a wait inside the block: it is noted, and raises `Interrupted` too."""
    noting = _noting or Signalled()
    before, noting.is_urgent = noting.is_urgent, True
    try:
        yield
    finally:
        noting.is_urgent = before


def _forget() -> None:
    """In a child of a fork: signals do what they do in any process."""
    global _noting, _heard
    _noting = _heard = None
    for number in SIGNALS:
        if getattr(signal.getsignal(number), "__module__", None) == __name__:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


os.register_at_fork(after_in_child=_forget)


def _handle(handler: Callable[[int, FrameType | None], None]) -> dict[int, signal.Handlers]:
    """Set the handlers; returns those before. A SIGHUP that `nohup` has the process ignore stays ignored."""
    is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    numbers = [number for number in SIGNALS if number != signal.SIGHUP or not is_ignored]
    return {number: signal.signal(number, handler) for number in numbers}  # type: ignore[misc]
