"""A learning rate that falls over a run or its stages: a function of the step, whatever happens to the run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from math import cos, pi
from pathlib import Path
from typing import Any

import pytest

from orchestrator.choosing.stage_scheduler import StopConditions
from orchestrator.errors import SpecError
from orchestrator.runs.api import fork, resume, run
from orchestrator.runs.catalog import opened
from orchestrator.spec import load_spec
from store.report import learning_curves
from store.report.report_data import ReportData
from tests.integration.runs import At, Killed, ending, kill, series, told
from tests.orchestrator.specs import Raw, alone, flat

LR = 0.004


def spec(name: str, schedule: Any, warmup: int = 2, updates: int = 1, **curriculum: Any) -> Raw:
    """Two stages of four steps on one environment that is scored here."""
    learner = {"lr": LR, "warmup": warmup, "updates": updates, "schedule": schedule}
    made = alone(name, steps=4, character="noisy") | {"learner": learner}
    made["curriculum"] |= curriculum
    return made


def rates(home: Path, name: str) -> list[float]:
    return [(rate or 0.0) / LR for rate in series(home, name, "lr")]


def falls(shares: list[float]) -> list[Any]:
    return [pytest.approx((1 + cos(pi * share)) / 2) for share in shares]


@pytest.fixture(scope="module")
def cosine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a finished run `cosine`, to be read or copied."""
    home = tmp_path_factory.mktemp("cosine")
    run(spec("cosine", "cosine"), home=home)
    return home


def test_over_a_run_it_falls_from_the_warm_up_to_the_last_step_that_is_planned(cosine: Path, tmp_path: Path) -> None:
    assert rates(cosine, "cosine") == [0.5, *falls([0, 0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])]
    run(spec("linear", {"type": "linear", "end": 0.2}, warmup=0, updates=2), home=tmp_path)
    # the last of two updates a step, 16 in all
    expected = [0.2 + 0.8 * (1 - (2 * step + 1) / 16) for step in range(8)]
    assert rates(tmp_path, "linear") == pytest.approx(expected)
    with opened(cosine, "cosine") as (place, ledger):
        chart = learning_curves.learning_rate(ReportData(ledger, place.run_folder("cosine"), "cosine"))
    assert chart is not None, "the report draws it"
    assert chart.title == f"Share of {LR:g}"


@pytest.mark.parametrize(
    ("boundary", "second"),
    [
        ({"optimizer": "carry"}, [1, 0.75, 0.5, 0.25]),
        ({"optimizer": "reset"}, [0.5, 1, 1, 0.5]),
        ({"interventions": ["reset_optimizer"]}, [0.5, 1, 1, 0.5]),
    ],
    ids=["carry", "reset", "intervention"],
)
def test_over_a_stage_it_begins_anew_and_with_the_optimiser_so_does_the_warm_up(
    tmp_path: Path, boundary: Raw, second: list[float]
) -> None:
    made = spec("stages", {"type": "linear", "over": "stage"}, boundary=boundary)
    with pytest.raises(Killed):
        run(made | {"checkpoint": {"every_steps": 1}}, home=tmp_path, watcher=At(6, kill, ["step"]))
    assert resume("stages", home=tmp_path).status == "finished"
    assert rates(tmp_path, "stages") == pytest.approx([0.5, 1, 1, 0.5, *second])


def test_killed_it_goes_on_bit_for_bit(cosine: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(spec("killed", "cosine"), home=tmp_path, watcher=At(8, kill))
    assert resume("killed", home=tmp_path).status == "finished"
    assert ending(tmp_path, "killed") == ending(cosine, "cosine")


def test_a_run_that_is_lengthened_or_forked_takes_the_rate_of_its_place_in_the_new_whole(
    cosine: Path, tmp_path: Path
) -> None:
    shutil.copytree(cosine, tmp_path, dirs_exist_ok=True)
    resume("cosine", home=tmp_path, stages=3)
    found = rates(tmp_path, "cosine")
    assert found[7:] == falls([5 / 6, *((step - 2) / 10 for step in range(8, 12))]), "it rises again"
    said = [event["text"] for event in told(tmp_path, "cosine")["events"]]
    assert any("3 stages in all instead of 2; from here on the learning rate (cosine) is" in text for text in said)
    fork("cosine", 2, overrides=["learner.schedule=linear", "name=forked"], home=tmp_path)
    assert rates(tmp_path, "forked") == [*found[:8], *(pytest.approx(1 - (step - 2) / 10) for step in range(8, 12))]


def test_a_stage_that_ends_early_brings_the_end_of_the_run_nearer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StopConditions, "verdict", lambda self, at: "enough" if at.stage == 1 else None)
    made = spec("early", "linear", warmup=0)
    made["curriculum"]["stage"] = {"steps": 12}
    run(made, home=tmp_path)
    expected = [1 - step / 24 for step in range(10)] + [1 - step / 22 for step in range(10, 22)]
    assert rates(tmp_path, "early") == pytest.approx(expected), "of 24 steps at first, of 22 once 10 are all of a stage"


def changed(raw: Raw, learner: Mapping[str, Any]) -> Raw:
    return raw | {"learner": {"lr": LR, **learner}}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (changed(flat(), {"schedule": {"type": "cosine", "over": "stage"}, "warmup": 0}), "flat mode has no stages"),
        (changed(alone(), {"schedule": "cosine"}), "`warmup: 20` leaves none of the 6 updates of a run"),
        (
            changed(alone(), {"schedule": {"type": "linear", "over": "stage"}, "warmup": 6, "updates": 2}),
            "`warmup: 6` leaves none of the 6 updates of a stage",
        ),
        (changed(alone(), {"schedule": {"end": 0.1}}), "a constant learning rate does not fall"),
        (changed(alone(), {"schedule": "cosin"}), "learner.schedule.type"),
    ],
)
def test_what_cannot_mean_anything_is_refused_before_anything_is_loaded(raw: Raw, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        load_spec(raw)


def test_without_a_schedule_nothing_is_what_it_was_not() -> None:
    assert load_spec(alone()).learner.schedule.type == "constant"
    load_spec(changed(alone(), {"schedule": "constant", "warmup": 1000}))
