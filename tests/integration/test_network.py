"""What is read of the network at boundaries: it moves nothing, and a resumed run reads what it would have read."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.runs.api import fork, resume, run
from orchestrator.runs.catalog import opened
from tests.integration.runs import At, Killed, ending, kill
from tests.orchestrator.specs import small

HERE = "scoring.isolation=none"
LOOKED = small("looked", measure={"share": 20.0, "of": ["network", "gradients"]}, evaluate={"items": 8, "samples": 4})
PLAIN = small("plain", evaluate={"items": 8, "samples": 4})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("home")
    run(LOOKED, [HERE], home=place)
    return place


def cells(home: Path, name: str, metric: str) -> dict[tuple[int, str], float | None]:
    with opened(home, name) as (_, ledger):
        found = ledger.reading.matrix(name, metric)
    return {(cell.after_stage, cell.environment): cell.value for cell in found if cell.category is None}


def events(home: Path, name: str) -> list[str]:
    with opened(home, name) as (_, ledger):
        return [event.text for event in ledger.reading.events(name) if event.kind == "not measured"]


@pytest.mark.slow
def test_looking_moves_nothing(home: Path) -> None:
    run(PLAIN, [HERE], home=home)
    plain, looked = ending(home, "plain"), ending(home, "looked")
    assert (looked.digest, looked.weights) == (plain.digest, plain.weights)
    assert looked.digest_all != plain.digest_all


def test_what_is_read_of_environments(home: Path) -> None:
    names = ("numbers", "book", "noise")
    fixed = cells(home, "looked", "entropy_fixed")
    assert set(fixed) == {(stage, name) for stage in range(4) for name in names}
    sampled = cells(home, "looked", "entropy_token")
    assert fixed[0, "noise"] == pytest.approx(sampled[0, "noise"], rel=0.2), "of some of the same samples, at the start"
    base, last = cells(home, "looked", "kl_base"), cells(home, "looked", "kl_prev")
    assert set(base) == set(last) == {(stage, name) for stage in (1, 2, 3) for name in names}
    assert all(value is not None and value > 0 for value in base.values())
    assert all(base[1, name] == last[1, name] for name in names)
    assert base[3, "book"] != last[3, "book"]
    assert not events(home, "looked")


def test_what_is_read_of_the_network(home: Path) -> None:
    with opened(home, "looked") as (_, ledger):
        rows = ledger.reading.network("looked")
        costs = {(one.name, one.after_stage): one.passes for one in ledger.reading.measurements("looked")}
    found = {(row.metric, row.after_stage, row.layer): row.value for row in rows}
    assert found["rank_rows", 3, -1] == 32, "twice the width"
    assert 1 <= (found["erank", 3, 0] or 0) <= 16
    assert 0 <= (found["dormant_0.1", 0, -1] or 0) < 1
    assert found["weight_dist_base", 1, -1] == found["weight_dist_prev", 1, -1]
    assert (found["weight_dist_base", 3, -1] or 0) > (found["weight_dist_prev", 3, -1] or 0) > 0
    assert ("weight_dist_base", 0, -1) not in found
    assert 1 <= (found["gradient_diversity_erank", 0, -1] or 0) <= 3
    assert found["gradient_environments", 0, -1] in (2, 3)
    # numbers 2 categories of 8 tasks, book too (its keys), noise as many as it has: 4 answers each, three passes each
    assert 0 < costs["gradients", 0] <= 3 * costs["network", 0], "of groups with spread; nothing for ranks alone"


def test_gradients_are_compared_in_both_directions(home: Path) -> None:
    assert cells(home, "looked", "cosine_book")[1, "noise"] == cells(home, "looked", "cosine_noise")[1, "book"]
    norms = cells(home, "looked", "gradient_norm")
    assert norms[0, "noise"] is not None
    assert -1 <= (cells(home, "looked", "gradient_split_half")[0, "noise"] or 0) <= 1


def test_a_killed_run_measures_what_it_would_have_measured(home: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(LOOKED, [HERE], home=tmp_path, watcher=At(2, kill, ("boundary",)))
    resume("looked", home=tmp_path)
    assert ending(tmp_path, "looked") == ending(home, "looked")


def test_a_fork_reads_the_rows_that_it_inherits_and_says_what_it_cannot_compare(home: Path) -> None:
    environments = {**LOOKED["environments"], "more": {"type": "codebook", "categories": {"3": 3}, "keys": 6}}
    fork("looked", 2, {**LOOKED, "name": "forked", "environments": environments}, [HERE], home=home)
    fixed, before = cells(home, "forked", "entropy_fixed"), cells(home, "looked", "entropy_fixed")
    assert fixed[2, "book"] == before[2, "book"]
    assert fixed[2, "more"] is not None
    assert (2, "more") not in cells(home, "forked", "kl_base"), "its rows are of here"
    assert cells(home, "forked", "kl_base")[3, "more"] == cells(home, "forked", "kl_prev")[3, "more"]
    said = events(home, "forked")
    assert any("the rows of more were frozen after stage 2" in text for text in said)
    assert len(said) == len(set(said)) == 1
    with opened(home, "forked") as (_, ledger):
        distances = {row.after_stage: row.value for row in ledger.reading.network("forked", "weight_dist_base")}
    assert distances[3], "the weights at the start are those of the run that it was forked from"
