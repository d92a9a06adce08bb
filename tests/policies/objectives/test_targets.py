import json
import math
from typing import Any

import pytest

from policies.objectives.controllers import affine, geometric
from policies.objectives.parts import Controller


def make(**options: Any) -> Controller:
    return affine.create(affine.Config(low=-10, high=10, **options), 0.0)


@pytest.mark.parametrize(
    ("target_in", "reads"),
    [
        ("fraction", "entropy_reading"),
        ("nats", "entropy_reading_nats"),
        ("initial", "entropy_reading"),
    ],
)
def test_the_unit_of_the_target_says_what_is_read(target_in: str, reads: str) -> None:
    """Reference: objectives.md 12.2."""
    assert make(target_in=target_in).reads == reads


def test_a_target_from_first_readings() -> None:
    """Reference: objectives.md 12.2."""
    controller = make(target_in="initial", target=0.5, target_readings=3)
    found = []
    for reading in (0.9, math.nan, 1.2, 1.5, 1.0):
        found.append((controller.target, controller.update(reading)))
    rests = [(None, 0.0)] * 4
    assert found == [*rests, (pytest.approx(0.6), pytest.approx(-0.4))]


def test_a_target_that_goes_down_a_line() -> None:
    """Reference: objectives.md 12.2."""
    controller = make(target=1.0, target_end=0.4, target_steps=3)
    targets = []
    for reading in (1.0, None, 1.0, 1.0, 1.0, 1.0):
        targets.append(controller.target)
        controller.update(reading)
    assert targets == pytest.approx([1.0, 0.8, 0.8, 0.6, 0.4, 0.4])


def test_a_line_begins_behind_the_first_readings_and_is_a_share_of_them() -> None:
    controller = make(target_in="initial", target_readings=2, target=1.0, target_end=0.5, target_steps=2)
    targets = []
    for reading in (2.0, 4.0, 3.0, 3.0, 3.0):
        targets.append(controller.target)
        controller.update(reading)
    assert targets == [None, None, 3.0, 2.25, 1.5]


def test_rescaling_takes_the_first_readings_anew_and_keeps_the_coefficient_and_the_line() -> None:
    controller = make(target_in="initial", target_readings=1, target_end=0.5, target_steps=4)
    for reading in (2.0, 1.0, 1.0):
        controller.update(reading)
    value = controller.value
    controller.rescale()
    assert (controller.target, controller.value) == (None, value)
    assert controller.update(0.4) == value
    assert controller.target == pytest.approx(0.4 * 0.75)


def test_a_plain_target_knows_nothing_to_rescale() -> None:
    controller = geometric.create(geometric.Config(), 1e-3)
    controller.update(0.5)
    before = controller.state()
    controller.rescale()
    assert controller.state() == before


def test_a_saved_target_goes_on_as_if_uninterrupted() -> None:
    """Reference: objectives.md 18."""
    options = {"target_in": "initial", "target_readings": 3, "target_end": 0.5, "target_steps": 4}
    readings = [1.0, 0.9, 0.8, 0.9, 1.1, 0.7, 1.3]
    for cut in (2, 5):
        whole, first, second = (make(**options) for _ in range(3))
        expected = [(whole.update(reading), whole.target) for reading in readings]
        for reading in readings[:cut]:
            first.update(reading)
        second.load_state(json.loads(json.dumps(first.state())))
        assert [(second.update(reading), second.target) for reading in readings[cut:]] == expected[cut:]
