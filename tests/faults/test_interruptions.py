"""A small share of `make faults`, and that it would notice: another end, a row too many, a wrong exit."""

from __future__ import annotations

import itertools
import random
import signal
from pathlib import Path

import pytest

import orchestrator
from orchestrator import registry
from orchestrator.choosing.choice import named_arms, require_known_arms
from orchestrator.runs.environments import build_environments, trainable
from orchestrator.spec import load_spec
from tests.faults.__main__ import summary
from tests.faults.interruptions import ANYWHERE, Aim, Case, differences, interrupt_until_it_is_over, wrong
from tests.faults.settings import setting
from tests.orchestrator.specs import alone

FEW = 2


def test_runs_interrupted_at_random_end_as_those_that_nobody_interrupted(tmp_path: Path) -> None:
    cases = list[Case]()
    for number in itertools.count(0, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        left = FEW - sum(len(case.interruptions) for case in cases)
        cases.append(interrupt_until_it_is_over(setting(number, folder), folder, random.Random(number), most=left))
        if left == len(cases[-1].interruptions):
            break
    told = [text for case in cases for text in (*map(str, case.interruptions), *case.differences)]
    assert not any(case.differences for case in cases), "\n".join([summary(cases), *told])


def test_every_method_has_its_turn_and_every_setting_is_a_spec(tmp_path: Path) -> None:
    said = set()
    for number in range(120):
        made = setting(number, tmp_path)
        spec = load_spec(made.spec)
        if named_arms(spec.curriculum.bandit):
            require_known_arms(spec.curriculum, trainable(build_environments(spec)[1]))
        said |= set(made.methods.values())
    for kind in ("bandits", "schedulers", "selections", "teachers", "stop_rules", "objectives", "interventions"):
        assert {method.name for method in registry.listing(kind)} <= said, kind


def test_another_end_is_noticed(tmp_path: Path) -> None:
    for name, seed in (("whole", 0), ("cut", 1)):
        orchestrator.run(alone(name) | {"seed": seed}, home=tmp_path)
    found = differences(tmp_path)
    assert {"digest differs", "digest_all differs", "weights differs"} <= set(found)


def test_a_row_more_is_noticed(tmp_path: Path) -> None:
    orchestrator.run(alone("whole"), home=tmp_path)
    orchestrator.run(alone("cut", steps=4), home=tmp_path)
    assert "step: 6 rows, and 8 of the interrupted one" in differences(tmp_path)


@pytest.mark.parametrize(
    ("exit_code", "output", "is_fine"),
    [
        (75, "Go on with: evergreen resume cut", True),
        (75, "stopped", False),
        (128 + signal.SIGTERM, "error: ended by SIGTERM before anything was begun", True),
        (2, "error", False),
        (1, "Traceback (most recent call last)", False),
        (-signal.SIGTERM, "", True),
        (-signal.SIGTERM, "step 1", False),
    ],
)
def test_how_a_command_ends_that_is_asked_to_stop(tmp_path: Path, exit_code: int, output: str, is_fine: bool) -> None:
    aim = Aim(ANYWHERE, 0.1, signal=signal.SIGTERM)
    assert (not wrong(exit_code, output, aim, tmp_path)) == is_fine


def test_a_summary_counts_places_and_signals(tmp_path: Path) -> None:
    made = setting(0, tmp_path)
    good = Case(made, [Aim("transaction", 0.1), Aim(ANYWHERE, 0.1, signal=signal.SIGHUP)])
    text = summary([good, Case(made, [Aim("transaction", 0.2)], ["digest differs"])])
    assert "3 interruptions" in text
    assert "    2  transaction" in text
    assert "    1  anywhere, asked to stop" in text
    assert "1 of 2 runs ended as the one that nobody interrupted" in text
