"""What the tests of several packages share: one home folder with runs that are finished, and the command line."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from typer.testing import CliRunner, Result

import policies as policies  # before a test imports transformers, whose models then come as they do in a run
from store.ledger import engine
from tests.example_server import example_server
from tests.orchestrator.specs import flat, small

Evergreen = Callable[..., Result]
PRAGMAS = engine._PRAGMAS
SMALL = 500_000  # numbers of a policy whose warm start is kept in memory

settings.register_profile("any machine", deadline=None)  # what an example takes says how busy the machine is
settings.load_profile("any machine")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: more threads, other last bits

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun in the background; tests send it, children inherit
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    """Look for no garbage while tests are collected: nothing of them becomes any."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave what was collected, and the libraries, out of every later look for garbage, which then takes no second."""
    gc.freeze()
    gc.enable()


def wait_for_no_disk(patched: pytest.MonkeyPatch) -> None:
    """Let writes end in memory: what the tests write need not outlive the machine, and a busy disk takes minutes."""
    patched.setattr(os, "fsync", lambda descriptor: None)
    patched.setattr(engine, "_PRAGMAS", tuple(pragma.replace("FULL", "OFF") for pragma in PRAGMAS))


@pytest.fixture(scope="session", autouse=True)
def _no_power_cuts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        wait_for_no_disk(patched)
        yield


@pytest.fixture(scope="session", autouse=True)
def _warm_starts_are_made_once() -> Iterator[None]:
    """Give a run in a fresh home the weights that an equal warm start made for an earlier test, bit for bit.

    Not by the cache of homes: a run that reads it says so, which tests of what a first run says would see.
    """
    from orchestrator.runs import warm_start as made
    from policies.warm_start import cache_key, warm_start

    keys: list[str] = []
    done: dict[str, tuple[list[float], dict[str, Any]]] = {}

    def noting(**parts: Any) -> str:
        keys.append(cache_key(**parts))
        return keys[-1]

    def once(policy: Any, *given: Any, progress: Callable[[int, float], None]) -> None:
        key, losses, weights = keys[-1], list[float](), policy.model.state_dict()
        if key in done:
            for name, one in done[key][1].items():
                weights[name].copy_(one)
            for batch, loss in enumerate(done[key][0], 1):
                progress(batch, loss)
            return

        def heard(batch: int, loss: float) -> None:
            losses.append(loss)
            progress(batch, loss)

        warm_start(policy, *given, progress=heard)
        if sum(one.numel() for one in weights.values()) < SMALL:
            done[key] = losses, {name: one.clone() for name, one in weights.items()}

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(made, "cache_key", noting)
        patched.setattr(made, "warm_start", once)
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
