"""Off-policy estimates against what is known: by hand, and over many seeds."""

from dataclasses import astuple

import numpy as np
import pytest

from orchestrator.simulation.estimates import SLOT, estimate, within


def slots(*rows):
    """Slots from (step, reward, weight)."""
    return np.array(list(rows), SLOT)


def test_the_formulas_by_hand():
    found = estimate(slots((1, 1.0, 2.0), (1, 0.0, 0.5), (2, 1.0, 0.5), (2, 0.5, 1.0)))
    assert found.own.value == pytest.approx(2.5 / 4)
    assert found.ips.value == pytest.approx((2.0 + 0.5 + 0.5) / 4)
    assert found.snips.value == pytest.approx(3.0 / 4.0)
    assert found.snips_difference.value == pytest.approx(0.75 - 0.625)
    assert found.effective_slots == pytest.approx(16 / 5.5)
    assert (found.mean_weight, found.largest_weight, found.num_steps) == (1.0, 2.0, 2)


def test_weights_of_one_are_the_mean_itself_and_its_error_that_of_step_means():
    rng = np.random.Generator(np.random.PCG64(0))
    rewards = rng.random((12, 5))
    found = estimate(slots(*((t, reward, 1.0) for t in range(12) for reward in rewards[t])))
    assert found.ips == found.snips == found.own
    assert found.ips_difference.value == found.snips_difference.value == 0.0
    assert found.own.stderr == pytest.approx(rewards.mean(axis=1).std(ddof=1) / np.sqrt(12))
    assert found.effective_share == 1.0


def test_slots_of_a_step_are_one_observation():
    few = slots(*((t, float(t % 2), 1.0) for t in range(10)))
    many = slots(*((t, float(t % 2), 1.0) for t in range(10) for _ in range(50)))
    assert astuple(estimate(many).own) == pytest.approx(astuple(estimate(few).own))


def test_few_steps_have_no_interval():
    found = estimate(slots(*((t, 0.5, 1.0) for t in range(4))))
    assert (found.own.value, found.own.stderr, found.own.low) == (0.5, None, None)


def test_nothing_in_common_is_said_and_not_divided_by():
    found = estimate(slots(*((t, 0.5, 0.0) for t in range(8))))
    assert (found.snips, found.ips.value, found.effective_slots, found.is_reliable) == (None, 0.0, 0.0, False)
    assert estimate(within(slots((1, 1.0, 1.0)), 2, 3)) is None


def test_weights_on_few_slots_are_not_to_be_relied_on():
    weights = [30.0, *[0.01] * 39]
    found = estimate(slots(*((t, 0.5, w) for t, w in enumerate(weights))))
    assert found.effective_share < 0.1
    assert not found.is_reliable
