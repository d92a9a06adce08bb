"""BOTS in place: the choice among all tasks, with reference pass rates."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.selections.bots import Bots, Config, create
from orchestrator.selections.contracts import TaskResult
from orchestrator.selections.testing import play


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def with_references(num_tasks: int) -> Bots:
    """Some tasks have no weak reference, and for some the policy will be beyond the strong one."""
    weak, gap = rng(1).random((2, num_tasks)) / 2
    weak[::7] = np.nan
    return create(Config(weak="w", strong="s"), num_tasks, rng(), {"weak": weak, "strong": weak + gap})


def test_those_expected_nearest_to_the_target_are_taken() -> None:
    made = with_references(200)
    for _ in range(20):
        a, b = made.posterior()
        distances = np.abs(a / (a + b) - 0.5)
        chosen = play(made, 9, lambda at: at % 3 / 2)
        assert np.sort(distances[chosen]) == pytest.approx(np.sort(distances)[:9], abs=1e-12)


def test_asking_what_is_expected_gives_numbers_that_stay() -> None:
    made = with_references(50)
    expected = made.expected()
    kept = expected.copy()
    play(made, 9)
    assert expected.tolist() == kept.tolist()
    a, b = made.posterior()
    assert np.allclose(made.expected(), a / (a + b), rtol=1e-12)
    assert made.expected(np.array([3, 7])).tolist() == made.expected()[[3, 7]].tolist()


def test_a_task_that_passes_half_the_time_is_level_with_one_never_played() -> None:
    """Exactly, whatever has faded since: chance decides between them."""
    made = create(Config(forget=0.07), 4, rng())
    for step in range(40):
        made.learn([TaskResult(step % 3, step, 0.5, 8)])
        assert made.expected().tolist() == [0.5] * 4


def test_a_policy_beyond_the_strong_reference_makes_no_task_more_than_certain() -> None:
    made = with_references(60)
    for _ in range(5):
        play(made, 9, lambda at: 1.0)
    assert made.ability is not None
    assert made.ability > 1.5
    assert min(belief.min() for belief in made.posterior()) >= 1
