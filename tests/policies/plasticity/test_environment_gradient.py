"""The policy gradient of one environment, and what its parts say of the noise in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from policies.micro_batches import ForwardPasses
from policies.objectives.contracts import Trajectory
from policies.objectives.padding import pad
from policies.plasticity.gradients import EnvironmentGradient, environment_gradient, with_advantages
from policies.samplers.testing import random_policy

IDS, MASK = np.array([3, 4, 5, 6]), np.array([False, False, True, True])
OTHER = np.array([3, 4, 7, 8])


def found(*groups: tuple[str, Sequence[float]]) -> EnvironmentGradient:
    """The gradient of groups of two answers, always the same, with these categories and rewards."""
    policy = random_policy()
    policy.model.double()
    rows = [
        Trajectory(ids, MASK, np.zeros(4, np.float32), None, reward, number, arm=f"words/{category}")
        for number, (category, rewards) in enumerate(groups)
        for ids, reward in zip((IDS, OTHER), rewards, strict=True)
    ]
    gradient = environment_gradient(ForwardPasses(policy, 1.0, 256, False), with_advantages(pad(rows)))
    assert gradient is not None
    return gradient


def test_halves_have_the_same_categories_even_where_these_come_in_turn() -> None:
    mixed = found(*[("a", (2, 0)), ("b", (0, 1))] * 4)
    assert mixed.split_half == pytest.approx(1)
    assert mixed.noise == pytest.approx(0, abs=1e-9)
    uneven = found(*[("a", (2, 0)), ("b", (0, 1))] * 3)
    assert uneven.split_half == pytest.approx(1), "two of each, and one of each"
    assert uneven.noise is None, "and nothing in the fourth part"


def test_categories_with_one_task_are_halved_together() -> None:
    assert found(*[(str(number), (1.0, 0.0)) for number in range(8)]).split_half == pytest.approx(1)


@pytest.mark.parametrize("num", [4, 5, 10])
def test_parts_of_unequal_size_are_no_noise(num: int) -> None:
    same = found(*[("a", (1.0, 0.0))] * num)
    assert same.noise == pytest.approx(0, abs=1e-9)
    assert same.num_rows == 2 * num


def test_noise_is_known_only_where_all_parts_have_something() -> None:
    assert found(*[("a", (1.0, 0.0))] * 3).noise is None
    flat = found(("a", (1.0, 0.0)), *[("a", (1.0, 1.0))] * 3)
    assert flat.noise == pytest.approx(4), "groups without spread are parts too, with a gradient of 0"
    assert flat.num_rows == 2, "and nothing of them is read"


def test_the_gradient_is_the_whole_batch_s() -> None:
    one, many = found(("a", (1.0, 0.0))), found(*[("a", (1.0, 0.0))] * 5)
    assert many.norm == pytest.approx(one.norm)
    torch.testing.assert_close(many.sketch_D, one.sketch_D, rtol=1e-3, atol=1e-5)
