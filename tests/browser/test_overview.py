"""The page of a home as a person sees it: in a real browser, wide and narrow, light and dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.runs.catalog import inventory
from store.ledger import Ledger
from store.overview import INDEX_FILE, write
from tests.browser.test_report import CONTRASTS
from tests.store.comparison.runs import study
from tests.store.comparison.test_page import HOSTILE
from tests.store.report.runs import Shape, written

pytestmark = pytest.mark.browser

ROOM = 16  # pixels
LOOKS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of homes: one with runs of every status and a study, one with hostile texts, an empty one."""
    made = {name: tmp_path_factory.mktemp(name) for name in ("several", "hostile", "empty")}
    for name, home in made.items():
        with Ledger.open(f"sqlite:///{home / 'evergreen.db'}") as ledger:
            if name == "several":
                for status in ("finished", "stopped", "failed", "running"):
                    spec = {
                        "tracker": {"type": "mlflow", "uri": None if status == "finished" else "https://mlflow.lab"}
                    }
                    ledger.set_status(written(ledger, Shape(spec=spec), f"run-{status}"), status)  # type: ignore[arg-type]
                study(ledger, "trial", {"rloo": [0.2, 0.3], "repo": [0.4, 0.5]})
            elif name == "hostile":
                written(ledger, Shape(stages=40), "r" * 190)
                study(ledger, "hostile", {f"{HOSTILE}{i}" * 4: [0.1 * i] for i in range(3)})
        write(inventory(home), home, home / INDEX_FILE)
    return made


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
@pytest.mark.parametrize("name", ["several", "hostile", "empty"])
def test_the_page(homes: dict[str, Path], visiting: Any, name: str, width: int, scheme: str) -> None:
    with visiting((homes[name] / INDEX_FILE).as_uri(), width, scheme) as visit:
        for fold in visit.page.locator("summary").all():
            fold.click()
        assert (visit.errors, len(visit.requests)) == ([], 1)
        assert visit.overflow <= 0
        assert visit.count("h1") == 1
        assert visit.count("script, img") == 0
        assert [one for one in visit.page.evaluate(CONTRASTS) if one["ratio"] < 4.5] == []
        overlaps = "[...document.querySelectorAll('td')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
        assert visit.page.evaluate(overlaps) == 0
        if width == 1280:
            gap = "e.closest('td').getBoundingClientRect().right - e.getBoundingClientRect().right"
            gaps = visit.page.evaluate(f"[...document.querySelectorAll('.runs .spark')].map(e => {gap})")
            assert min(gaps, default=ROOM) >= ROOM, "a number keeps off the next column"
        visit.photograph(f"overview-{name}-{width}-{scheme}")


def test_what_scrolls_can_be_reached_by_keyboard(homes: dict[str, Path], visiting: Any) -> None:
    with visiting((homes["several"] / INDEX_FILE).as_uri(), 800) as visit:
        wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)"
        assert visit.page.evaluate(f"{wide}.length") >= 1
        assert visit.page.evaluate(f"{wide}.every(e => e.tabIndex === 0 && e.getAttribute('aria-label'))")
