from __future__ import annotations

import os
import signal
import threading

import pytest

from orchestrator.signals import catching_signals


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
