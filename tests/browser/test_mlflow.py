"""MLflow's own UI on our record: the pages that docs/mlflow.md shows, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import orchestrator
from orchestrator.spec.fields import DEFAULT_TYPES
from store.tracker.names import COLOURS
from store.tracker.saved_view import NAME
from tests.browser.mlflow_pages import CHART, addresses, serving, settle
from tests.orchestrator.specs import small

pytestmark = pytest.mark.browser

# MLflow's own, with any record: it asks for users although it has none, and its layout observer complains.
NOT_OURS = ("users/current", "ResizeObserver", "the server responded with a status of 404")


COLUMNS = ("cl/acc", "final/entropy_ratio", "cl/entropy_carried", "objective", "bandit", "scheduler", "seed")
BANDIT = DEFAULT_TYPES["bandits"]
GROUPS = (f"Group: repo_r, {BANDIT}, uniform", f"Group: rloo, {BANDIT}, uniform")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """MLflow's pages on two runs that differ in their objective, and one more seed of the second."""
    home = tmp_path_factory.mktemp("tracked")
    for name, objective, seed in (("repo-r", "repo_r", 3), ("rloo-4", "rloo", 4), ("rloo", "rloo", 3)):
        spec = small(name, objective=objective, seed=seed, tracker="mlflow")
        assert orchestrator.run(spec, home=home).status == "finished"
    with serving(Path(home)) as base:
        yield addresses(base)


@pytest.mark.parametrize(
    ("name", "charts", "lines", "texts"),
    [
        ("runs", 0, 0, ["repo-r", "rloo", NAME, *COLUMNS, *GROUPS]),
        ("charts", 2, 0, ["repo-r", "rloo", NAME, *GROUPS, "final/entropy_ratio vs. cl/acc", "Carry-over"]),
        ("run", 6, 6, ["rloo", "R_entropy_token", "R_pass_1"]),
        ("plain", 0, 0, ["repo-r", "rloo", "Views"]),
    ],
)
def test_mlflows_own_pages_show_our_runs(
    pages: dict[str, str], visiting: Any, name: str, charts: int, lines: int, texts: list[str]
) -> None:
    with visiting(pages[name], 1280) as visit:
        settle(visit.page, charts, texts)
        if name == "charts":  # drawn once they are in sight, below the others
            visit.page.get_by_text("Carry-over").first.scroll_into_view_if_needed()
            settle(visit.page, 0, ["Parallel Coordinates"])
        assert visit.count(f"{CHART} path.js-line") >= lines
        assert [error for error in visit.errors if not any(own in error for own in NOT_OURS)] == []
        assert [url for url in visit.failed if "users/current" not in url] == []
        host = pages[name].split("/#/")[0]
        assert [url for url in visit.requests if not url.startswith((host, "blob:", "data:"))] == []
        visit.photograph(f"mlflow-{name}", whole=False)


def test_the_first_view_says_which_objective_kept_more_entropy_at_what_accuracy(
    pages: dict[str, str], visiting: Any
) -> None:
    """Without a click: every column in the window, a group a setting with its means, numbers in every row."""
    with visiting(pages["runs"], 1280) as visit:
        settle(visit.page, 0, ["(average)", "3 matching runs"])
        assert visit.count("text=MLflow Assistant") == 0, "it would cover the right third"
        heads = [visit.page.locator(f".ag-header-cell[col-id*='{column}']") for column in COLUMNS]
        for head in heads:
            box = head.bounding_box()
            assert box["x"] + box["width"] <= 1280
        for column in ("cl/acc", "final/entropy_ratio", "cl/entropy_carried"):
            cells = visit.page.locator(f".ag-center-cols-container [col-id*='{column}']").all_inner_texts()
            assert len(cells) == 5  # two groups, three runs
            assert all(re.match(r"-?\d", cell) for cell in cells)
        seeds = visit.page.locator(".ag-center-cols-container [col-id*='seed']").all_inner_texts()
        assert sorted(seeds) == ["", "", "3", "3", "4"], "a group has no seed, and no mean of seeds"


def test_the_charts_set_accuracy_against_entropy_in_a_colour_a_setting(pages: dict[str, str], visiting: Any) -> None:
    with visiting(pages["charts"], 1280) as visit:
        settle(visit.page, 2, ["final/entropy_ratio vs. cl/acc"])
        points = visit.page.locator(f"{CHART} .scatterlayer .points path").all()
        colours = {point.evaluate("e => getComputedStyle(e).fill") for point in points}
        assert colours == {f"rgb{tuple(bytes.fromhex(colour[1:]))}" for colour in (COLOURS["c1"], COLOURS["c2"])}
