"""A comparison as a person sees it: in a real browser, wide and narrow, light and dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from store.comparison import ComparisonRequest, compare, write
from store.home import Home
from store.ledger import Ledger
from tests.browser.test_report import CONTRASTS
from tests.store.comparison.runs import eight, study
from tests.store.comparison.test_page import HOSTILE, MANY

pytestmark = pytest.mark.browser

LOOKS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of two objectives, of ten settings, and of settings with hostile names."""
    folder = tmp_path_factory.mktemp("pages")
    hostile = {f"{HOSTILE}{i}" * 4: [0.1 * i, 0.2, 0.3] for i in range(3)}
    with Ledger.open("sqlite://") as ledger:
        named = {
            "two": eight(ledger, [0.10, 0.20, 0.15, 0.12, 0.11, 0.30]),
            "many": ["many"],
            "hostile": ["hostile"],
        }
        study(ledger, "many", MANY)
        study(ledger, "hostile", hostile)
        for name, runs in named.items():
            write(
                ledger.reading,
                compare(ledger.reading, Home(folder), ComparisonRequest(runs)),
                folder / f"{name}.html",
            )
    return {name: folder / f"{name}.html" for name in named}


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
@pytest.mark.parametrize("name", ["two", "many", "hostile"])
def test_the_page(pages: dict[str, Path], visiting: Any, name: str, width: int, scheme: str) -> None:
    with visiting(pages[name].as_uri(), width, scheme) as visit:
        visit.page.locator("#sources summary").click()
        assert (visit.errors, len(visit.requests)) == ([], 1)
        assert visit.overflow <= 0
        assert visit.count("figure.chart svg[role=img]") == 3
        assert visit.count("script, img, a") == 0
        assert [one for one in visit.page.evaluate(CONTRASTS) if one["ratio"] < 4.5] == []
        visit.photograph(f"comparison-{name}-{width}-{scheme}")
