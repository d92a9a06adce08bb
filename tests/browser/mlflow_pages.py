"""MLflow's own UI on a home's runs: `evergreen ui` in a process, and the addresses of its pages."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

from store.tracker.mlflow_ui import LOOPBACK, NAME
from store.tracker.saved_view import of_charts, of_run, of_runs

if TYPE_CHECKING:
    from playwright.sync_api import Page

READY_S = 180
PATIENCE_MS = 60_000
EVERGREEN = "from orchestrator.cli import main; main()"
CHART = ".js-plotly-plot"


@contextmanager
def serving(home: Path) -> Iterator[str]:
    """Run `evergreen ui` on a home; gives MLflow's address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["ui", "--home", str(home), "--port", str(port)]
    process = subprocess.Popen([sys.executable, "-c", EVERGREEN, *words], stdout=subprocess.PIPE, text=True)
    try:
        yield _address(process)
    finally:
        process.terminate()
        process.wait(60)


def addresses(base: str) -> dict[str, str]:
    """The pages of docs/mlflow.md: the list of runs, their charts, one run's charts; and the list without our view."""
    experiment, runs = _runs(base)
    newest, *_ = runs.values()
    ends = {
        "runs": of_runs(experiment, True),
        "charts": of_charts(experiment, True),
        "run": of_run(experiment, f"{newest}/model-metrics"),
        "plain": of_runs(experiment, False),
    }
    return {name: base + end for name, end in ends.items()}


def settle(page: Page, charts: int, texts: Sequence[str] = ()) -> None:
    """Wait until these texts and so many charts are there. The pages never rest: they ask for news all the time."""
    for text in texts:
        page.get_by_text(text).first.wait_for(timeout=PATIENCE_MS)
    if charts:
        page.locator(CHART).nth(charts - 1).wait_for(timeout=PATIENCE_MS)
    page.wait_for_timeout(1500)  # charts slide into place


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    began, said = time.monotonic(), ""
    for line in process.stdout:
        said += line
        if found := re.search(r"UI is at (http://[\w.:]+)", line):
            return found[1]
        assert time.monotonic() - began < READY_S, said
    raise AssertionError(f"`evergreen ui` ended: {said}")


def _runs(base: str) -> tuple[str, Mapping[str, str]]:
    """The experiment's id, and the ids of its curricula by name, the newest first."""
    found = _ask(base, "experiments/search", {"max_results": 100})["experiments"]
    (experiment,) = [str(e["experiment_id"]) for e in found if e["name"] != "Default"]
    runs = _ask(base, "runs/search", {"experiment_ids": [experiment], "max_results": 1000})["runs"]
    parents = [run for run in runs if "mlflow.parentRunId" not in {t["key"] for t in run["data"]["tags"]}]
    return experiment, {run["info"]["run_name"]: run["info"]["run_id"] for run in parents}


def _ask(base: str, path: str, question: Mapping[str, object]) -> dict[str, list[dict[str, object]]]:
    headers = {"Content-Type": "application/json"}
    host = base.replace(NAME, LOOPBACK)  # a browser knows the name, urllib may not
    request = Request(f"{host}/api/2.0/mlflow/{path}", json.dumps(question).encode(), headers)
    with urlopen(request, timeout=60) as answer:
        return json.load(answer)
