"""Each claim is a study that anyone can run again; its verdict follows from the interval alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.claims import NAME, SIDES, STUDIES, Side, claim_of, in_short, rows, verdict
from orchestrator.studies.study import load_study
from store.comparison import ComparisonRequest, compare
from store.comparison.scores import Pair
from store.home import Home
from store.intervals import Interval
from store.ledger import Ledger
from tests.store.comparison.runs import study as written_study

FILES = sorted(STUDIES.glob("*.yaml"))
CONFIRMING = range(300, 400)  # seeds on which nothing was chosen


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_claim_is_registered_over_eight_pairs_of_seeds_that_chose_nothing(path: Path) -> None:
    study = load_study(path)
    assert study.name == NAME + path.stem
    assert len(study.seeds) >= 8
    assert set(study.seeds) <= set(CONFIRMING)
    assert study.compare.baseline in [setting.label for setting in study.settings]
    assert len(claim_of(path).split()) > 5


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_page_of_claims_has_each(path: Path) -> None:
    page = (STUDIES.parents[1] / "docs" / "results" / "claims.md").read_text()
    assert f"## {claim_of(path)}\n" in page
    assert f"examples/claims/{path.name}`" in page


@pytest.mark.parametrize(
    ("low", "high", "side", "says"),
    [
        (0.01, 0.2, Side(), "holds"),
        (-0.1, 0.2, Side(), "cannot tell"),
        (-0.2, -0.1, Side(), "does not hold"),
        (-0.2, -0.1, Side(above=False), "holds"),
        (0.1, 0.2, Side(above=False), "does not hold"),
        (-0.009, 0.2, Side(-0.01), "holds"),
        (-0.02, 0.2, Side(-0.01), "cannot tell"),
        (-0.2, -0.02, Side(-0.01), "does not hold"),
        (-0.2, 0.02, Side(0.03, above=False), "holds"),
        (0.02, 0.04, Side(0.03, above=False), "cannot tell"),
        (0.1, 0.2, None, "no claim"),
    ],
)
def test_a_verdict_is_the_side_on_which_the_interval_lies(
    low: float, high: float, side: Side | None, says: str
) -> None:
    shown = Pair(
        "b", "a", False, [], [], None, Interval(low, high), None, None, True, None, None, 1, 6, 8, None, "better"
    )
    assert verdict(shown, side) == says
    assert side is None or verdict(replace(shown, interval=None), side) == "cannot tell", "too few seeds"


def test_stages_longer_than_the_baseline_s_are_claimed_to_have_less(tmp_path: Path) -> None:
    with Ledger.open("sqlite://") as ledger:
        levels = [0.6, 0.62, 0.61, 0.6, 0.63, 0.6, 0.61, 0.6]
        settings = {"40": levels, "10": [one + 0.2 for one in levels], "100": [one - 0.3 for one in levels]}
        written_study(ledger, "one", settings, {"metric": "accuracy", "baseline": "40"})
        found = compare(ledger.reading, Home(tmp_path), ComparisonRequest(["one"]))
    assert [row.split(" | ")[1] for row in rows("stage_length", found)] == ["holds", "holds"]
    assert [row.split(" | ")[1] for row in rows("predictors", found)] == ["no claim", "no claim"]


def test_a_row_tells_both_levels_the_difference_and_the_seeds(tmp_path: Path) -> None:
    levels = [0.1, 0.12, 0.11, 0.1, 0.13, 0.1, 0.11, 0.1]
    with Ledger.open("sqlite://") as ledger:
        settings = {"a": levels, "b": [one + 0.2 + 0.01 * (one > 0.1) for one in levels]}
        written_study(ledger, "one", settings, {"metric": "accuracy", "baseline": "a"})
        found = compare(ledger.reading, Home(tmp_path), ComparisonRequest(["one"]))
    assert list(rows("one", found)) == ["| `b` beside `a` | holds | 0.364, 0.159 | +.205 (+.200 to +.210) | 0-7 |"]


def test_sides_are_of_studies_that_are_there() -> None:
    for name in SIDES:
        study, _, setting = name.partition("/")
        assert study in {path.stem for path in FILES}
        assert not setting or setting in [one.label for one in load_study(STUDIES / f"{study}.yaml").settings]
    assert in_short([3, 1, 2]) == "1-3"
    assert in_short([1, 3]) == "1, 3"
