"""Whole runs on a real PostgreSQL with MLflow over HTTP, both stopped, killed and started again in mid-run.

The servers are those of `make services`.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text

import orchestrator
from tests.conftest import Evergreen
from tests.faults.interruptions import TIMES
from tests.integration.runs import At, ending, told
from tests.orchestrator.specs import small
from tests.services import PROGRAMS, MLflow, Postgres, both, free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAMS is None, reason="no PostgreSQL server is installed"),
]

AWAY_S = 4.0


@pytest.fixture(scope="module")
def services() -> Iterator[tuple[Postgres, MLflow]]:
    pytest.importorskip("psycopg")
    # the folder is not pytest's own, which another pytest shuts to PostgreSQL's user
    with TemporaryDirectory() as folder, both(Path(folder), free_port(), free_port()) as found:
        yield found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _password(services: tuple[Postgres, MLflow], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_LEDGER_PASSWORD", services[0].password)


def spec_for(
    name: str, services: tuple[Postgres, MLflow], url: str | None = None, patience: float = 2.0
) -> dict[str, Any]:
    postgres, mlflow = services
    return small(
        name,
        ledger={"url": url or postgres.url, "patience": patience},
        tracker={"uri": mlflow.url},
        scoring={"isolation": "none"},
    )


@pytest.fixture(scope="module")
def whole(services: tuple[Postgres, MLflow], home: Path) -> Path:
    """A run that nobody touched, on the same servers."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("EVERGREEN_LEDGER_PASSWORD", services[0].password)
        assert orchestrator.run(spec_for("whole", services), home=home).status == "finished"
    return home


def away(stop: Callable[[], None], start: Callable[[], None]) -> Callable[[], None]:
    """Take something away for some seconds, while the run goes on or waits."""

    def act() -> None:
        stop()
        threading.Timer(AWAY_S, start).start()

    return act


def points(postgres: Postgres, run: str) -> list[tuple[Any, ...]]:
    """Read every value that MLflow has of a run, past its API; times apart."""
    engine = create_engine(make_url(postgres.url).set(drivername="postgresql+psycopg", password=postgres.password))
    query = text(
        "SELECT m.key, m.step, m.value FROM metrics m JOIN runs r ON r.run_uuid = m.run_uuid "
        "WHERE r.name = :run AND r.lifecycle_stage = 'active' AND NOT m.is_nan ORDER BY 1, 2, 3"
    )
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.execute(query, {"run": run})]
    engine.dispose()
    return [row for row in found if not row[0].startswith(TIMES)]


def in_turn(*acts: Callable[[], object]) -> Callable[[], None]:
    """Do one thing after the other."""

    def act() -> None:
        for one in acts:
            one()

    return act


@pytest.mark.parametrize("n", [2, 6, 11])
@pytest.mark.parametrize("what", ["restarted", "killed", "mlflow", "both"])
def test_servers_that_go_and_come_again_in_mid_run(
    services: tuple[Postgres, MLflow], home: Path, whole: Path, evergreen: Evergreen, what: str, n: int
) -> None:
    postgres, mlflow = services
    stop = {
        "restarted": lambda: postgres.stop(signal.SIGINT),
        "killed": lambda: postgres.stop(signal.SIGKILL),
        "mlflow": mlflow.stop,
        "both": in_turn(mlflow.stop, lambda: postgres.stop(signal.SIGKILL)),
    }[what]
    start = {"mlflow": mlflow.start, "both": in_turn(postgres.start, mlflow.start)}.get(what, postgres.start)
    name = f"{what}-{n}"
    outcome = orchestrator.run(spec_for(name, services), home=home, watcher=At(n, away(stop, start)))
    assert outcome.status == "finished"
    assert ending(home, name).weights == ending(whole, "whole").weights
    assert told(home, name)["digest"] == told(whole, "whole")["digest"]
    deadline = time.monotonic() + 60
    while mlflow._server is None and time.monotonic() < deadline:  # the run may be done before it is back
        time.sleep(0.2)
    caught_up = evergreen("ui", "--catch-up-only", "--home", home)
    assert caught_up.exit_code == 0, caught_up.output
    assert points(postgres, name) == points(postgres, "whole") != [], "each value once"
    if what != "mlflow":
        kinds = [event["kind"] for event in told(home, name)["events"]]
        assert "ledger away" in kinds or n == 11, kinds


def test_a_database_that_stays_away_stops_the_run_and_resume_loses_nothing(
    services: tuple[Postgres, MLflow], home: Path, whole: Path
) -> None:
    postgres, _ = services
    spec = spec_for("patient", services, patience=0.03)
    try:
        outcome = orchestrator.run(spec, home=home, watcher=At(5, lambda: postgres.stop(signal.SIGKILL)))
        assert (outcome.status, outcome.exit_code) == ("stopped", 75)
    finally:
        postgres.start()
    assert orchestrator.resume("patient", home=home).status == "finished"
    assert ending(home, "patient").weights == ending(whole, "whole").weights
    assert told(home, "patient")["digest"] == told(whole, "whole")["digest"]


def test_another_address_of_the_same_database_takes_over(
    services: tuple[Postgres, MLflow], home: Path, whole: Path
) -> None:
    """As a failover does: the first of the URL's addresses is gone for good, the second has the data."""
    postgres, _ = services
    first, second = postgres.port, free_port()
    expected, digest = ending(whole, "whole").weights, told(whole, "whole")["digest"]

    def fail_over() -> None:
        postgres.stop(signal.SIGKILL)
        postgres.port = second
        threading.Timer(AWAY_S, postgres.start).start()

    url = f"postgresql://evergreen@/evergreen?host=127.0.0.1:{first}&host=127.0.0.1:{second}"
    try:
        outcome = orchestrator.run(spec_for("moved", services, url), home=home, watcher=At(6, fail_over))
        assert outcome.status == "finished"
        assert ending(home, "moved").weights == expected
        assert told(home, "moved")["digest"] == digest
    finally:
        postgres.stop()
        postgres.port = first
        postgres.start()
