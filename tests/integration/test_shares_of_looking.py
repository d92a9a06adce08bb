"""A share of compute for looking: boundaries leave environments out, and training is what it is without."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.curriculum import Curriculum
from orchestrator.runs.api import fork, resume, run
from orchestrator.runs.catalog import opened
from store.records import INTERVENTION
from tests.conftest import Evergreen
from tests.integration.runs import At, Killed, ending, kill, told
from tests.orchestrator.specs import Raw, alone, small

HERE = "scoring.isolation=none"
SHARE = ["evaluate.share=0.01", "evaluate.within=3"]
ORDER = {"type": "sequence", "order": ["book"]}
SEEN = {  # book has all stages; one of three is looked at in turn
    "0": {"numbers", "book", "noise"},
    "1": {"book"},
    "2": {"book", "noise"},
    "3": {"book", "numbers"},
    "4": {"numbers", "book", "noise"},
}


def spec(name: str) -> Raw:
    return small(name, curriculum={"stages": 4, "scheduler": ORDER, "stage": {"steps": 2, "replay": 0.25}})


def seen(home: Path, name: str) -> dict[str, set[str]]:
    return {stage: {*row} for stage, row in told(home, name)["matrices"]["pass_1"].items()}


def test_training_is_bit_for_bit_what_it_is_without_and_what_is_seen_is_so_to_rounding(
    tmp_path: Path, evergreen: Evergreen
) -> None:
    run(spec("whole"), [HERE], home=tmp_path)
    run(spec("part"), [HERE, *SHARE], home=tmp_path)
    whole, part = ending(tmp_path, "whole"), ending(tmp_path, "part")
    assert (part.digest, part.weights) == (whole.digest, whole.weights)
    assert part.digest_all != whole.digest_all
    assert seen(tmp_path, "part") == SEEN
    for metric, nats in (("pass_1", 0.0), ("entropy_token", 1e-6)):  # in batches of their own sums round otherwise
        all_of, some = (told(tmp_path, name)["matrices"][metric] for name in ("whole", "part"))
        for stage, row in some.items():
            assert row == pytest.approx({name: all_of[stage][name] for name in row}, rel=0, abs=nats)
    with opened(tmp_path, "part") as (_, ledger):
        passes = [one.passes for one in ledger.reading.measurements("part")]
    told_of_time = evergreen("show", "part", "--time", "--home", tmp_path)
    rows = {line.split()[0]: line.split() for line in told_of_time.stdout.splitlines() if line.strip()}
    assert rows["training"][1] == str(8 * 4 * 4 * 4), "steps x groups x samples x passes"
    assert rows["evaluation"][1:4] == ["5", "368", "72%"]
    assert "evaluate 0.01 and measure 0.1" in told_of_time.stdout
    each = 2 * 2 * 4  # categories x tasks x samples, of a token in the book that is trained on, of three elsewhere
    assert passes == [7 * each, each, 4 * each, 4 * each, 7 * each]


def test_what_an_intervention_did_is_looked_at_where_its_boundary_looked(tmp_path: Path) -> None:
    run(spec("mended"), [HERE, *SHARE, "curriculum.boundary.interventions=[{type: base_fusion}]"], home=tmp_path)
    with opened(tmp_path, "mended") as (_, ledger):
        cells = ledger.reading.matrix("mended", "pass_1", "intervened")
        passes = {
            one.after_stage: one.passes for one in ledger.reading.measurements("mended") if one.name == INTERVENTION
        }
    looked: dict[str, set[str | None]] = {}
    for cell in cells:
        looked.setdefault(str(cell.after_stage), set()).add(cell.environment)
    assert looked == {stage: SEEN[stage] for stage in ("1", "2", "3")}
    assert passes == {1: 16.0, 2: 16.0 + 3 * 16.0, 3: 16.0 + 3 * 16.0}, "three tokens where the book has one"


@pytest.mark.parametrize("moment", [8])
@pytest.mark.slow
def test_a_run_killed_at_a_boundary_with_holes_equals_the_uninterrupted_one(tmp_path: Path, moment: int) -> None:
    run(spec("whole"), [HERE, *SHARE], home=tmp_path)
    try:
        run(spec("killed"), [HERE, *SHARE], home=tmp_path, watcher=At(moment, kill))
    except Killed:
        resume("killed", home=tmp_path)
    assert ending(tmp_path, "killed") == ending(tmp_path, "whole")
    assert seen(tmp_path, "killed") == SEEN


def test_a_stopped_run_does_not_fill_the_holes_of_its_last_boundary(tmp_path: Path) -> None:
    run(spec("part"), [HERE, *SHARE], home=tmp_path, until_step=2)
    resume("part", home=tmp_path)
    assert seen(tmp_path, "part") == SEEN


def test_what_no_boundary_of_a_lost_ledger_measured_is_not_taken_for_new(tmp_path: Path) -> None:
    run(spec("part"), [HERE, *SHARE, "checkpoint.background=false"], home=tmp_path, until_step=3)
    for file in tmp_path.glob("evergreen.db*"):
        file.unlink()
    with pytest.raises(Killed):  # after the checkpoint of a boundary that leaves environments out
        resume("part", home=tmp_path, watcher=At(1, kill, ["stage"]))
    resume("part", home=tmp_path, until_step=5)
    assert seen(tmp_path, "part") == {"2": SEEN["2"]}


def test_a_fork_with_another_order_measures_what_that_trains_next(tmp_path: Path) -> None:
    run(spec("part"), [HERE, *SHARE], home=tmp_path, until_step=3)
    other = "curriculum.scheduler={type: sequence, order: [noise, numbers, book]}"
    fork("part", 1, overrides=[other, "name=forked"], home=tmp_path, until_step=5)
    assert seen(tmp_path, "forked")["2"] == {"book", "noise", "numbers"}, "noise had a stage, numbers has the next"


def test_a_fork_of_a_fork_has_joined_what_its_parent_was_killed_before_measuring(tmp_path: Path) -> None:
    run(alone(steps=1), home=tmp_path)
    joins = ["environments.more={type: codebook, categories: {'2': 2}, keys: 6}", "checkpoint.background=false"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Curriculum, "welcome", lambda *args: kill())
        with pytest.raises(Killed):
            fork("alone", 1, overrides=[*joins, "name=cut"], home=tmp_path)
    fork("cut", 1, overrides=["name=whole"], home=tmp_path)
    assert seen(tmp_path, "whole") == {"0": {"one"}, "1": {"one", "more"}, "2": {"one", "more"}}


@pytest.mark.slow
def test_more_stages_leave_the_past_as_it_is_and_a_fork_measures_only_what_joins(tmp_path: Path) -> None:
    run(spec("part"), [HERE, *SHARE], home=tmp_path)
    resume("part", stages=5, home=tmp_path)
    assert seen(tmp_path, "part") == SEEN | {"5": SEEN["0"]}
    joins = "environments.more={type: codebook, categories: {'2': 2}, keys: 6}"
    fork("part", 1, overrides=[joins, "name=forked"], home=tmp_path, until_step=2)
    assert seen(tmp_path, "forked") == {"0": SEEN["0"], "1": {"book", "more"}}
