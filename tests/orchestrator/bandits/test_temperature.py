"""Temperature by target entropy, section 3.9."""

import numpy as np
import pytest

from orchestrator.bandits.softmax import HIGHEST, LOWEST, softmax, temperature_of

VALUES = np.array([0.87, 0.71, 0.39, 0.07])


def effective(values, temperature):
    p = softmax(values / temperature)
    p = p[p > 0]
    return np.exp(-(p * np.log(p)).sum())


@pytest.mark.parametrize("temperature", [1.0, 0.4, 0.2, 0.1])
def test_the_temperature_of_an_effective_number_is_found_again(temperature):
    assert temperature_of(VALUES, effective(VALUES, temperature)) == pytest.approx(temperature, rel=1e-9)


@pytest.mark.parametrize("wanted", [1.05, 1.5, 2.0, 3.9])
@pytest.mark.parametrize("unit", [0.01, 1.0, 30.0])
def test_the_wanted_number_of_arms_whatever_the_unit(wanted, unit):
    values = VALUES * unit + 5.0
    temperature = temperature_of(values, wanted)
    assert effective(values, temperature) == pytest.approx(wanted, rel=1e-8)
    assert temperature == pytest.approx(unit * temperature_of(VALUES, wanted), rel=1e-8)


def test_what_no_temperature_gives_is_given_by_an_end():
    tied = np.array([0.5, 0.5, 0.1])
    assert effective(tied, temperature_of(tied, 1.5)) == pytest.approx(2.0)  # two tie for the highest
    assert temperature_of(tied, 1.5) == pytest.approx(LOWEST)
    assert temperature_of(VALUES, 4.0) == pytest.approx(HIGHEST)
    assert temperature_of(VALUES, 0.2) == pytest.approx(temperature_of(VALUES, 1.0))  # fewer than one arm is one
    equal = np.full(5, 0.3)
    assert softmax(equal / temperature_of(equal, 2.0)) == pytest.approx([0.2] * 5)
    assert np.isfinite(temperature_of(np.array([0.3]), 1.0))
