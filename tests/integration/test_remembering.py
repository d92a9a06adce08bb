"""What a run leaves behind: in the ledger, in its folder, and on another machine's conscience."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import text

import orchestrator
from orchestrator.runs.catalog import opened
from orchestrator.runs.provenance import changed_code, changed_environments, differences
from store.courses import courses
from store.metrics import metric
from tests.integration.runs import told
from tests.orchestrator.specs import alone

CELLS = {"pass_1", "pass_4", "value", "truncated_frac", "entropy_token"}


def rows(home: Path, query: str, name: str = "small") -> list[Any]:
    """Ask the ledger directly, for a run."""
    with opened(home) as (_, ledger), ledger.engine.connect() as connection:
        return list(connection.execute(text(query), {"run": ledger.reading.run_id(name)}))


def test_every_pick_is_on_record_with_its_probability_and_what_it_earned(finished: Path) -> None:
    picks = rows(finished, "SELECT step, level, role, probability, signal FROM pick WHERE run_id = :run")
    category = [pick for pick in picks if pick.level == "category"]
    assert Counter(pick.step for pick in category) == dict.fromkeys(range(1, 10), 4)
    assert all(0 < pick.probability <= 1 and pick.signal is not None for pick in category)
    scheduler = [pick for pick in picks if pick.level == "scheduler"]
    assert [pick.probability for pick in scheduler] == [pytest.approx(1 / 3)] * 3
    main = [[p.signal for p in category if p.role == "main" and 3 * i < p.step <= 3 * i + 3] for i in range(3)]
    assert [pick.signal for pick in scheduler] == [pytest.approx(sum(own) / len(own)) for own in main]


def test_every_boundary_has_every_cell_of_every_environment_and_category(finished: Path) -> None:
    with opened(finished) as (_, ledger):
        for metric in sorted(CELLS):
            cells = ledger.reading.matrix("small", metric)
            counts = Counter((cell.environment, cell.category) for cell in cells)
            assert len(counts) == 3 + 6
            assert set(counts.values()) == {4}
            assert len({cell.eval_config for cell in cells}) == 1


def test_so_many_completions_are_kept_and_no_more(finished: Path) -> None:
    query = "SELECT step, after_stage, category_id, count(*) AS n FROM sample WHERE run_id = :run GROUP BY 1, 2, 3"
    kept = rows(finished, query)
    at_boundaries = [row.n for row in kept if row.after_stage is not None]
    assert len(at_boundaries) == 4 * 6
    assert set(at_boundaries) == {2}, "one of each evaluated task, at most 20"
    in_steps = Counter()  # type: ignore[var-annotated]
    for row in kept:
        if row.after_stage is None:
            in_steps[row.step] += row.n
    assert in_steps == dict.fromkeys(range(1, 10), 4), "one of each group, at most 8"


def test_every_number_of_a_step_is_a_known_metric_and_the_important_ones_are_there(finished: Path) -> None:
    last = told(finished, "small")["last_metrics"]
    assert {metric(name).name for name in last} == last.keys()
    assert {
        "reward",
        "entropy_token",
        "entropy_reading",
        "coefficient",
        "loss",
        "grad_norm",
        "lr",
    } <= last.keys()
    assert {"signal", "advantage_abs", "sampler_gap_mean", "zero_var_groups", "seconds_play"} <= last.keys()


def test_the_resolved_spec_is_beside_the_run_and_in_the_ledger(finished: Path) -> None:
    with opened(finished) as (_, ledger):
        assert yaml.safe_load((finished / "small" / "spec.yaml").read_text()) == ledger.reading.spec("small")


def test_the_same_spec_again_is_a_new_run(tmp_path: Path) -> None:
    names = [orchestrator.run(alone(), home=tmp_path, until_step=1).name for _ in range(3)]
    assert names == ["alone", "alone-2", "alone-3"]


def test_checkpoints_are_also_made_by_time(tmp_path: Path) -> None:
    spec = alone(steps=3, stages=1) | {"checkpoint": {"every_steps": 0, "every_minutes": 1e-9}}
    folder = orchestrator.run(spec, home=tmp_path).folder
    assert len(list((folder / "checkpoints").iterdir())) == 4
    spec |= {"name": "rarely", "checkpoint": {"every_steps": 0, "every_minutes": 0}}
    folder = orchestrator.run(spec, home=tmp_path).folder
    assert len(list((folder / "checkpoints").iterdir())) == 2, "those of the boundaries"


def test_what_makes_a_run_not_bitwise_the_same_is_told() -> None:
    before = {"python": "3.11.1", "torch": "2.12", "threads": 1, "cpu": "A"}
    now = {"python": "3.12.0", "torch": "2.13", "threads": 1, "cpu": "B"}
    assert differences(before, now) == ["torch was 2.12, is 2.13", "cpu was A, is B"]


def test_resuming_with_other_threads_says_that_bits_may_differ(tmp_path: Path) -> None:
    orchestrator.run(alone(), home=tmp_path, until_step=1)
    orchestrator.resume("alone", ["resources.threads=2"], home=tmp_path, until_step=2)
    texts = [event["text"] for event in told(tmp_path, "alone")["events"]]
    assert "threads was 1, is 2: the run goes on, but not bit for bit as it would have" in texts


def test_code_of_an_environment_that_was_rewritten_is_told_on_resuming_and_forking(tmp_path: Path) -> None:
    """Its version is as it was; where a version changed that is told, once."""
    file, home = tmp_path / "own.py", tmp_path / "home"
    file.write_text("from tests.environments import fakes\n\ndef create(name):\n    return fakes.create(name)\n")
    changes = {"environments": {"one": {"type": f"{file}:create"}}, "curriculum": {"stages": 2, "stage": {"steps": 2}}}
    orchestrator.run(alone() | changes, home=home, until_step=3)
    orchestrator.resume("alone", home=home, until_step=3)
    rewritten = "the code of environment one is not what it was when the run began (its file)"
    assert rewritten not in str(told(home, "alone")["events"])
    file.write_text(file.read_text() + "# a comment\n")
    orchestrator.resume("alone", home=home)
    [text] = [event["text"] for event in told(home, "alone")["events"] if rewritten in event["text"]]
    assert "perhaps not bit for bit; if tasks or scores changed their meaning, raise its `version`" in text
    orchestrator.fork("alone", 1, home=home)
    assert "environment one is not what it was for alone" in str(told(home, "alone-fork")["events"])
    before = {f"{what} {name}": "1" for what in ("environment", "code of environment") for name in ("one", "two")}
    now = {**before, "environment one": "2", "code of environment one": "b", "code of environment two": "b"}
    assert (changed_environments(before, now), changed_code(before, now)) == (["one"], ["environment two"])
    assert differences(before, now) == ["environment one was 1, is 2"]


def test_an_environment_whose_version_changed_in_mid_run_stays_one_in_what_is_told_of_the_run(tmp_path: Path) -> None:
    """Its scores of before the change count no more where later ones are, and its steps are all of its stage's."""
    file, home = tmp_path / "own.py", tmp_path / "home"
    text = "from tests.environments import fakes\n\n\nclass Own(fakes.Fake):\n    version = '{}'\n\n    "
    text += "def score(self, task, completion):\n        return fakes.Score.of({})\n\n\n"
    text += "def create(name):\n    return Own(name, 'learnable', ('easy', 'hard'), (), None, 40, in_process=False)\n"
    file.write_text(text.format("1", 0.0))
    changes = {"environments": {"one": {"type": f"{file}:create"}}, "curriculum": {"stages": 2, "stage": {"steps": 4}}}
    orchestrator.run(alone() | changes, home=home, until_step=2)
    file.write_text(text.format("2", 1.0) + "# changed\n")  # another size: Python tells modules by that and the second
    orchestrator.resume("alone", home=home)
    with opened(home, "alone") as (_, ledger):
        read = ledger.reading
        (course,) = courses(read)
        assert (course.accuracy[0], course.accuracy[1], course.accuracy[2]) == (0, 1, 1)
        assert [(row.stage, row.value, row.n) for row in read.stage_means("alone", "accuracy", 20)] == [
            (1, 0.5, 16),
            (2, 1.0, 16),
        ]
        assert [row.stage_step for row in read.stage_curves("alone", "accuracy") if row.stage == 1] == [1, 2, 3, 4]
        assert {stage: journey.num_steps for stage, journey in read.journeys("alone").items()} == {1: 3, 2: 3}
        assert [(row.environment, row.mean, row.largest) for row in read.extents("alone", ["accuracy"])] == [
            (None, 0.75, 1.0),
            ("one", 0.75, 1.0),
        ]
        assert {row.environment for row in read.curves("alone", ["accuracy"], 100)} == {"one"}
        assert len(read.curves("alone", ["accuracy"], 100)) == 1
        taught = read.taught("alone", "value")
        assert [(row.environment, row.category) for row in taught] == [("one", "easy"), ("one", "hard")]
        assert sum(row.num_groups for row in taught) == 8 * alone()["step"]["groups"]
        allocated = [(row.stage, row.environment, row.category) for row in read.allocation("alone")]
        assert len(allocated) == len(set(allocated))
