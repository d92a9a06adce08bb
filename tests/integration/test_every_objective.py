"""Every preset trains in a run, tells its numbers, and goes on after a stop as if there had been none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import orchestrator
from policies.objectives.presets import PRESETS
from tests.integration.runs import component, ending, series, told
from tests.orchestrator.specs import alone

SEVERAL = {"character": "judged_by_several", "categories": ["easy", "hard"]}


def spec(name: str, preset: str) -> dict[str, Any]:
    return alone(name, steps=3, **SEVERAL) | {
        "objective": preset,
        "step": {"groups": 4, "group_size": 6},
        "learner": {"lr": 0.003, "warmup": 0},
        "checkpoint": {"every_steps": 2},
    }


# It remembers something; `test_plans.py` has those that play otherwise, `make test-slow` all of them.
TELLING = ("repo_adaptive",)


@pytest.mark.parametrize(
    "preset", [name if name in TELLING else pytest.param(name, marks=pytest.mark.slow) for name in PRESETS]
)
def test_a_run_with_the_preset_stops_and_goes_on_to_the_same_end(tmp_path: Path, preset: str) -> None:
    assert orchestrator.run(spec("whole", preset), home=tmp_path).status == "finished"
    cut = orchestrator.run(spec("cut", preset), home=tmp_path, until_step=4)
    assert cut.status == "stopped"
    assert orchestrator.resume("cut", home=tmp_path).status == "finished"
    assert ending(tmp_path, "cut") == ending(tmp_path, "whole")
    numbers = told(tmp_path, "whole")["last_metrics"]
    assert numbers["skipped_updates"] == 0
    assert numbers["covariance"] is not None
    assert any(name.startswith("force_") for name in numbers)


def test_what_an_objective_draws_comes_from_the_runs_seed(tmp_path: Path) -> None:
    states = []
    for seed in (0, 1):
        orchestrator.run(spec(f"seed-{seed}", "clip_cov") | {"seed": seed}, home=tmp_path, until_step=1)
        states.append(component(tmp_path, f"seed-{seed}", "objective")["objective"]["rng"])
    assert states[0]["state"] != states[1]["state"]


def test_a_kl_that_a_controller_raises_from_0_has_a_reference_by_then(tmp_path: Path) -> None:
    controller = {"type": "dual_ascent", "knob": "kl", "rate": 0.1, "target": 2.0}
    section = {"preset": "rloo", "controller": controller}
    assert orchestrator.run(spec("kl", "rloo") | {"objective": section}, home=tmp_path).status == "finished"
    coefficients = series(tmp_path, "kl", "coefficient")
    assert coefficients[0] == 0
    assert coefficients[-1] is not None
    assert coefficients[-1] > 0
