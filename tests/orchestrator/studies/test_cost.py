"""What a study takes, counted, and estimated from what earlier runs took."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import webhook
from orchestrator.runs.api import run
from orchestrator.runs.dry_run import make_plan
from orchestrator.studies.cost import MeasuredTime, cost_of, hash_of, left_s, pace, rehearse, seconds_of
from orchestrator.studies.study import Study
from store.ledger import Ledger
from tests.orchestrator.specs import alone
from tests.orchestrator.studies.studies import made_study

NOTHING = MeasuredTime({}, {})


def two(folder: Path, **content: object) -> Study:
    return made_study(folder, grid={"curriculum.stage.steps": [3, 6]}, **content)


def test_a_cost_counts_runs_steps_evaluations_and_disk(tmp_path: Path) -> None:
    study = two(tmp_path)
    cost = cost_of(study, study.runs, NOTHING, 2, tmp_path)
    assert (cost.num_runs, cost.num_left, cost.num_steps, cost.num_evaluations) == (4, 4, 2 * (6 + 12), 4 * 3)
    plans = [make_plan(setting.spec, tmp_path) for setting in study.settings]
    assert cost.bytes == 2 * sum((p.saved_bytes or 0) + p.ledger_bytes for p in plans)
    assert cost.seconds is None
    assert "time: known once a first run is finished" in "\n".join(cost.lines())


def test_only_what_is_left_counts(tmp_path: Path) -> None:
    study = two(tmp_path)
    cost = cost_of(study, study.runs[1:2], NOTHING, 2, tmp_path)
    assert (cost.num_left, cost.num_steps) == (1, 12)
    assert "1 of 4 runs" in cost.lines()[0]


def test_a_baseline_counts_twice(tmp_path: Path) -> None:
    alone_, twin = (
        made_study(tmp_path, name, spec=alone("base") | more)
        for name, more in (("a", {}), ("b", {"baseline": "uniform"}))
    )
    once, twice = (cost_of(study, study.runs, NOTHING, 1, tmp_path) for study in (alone_, twin))
    assert once.bytes is not None
    assert (twice.num_steps, twice.bytes) == (2 * once.num_steps, 2 * once.bytes)


def test_a_model_of_unknown_size_has_an_unknown_disk(tmp_path: Path) -> None:
    study = made_study(tmp_path, spec=alone("base") | {"policy": "somebody/no-such-model"})
    assert cost_of(study, study.runs, NOTHING, 1, tmp_path).bytes is None


@pytest.mark.parametrize(
    ("workers", "done", "seconds"),
    [(1, 0.0, 40), (2, 0.0, 20), (9, 0.0, 10), (1, 0.5, 35)],
)
def test_time_is_shared_among_workers_and_no_shorter_than_a_run(
    tmp_path: Path, workers: int, done: float, seconds: float
) -> None:
    study = made_study(tmp_path, seeds=4)
    measured = MeasuredTime({hash_of(study.settings[0].spec): [9.0, 11.0]}, {hash_of(study.settings[0].spec): 6})
    left = [(planned, done if planned.seed == 0 else 0.0) for planned in study.runs]
    assert left_s(left, measured, workers) == (pytest.approx(seconds), "finished runs of the same settings")


def test_a_setting_that_never_ran_is_estimated_by_its_steps(tmp_path: Path) -> None:
    short, long = two(tmp_path, seeds=1).runs
    measured = MeasuredTime({hash_of(short.setting.spec): [6.0]}, {hash_of(short.setting.spec): 6})
    estimate = measured.of(long.setting)
    assert estimate is not None
    assert estimate[0] == pytest.approx(12.0)
    assert "other settings" in estimate[1]


def test_finished_runs_of_the_same_settings_are_measured_and_others_are_not(tmp_path: Path) -> None:
    home = tmp_path / "home"
    run(alone("elsewhere"), home=home)
    run(alone("other", steps=5), home=home)
    study = two(tmp_path)
    with Ledger.open(f"sqlite:///{home / 'evergreen.db'}") as ledger:
        measured = pace(ledger.reading, study)
        assert list(measured.seconds) == [hash_of(study.settings[0].spec)]
        (seconds,) = measured.seconds[hash_of(study.settings[0].spec)]
        steps = sum(step.seconds for step in ledger.reading.steps("elsewhere"))
        assert steps < seconds < 60
        assert seconds == seconds_of(ledger.reading, "elsewhere")


def test_a_rehearsal_estimates_a_whole_run_from_a_few_steps(tmp_path: Path) -> None:
    """A step of the slow environment takes .2 s: 4 samples, .05 s each."""
    spec = alone("base", character="slow", steps=30, stages=2) | {"baseline": "uniform"}
    study = made_study(tmp_path, spec=spec, grid={"learner.lr": [0.1, 0.2]})
    measured = rehearse(study)
    (seconds,) = measured.seconds[hash_of(study.settings[0].spec)]
    assert 60 * 0.2 < seconds < 60 * 1.0
    assert "a rehearsal of 10 steps" in str(measured.of(study.settings[0]))
    assert [path.name for path in tmp_path.iterdir()] == ["trial.yaml"]


@pytest.mark.parametrize(("every", "num"), [(2, 10), (20, 1)])
def test_a_rehearsal_counts_evaluations_inside_stages(tmp_path: Path, every: int, num: int) -> None:
    """One of 16 samples of the slow environment takes .8 s, a step .1; the second is not reached in ten steps."""
    spec = alone("base", character="slow", steps=21, stages=1) | {"step": {"groups": 1, "group_size": 2}}
    seconds = []
    for own in (0, every):
        evaluate = {"items": 2, "samples": 8, "every": own}
        (tmp_path / str(own)).mkdir()
        study = made_study(tmp_path / str(own), spec=spec | {"evaluate": evaluate}, grid={"learner.lr": [0.1]})
        (estimate,) = rehearse(study).seconds[hash_of(study.settings[0].spec)]
        seconds.append(estimate)
    assert seconds[1] - seconds[0] > num * 0.8 * 0.5


def test_nobody_hears_of_a_rehearsal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"checkpoint": {"copy_to": (tmp_path / "copies").as_uri()}, "guards": {"webhook": "TEAM_HOOK"}}
    study = made_study(tmp_path, spec=alone("base", stages=1) | told, grid={"learner.lr": [0.1]})
    monkeypatch.setenv("TEAM_HOOK", "http://127.0.0.1:9/")
    monkeypatch.setattr(webhook.Webhook, "__init__", lambda *given: pytest.fail("told"))
    rehearse(study)
    assert not (tmp_path / "copies").exists()
