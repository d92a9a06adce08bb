"""What the tests of several packages share: one home folder with runs that are finished, and the command line."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from typer.testing import CliRunner, Result

import policies as policies  # before a test imports transformers, whose models then come as they do in a run
from store.ledger import engine
from tests.example_server import example_server
from tests.orchestrator.specs import flat, small

Evergreen = Callable[..., Result]
PRAGMAS = engine._PRAGMAS

settings.register_profile("any machine", deadline=None)  # what an example takes says how busy the machine is
settings.load_profile("any machine")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: more threads, other last bits

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun in the background; tests send it, children inherit
    signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_for_no_disk(patched: pytest.MonkeyPatch) -> None:
    """Let writes end in memory: what the tests write need not outlive the machine, and a busy disk takes minutes."""
    patched.setattr(os, "fsync", lambda descriptor: None)
    patched.setattr(engine, "_PRAGMAS", tuple(pragma.replace("FULL", "OFF") for pragma in PRAGMAS))


@pytest.fixture(scope="session", autouse=True)
def _no_power_cuts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        wait_for_no_disk(patched)
        yield


@pytest.fixture(scope="session")
def evergreen() -> Evergreen:
    """Run a command line in this process; what it printed and its exit code come back."""
    from orchestrator.cli.app import app

    def invoke(*words: object) -> Result:
        result = CliRunner().invoke(app, [str(word) for word in words], prog_name="evergreen")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture(scope="session")
def example_url() -> Iterator[str]:
    """Where `examples/env_server.py` is served."""
    with example_server() as url:
        yield url


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with two finished runs, `small` (staged) and `flat`. Tests read it and add runs, no more."""
    import orchestrator

    home = tmp_path_factory.mktemp("home")
    for spec in (small(objective="repo_r"), flat(objective="repo")):
        assert orchestrator.run(spec, home=home).status == "finished"
    return home
