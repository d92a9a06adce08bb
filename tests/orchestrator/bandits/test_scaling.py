"""Rewards between the quantiles of their history, section 3.9."""

import json

import numpy as np
import pytest

from orchestrator.bandits.signal import LEAST_SHARE, QuantileScale


def test_the_20_and_80_percent_quantiles_become_0_and_1():
    scale = QuantileScale()
    scale.add(np.arange(101) / 100)
    assert (scale.low, scale.high) == pytest.approx((0.2, 0.8))
    assert scale.scale([0.0, 0.2, 0.5, 0.65, 0.8, 1.0]) == pytest.approx([0, 0, 0.5, 0.75, 1, 1])


def test_the_unit_of_the_rewards_does_not_matter():
    rewards = np.random.default_rng(0).random(300)
    one, other = QuantileScale(), QuantileScale()
    one.add(rewards)
    other.add(1000 * rewards - 7)
    assert other.scale(1000 * rewards - 7) == pytest.approx(one.scale(rewards))


def test_the_history_is_the_last_values():
    scale = QuantileScale(history=4)
    scale.add([9.0, 8.0, 1.0, 2.0])
    scale.add([3.0, 4.0])
    assert (scale.low, scale.high) == pytest.approx(tuple(np.quantile([1, 2, 3, 4], [0.2, 0.8])))
    assert scale.state()["values"] == [1, 2, 3, 4]


def test_one_value_again_and_again_freezes_the_range():
    scale = QuantileScale(history=100)
    scale.add(np.arange(101) / 100)
    before = (scale.low, scale.high)
    scale.add([0.0] * 100)
    scale.add([1e-7, 0.0] * 50)  # less than 1e-6 apart
    assert (scale.low, scale.high) == before
    assert scale.scale([0.0]) == 0.0


def test_a_range_never_shrinks_to_noise():
    scale = QuantileScale(history=50)
    scale.add(np.linspace(0, 1, 51))
    widest = scale.high - scale.low
    scale.add(0.5 + 1e-4 * np.linspace(-1, 1, 50))
    assert scale.high - scale.low == pytest.approx(LEAST_SHARE * widest)
    assert scale.scale([0.4999, 0.5, 0.5001]) == pytest.approx([0.5, 0.5, 0.5], abs=2e-3)


def test_before_there_is_any_spread_the_only_value_is_the_lowest():
    scale = QuantileScale()
    assert not scale.is_known
    scale.add([0.0] * 10)
    assert not scale.is_known
    assert scale.scale([0.0, 0.3]).tolist() == [0.0, 1.0]  # an impossible environment is worth nothing
    scale.add([])
    scale.add([0.3] * 10)
    assert scale.is_known
    assert scale.scale([0.0, 0.15, 0.3]) == pytest.approx([0, 0.5, 1])


def test_its_state_survives_json():
    scale, copy = QuantileScale(), QuantileScale()
    scale.add(np.random.default_rng(0).random(1200))
    copy.load_state(json.loads(json.dumps(scale.state())))
    for one in (scale, copy):
        one.add([0.5, 0.9])
    assert scale.state() == copy.state()
    assert len(copy.state()["values"]) == 1000
