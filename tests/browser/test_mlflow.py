"""MLflow's own UI on our record: the pages that docs/mlflow.md shows, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import orchestrator
from tests.browser.mlflow_pages import CHART, WITHOUT_ASSISTANT, addresses, serving, settle
from tests.orchestrator.specs import small

pytestmark = pytest.mark.browser

# MLflow's own, with any record: it asks for users although it has none, and its layout observer complains.
NOT_OURS = ("users/current", "ResizeObserver", "the server responded with a status of 404")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """MLflow's pages on two runs that differ in their objective."""
    home = tmp_path_factory.mktemp("tracked")
    for objective in ("repo_r", "rloo"):
        spec = small(objective.replace("_", "-"), objective=objective, tracker="mlflow")
        assert orchestrator.run(spec, home=home).status == "finished"
    with serving(Path(home)) as base:
        yield addresses(base)


@pytest.mark.parametrize(
    ("name", "charts", "lines", "texts"),
    [
        ("runs", 0, 0, ["repo-r", "rloo"]),
        ("run", 6, 6, ["rloo", "R_entropy_token", "R_pass_1"]),
        ("compare", 6, 12, ["repo-r", "rloo", "R_entropy_token"]),
        ("side-by-side", 1, 0, ["Comparing 2 Runs from 1 Experiment", "repo-r", "rloo"]),
    ],
)
def test_mlflows_own_pages_show_our_runs(
    pages: dict[str, str], visiting: Any, name: str, charts: int, lines: int, texts: list[str]
) -> None:
    with visiting(pages[name], 1400, before=WITHOUT_ASSISTANT) as visit:
        settle(visit.page, charts, texts)
        assert visit.count(f"{CHART} path.js-line") >= lines
        assert [error for error in visit.errors if not any(own in error for own in NOT_OURS)] == []
        assert [url for url in visit.failed if "users/current" not in url] == []
        host = pages[name].split("/#/")[0]
        assert [url for url in visit.requests if not url.startswith((host, "blob:", "data:"))] == []
        visit.photograph(f"mlflow-{name}", whole=False)
