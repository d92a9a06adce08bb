import itertools
import json
import math
from collections.abc import Callable

import pytest

from policies.objectives import ObjectiveError
from policies.objectives.controllers import geometric, geometric_signed
from policies.objectives.parts import Controller


def signed(start: float, target: float = 0.3) -> Controller:
    return geometric_signed.create(geometric_signed.Config(target=target), start)


def adapo() -> Controller:
    return geometric.create(geometric.Config(target=1.0, factor=1.1, low=0.05, high=1.0), 0.28)


UP = [0.002, 0.004, 0.008, 0.016, 0.032, 0.05]
DOWN = [0.025, 0.0125, 0.00625, 0.003125, 0.0015625, 0.00078125, 0.000390625, 0.0001953125]


@pytest.mark.parametrize(
    ("start", "readings", "values"),
    [
        (1e-3, [0.2] * 6 + [0.4] * 11, [*UP, *DOWN, -0.0001, -0.0002, -0.0004]),
        (-1e-3, [0.4] * 6 + [0.2] * 11, [*(-v for v in UP), *(-v for v in DOWN), 0.0001, 0.0002, 0.0004]),
        (0.0, [0.2], [0.0001]),
        (0.0, [0.4], [-0.0001]),
        (1e-3, [0.3], [0.001]),
    ],
    ids=["up then down", "mirrored", "from 0 up", "from 0 down", "at the target"],
)
def test_section_8_2_geometric_signed(start: float, readings: list[float], values: list[float]) -> None:
    controller = signed(start)
    assert [controller.update(reading) for reading in readings] == pytest.approx(values)


def test_section_8_2_from_one_bound_to_the_other_takes_18_steps() -> None:
    controller = signed(0.05)
    steps = list(itertools.takewhile(lambda value: value > -0.05, iter(lambda: controller.update(1.0), None)))
    assert len(steps) + 1 == 18


def test_section_8_4_geometric() -> None:
    controller = adapo()
    values = [controller.update(reading) for reading in (0.8, 0.7, 1.1, 1.0)]
    assert values == pytest.approx([0.308, 0.3388, 0.308, 0.308])


@pytest.mark.parametrize("controller", [signed(1e-3), adapo()], ids=["geometric_signed", "geometric"])
@pytest.mark.parametrize("reading", [None, math.nan, math.inf])
def test_a_missing_reading_leaves_the_value(controller: Controller, reading: float | None) -> None:
    before = controller.value
    assert controller.update(reading) == before


def test_geometric_stays_in_its_bounds_and_says_so() -> None:
    controller = adapo()
    for _ in range(60):
        controller.update(0.1)
    assert controller.value == 1.0
    assert controller.is_at_bound
    for _ in range(60):
        controller.update(2.0)
    assert controller.value == 0.05


@pytest.mark.parametrize("make", [lambda: signed(1e-3), adapo], ids=["geometric_signed", "geometric"])
def test_a_saved_controller_goes_on_as_if_uninterrupted(make: Callable[[], Controller]) -> None:
    readings = [0.1, 0.2, 0.4, 1.2, 0.9, 1.1, 0.3]
    whole, first, second = make(), make(), make()
    expected = [whole.update(reading) for reading in readings]
    for reading in readings[:3]:
        first.update(reading)
    second.load_state(json.loads(json.dumps(first.state())))
    assert [second.update(reading) for reading in readings[3:]] == expected[3:]


@pytest.mark.parametrize("state", [{}, {"value": 1.0, "integral": 0.0}, {"value": math.nan}])
def test_a_state_that_does_not_fit_is_refused(state: dict[str, float]) -> None:
    with pytest.raises(ObjectiveError, match="saved"):
        adapo().load_state(state)


@pytest.mark.parametrize("controller", [signed(1e-3, 1.0), adapo()], ids=["geometric_signed", "geometric"])
def test_section_18_a_closed_loop_reaches_its_band_and_stays(controller: Controller) -> None:
    # Synthetic drift: entropy falls by itself and rises with the coefficient, relative to its bound.
    force = 0.05 if isinstance(controller, geometric_signed.GeometricSigned) else 1.0
    entropy, tail = 0.6, []
    for step in range(400):
        entropy = max(0.01, entropy + 0.02 * (controller.value / force - 0.2))
        controller.update(entropy)
        tail += [entropy] if step >= 200 else []
    assert 0.75 < min(tail) <= max(tail) < 1.35
