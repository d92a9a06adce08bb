import json
import math

import pytest

from policies.objectives import Objective, ObjectiveError
from policies.objectives.config import ObjectiveConfig
from policies.objectives.controllers import signal_share
from policies.objectives.controllers.signal_share import SignalShare


def controller(start: float = 0.02, **options: float) -> SignalShare:
    return signal_share.create(signal_share.Config(**options), start)


def settled(signal: float, reading: float, **options: float) -> float:
    """Where the value comes to under one signal and one reading for long."""
    made = controller(**options)
    for _ in range(60):
        made.hear(signal)
        made.update(reading)
    return made.value


@pytest.mark.parametrize(
    ("signal", "reading", "value"),
    [
        (0.0, 1.0, 0.0),  # nothing to tell answers apart, and entropy enough: no push
        (0.4, 1.0, 0.1),  # a quarter of the signal
        (0.4, 0.6, 0.1),
        (0.0, 0.6 / math.e, 0.06),  # every factor e below the target adds the gain, whatever the signal
        (0.2, 0.6 / math.e, 0.11),
        (1.0, 0.001, 0.3),  # the bound
    ],
)
def test_signal_and_entropy_decide_where_the_value_rests(signal: float, reading: float, value: float) -> None:
    assert settled(signal, reading) == pytest.approx(value)


def test_rewards_ten_times_as_large_are_pushed_against_ten_times_as_hard() -> None:
    assert settled(0.5, 1.0, high=9.0, step=1.0) == pytest.approx(10 * settled(0.05, 1.0, high=9.0, step=1.0))


def test_the_signal_is_a_plain_mean_at_first_and_forgets_later() -> None:
    made = controller(memory=4)
    for value in (0.1, 0.3):
        made.hear(value)
    assert made.kept["signal"] == pytest.approx(0.2)
    for _ in range(60):
        made.hear(1.0)
    assert made.kept["signal"] == pytest.approx(1.0, abs=1e-6)


def test_no_step_is_larger_than_allowed() -> None:
    made = controller()
    made.hear(1.0)
    assert [made.update(1.0) for _ in range(3)] == pytest.approx([0.03, 0.04, 0.05])


@pytest.mark.parametrize("reading", [None, math.nan, 0.0])
def test_without_a_reading_it_stays(reading: float | None) -> None:
    made = controller()
    made.hear(0.4)
    assert made.update(reading) == 0.02


def test_a_saved_one_goes_on_identically() -> None:
    made, resumed = controller(), controller()
    made.hear(0.4)
    made.update(0.3)
    resumed.load_state(json.loads(json.dumps(made.state())))
    for one in (made, resumed):
        one.hear(0.1)
    assert resumed.update(0.2) == made.update(0.2)
    assert resumed.state() == made.state()


def test_a_start_out_of_reach_is_refused() -> None:
    with pytest.raises(ObjectiveError, match="signal_share controller starts at 0\\.5"):
        controller(0.5)


def test_an_objective_tells_it_the_steps_mean_absolute_advantage() -> None:
    objective = Objective(ObjectiveConfig.model_validate("repo_adaptive"))
    for _ in range(60):
        objective.observe(1.0, {"advantage_abs": 0.4})
    assert objective.controlled == pytest.approx({"strength": 0.1})
    objective.observe(1.0, {})  # a step without an update
    assert objective.controlled == pytest.approx({"strength": 0.1})
