"""What carries over, averaged over seeds and differenced between settings: same places, holes, and what is left out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sqlalchemy import delete

from store.carryover import NOTHING_LEARNT, OUTCOMES
from store.comparison import Comparison, facts, sentences
from store.comparison.matrices import MeanMatrix
from store.comparison.page import render
from store.errors import ComparisonError
from store.intervals import t_interval
from store.ledger import Ledger, tables
from tests.store.comparison.conftest import Compare
from tests.store.comparison.runs import Made, eight, written
from tests.store.report.pages import Page

Fresh = Callable[[], str]
DIFFERENCES = [0.1, 0.2, 0.3]
LATER = {"words": 0.6, "book": 0.4}  # words first: another order of stages


def matrix(found: Comparison, metric: str, setting: str, baseline: str | None = None) -> MeanMatrix:
    every = [*found.carry_over.matrices, *found.carry_over.differences]
    (one,) = (m for m in every if (m.metric, m.setting, m.baseline) == (metric, setting, baseline))
    return one


def means(of: MeanMatrix) -> dict[str, list[float | None]]:
    return {row.label: [cell.mean for cell in row.cells.values()] for row in of.rows}


def test_cells_are_means_over_the_seeds_with_n_and_interval(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    found = compare(*eight(ledger, DIFFERENCES, fresh()))
    rloo = matrix(found, "pass_1", "rloo")
    assert [(row.label, row.environment) for row in rloo.rows] == [
        ("start", None),
        ("1", "book"),
        ("2", "words"),
    ]
    assert means(rloo)["2"] == pytest.approx([0.31, 0.52])
    assert means(rloo)["1"] == pytest.approx([0.155, 0.26])
    (cell, _) = rloo.rows[2].cells.values()
    expected = t_interval([0.30, 0.31, 0.32])
    assert cell.n == 3
    assert cell.interval is not None
    assert (cell.interval.low, cell.interval.high) == pytest.approx((expected.low, expected.high))
    assert means(matrix(found, "entropy_token", "repo"))["1"] == [1.5, 1.5]


def test_differences_are_paired_by_seed(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    eight(ledger, DIFFERENCES, x)
    written(ledger, Made(f"{x}alone", 7, "repo"))
    names = [f"{x}{name}-{seed}" for seed in range(3) for name in ("rloo", "repo")]
    found = compare(*names, f"{x}alone")
    repo = matrix(found, "pass_1", "repo", "rloo")
    assert repo.num_seeds == 3
    assert means(repo)["2"] == pytest.approx([0.2, 0.2])
    (cell, _) = repo.rows[2].cells.values()
    expected = t_interval(DIFFERENCES)
    assert cell.interval is not None
    assert cell.interval.low == pytest.approx(expected.low), "of the paired differences"
    assert matrix(found, "pass_1", "repo").num_seeds == 4


def test_another_order_of_stages_is_averaged_only_where_it_is_the_same_place(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    x = fresh()
    runs = [Made(f"{x}a0"), Made(f"{x}a1", 1, accuracy=LATER)]
    runs += [Made(f"{x}b{seed}", seed, "repo") for seed in (0, 1)]
    written(ledger, *runs)
    found = compare(*(run.name for run in runs))
    mixed = matrix(found, "pass_1", "rloo")
    assert [(row.label, row.environment) for row in mixed.rows] == [("start", None), ("end", None)]
    assert mixed.parts_at == 1
    assert sentences.parting(mixed, found.names) == (
        "The runs of rloo do not train the same environments from stage 1 on: only the boundaries before it and "
        "the end are averaged."
    )
    assert means(mixed)["end"] == pytest.approx([0.4, 0.6]), "by name, whatever came first"
    alike = matrix(found, "pass_1", "repo")
    assert ([row.label for row in alike.rows], alike.parts_at) == (["start", "1", "2"], None)
    pair = matrix(found, "pass_1", "repo", "rloo")
    assert ([row.label for row in pair.rows], pair.parts_at) == (["start", "end"], 1)
    assert "do not train the same environments from stage 1 on" in Page(render(ledger.reading, found)).text


def test_runs_of_different_length_share_their_first_stages_and_their_end(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    x = fresh()
    runs = [Made(f"{x}a"), Made(f"{x}b", 0, "repo", lengths=(4, 4, 4))]
    written(ledger, *runs)
    pair = matrix(compare(f"{x}a", f"{x}b", by=["objective"]), "pass_1", "repo", "rloo")
    assert ([row.label for row in pair.rows], pair.parts_at) == (["start", "1", "2", "end"], 3)
    assert means(pair)["end"] == pytest.approx([0.0, 0.0])


def test_flat_runs_have_matrices_by_stage(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    written(ledger, Made(f"{x}a", is_flat=True), Made(f"{x}b", 0, "repo", is_flat=True))
    found = compare(f"{x}a", f"{x}b")
    assert [row.label for row in matrix(found, "pass_1", "rloo").rows] == ["start", "1", "2"]
    defined = {name for name, cell in found.carry_over.outcomes["rloo"].items() if cell.n}
    assert defined == {"average", "forgetting", "relative_forgetting", "entropy_left"}


def test_a_cell_that_not_every_run_has_says_of_how_many_it_is(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    some = {"book": 0.4, "words": None}
    runs = [Made(f"{x}a0"), Made(f"{x}a1", 1, accuracy=some), Made(f"{x}b0", 0, "repo", accuracy=some)]
    written(ledger, *runs)
    found = compare(*(run.name for run in runs))
    book, holed = matrix(found, "pass_1", "rloo").rows[2].cells.values()
    assert (book.n, holed.n, holed.mean, holed.interval) == (2, 1, 0.6, None)
    nowhere = matrix(found, "pass_1", "repo", "rloo").rows[2].cells["words"]
    assert (nowhere.n, nowhere.mean) == (0, None)
    page = Page(render(ledger.reading, found))
    assert ".60 of 1" in page.text
    assert "words: not measured" not in page.text, "in a title, not in the text"


def test_environments_evaluated_on_other_tasks_are_left_out(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    written(ledger, Made(f"{x}a"), Made(f"{x}b", 0, "repo", tasks="2"))
    found = compare(f"{x}a", f"{x}b", metric="train_accuracy")
    assert found.carry_over.left_out == ["book", "words"]
    assert (found.carry_over.environments, found.carry_over.outcomes) == ([], {})
    assert "Not evaluated on the same held-out tasks in all runs, and left out: book, words." in (
        Page(render(ledger.reading, found)).text
    )


def test_outcomes_are_means_of_the_runs_and_of_ratios_geometric_ones(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    x = fresh()
    runs = [Made(f"{x}{name}{seed}", seed, name, entropy=(0.5, 1.5)[seed]) for seed in (0, 1) for name in "ab"]
    written(ledger, *runs)
    found = compare(*(run.name for run in runs))
    for setting in found.settings:
        own = found.carry_over.outcomes[setting.label]
        assert list(own) == [one.name for one in OUTCOMES]
        assert own["entropy_left"].mean == pytest.approx(np.sqrt(0.25 * 0.75))
        assert own["forgetting"].mean == pytest.approx(-0.2)
        compared = compare(*(run.name for run in runs), metric="left").settings[0]
        assert own["entropy_left"].mean == pytest.approx(compared.mean)
    told = facts(found)["carry_over"]
    assert told["outcomes"]["a"]["forgetting"]["n"] == 2
    assert told["matrices"][0]["rows"][0]["cells"]["book"]["n"] == 2


def test_a_run_that_learnt_nothing_has_no_relative_forgetting_and_is_left_out(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    x = fresh()
    nothing = {"book": 0.01, "words": 0.01}
    runs = [Made(f"{x}{name}{seed}", seed, name) for seed in (0, 1) for name in "ab"]
    written(ledger, *runs, Made(f"{x}b2", 2, "b", accuracy=nothing), Made(f"{x}a2", 2, "a"))
    names = [*(run.name for run in runs), f"{x}b2", f"{x}a2"]
    found = compare(*names, metric="relative_forgetting")
    assert sentences.left_out(found) == f"1 run left out: {x}b2 (no relative_forgetting: {NOTHING_LEARNT})."
    assert [pair.seeds for pair in found.pairs] == [[0, 1]]
    assert found.settings[0].mean == pytest.approx(-1.0), "better at the end than before"
    bare = [Made(f"{x}c{seed}", seed, "c", accuracy=nothing) for seed in (0, 1)]
    written(ledger, *bare)
    page = Page(render(ledger.reading, compare(*names[:4], *(run.name for run in bare))))
    columns = [cell.strip() for cell in page.tables["outcomes"][0]]
    (row,) = (row for row in page.body("outcomes") if row[0] == "c")
    assert row[columns.index("Relative forgetting")] == NOTHING_LEARNT
    assert row[columns.index("Forgetting")] != NOTHING_LEARNT
    with pytest.raises(ComparisonError, match=rf"no relative_forgetting to compare: {x}c0 and {x}c1 have none"):
        compare(*(run.name for run in bare), f"{x}a0", metric="relative_forgetting")


def test_what_a_run_learnt_whose_record_has_gaps_is_not_said(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    nothing = {"book": 0.01, "words": 0.01}
    bare = [Made(f"{x}{name}{seed}", seed, name, accuracy=nothing) for seed in (0, 1) for name in "bc"]
    runs = [Made(f"{x}a0", 0, "a"), *bare]
    written(ledger, *runs)
    lost = (tables.step.c.run_id == ledger.reading.run_id(f"{x}c1")) & (tables.step.c.step <= 2)
    with ledger.engine.begin() as connection:
        connection.execute(delete(tables.step).where(lost))
    found = compare(*(run.name for run in runs))
    page = Page(render(ledger.reading, found))
    column = [cell.strip() for cell in page.tables["outcomes"][0]].index("Relative forgetting")
    assert {row[0]: row[column] for row in page.body("outcomes") if row[0] != "a"} == {"b": NOTHING_LEARNT, "c": "-"}
