"""Worked facts of the skill model: curricula reference, section 8.1; the table of signals, section 1."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.random import default_rng

from orchestrator.bandits.contracts import Signal
from orchestrator.simulation.skills import (
    BATCH,
    DIFFICULTY,
    IMPOSSIBLE,
    NOISE,
    Skills,
    about_arms,
    arm_names,
    transfer,
)
from orchestrator.simulation.trials import signal_table


def test_difficulty_rises_by_type_and_level() -> None:
    assert DIFFICULTY.tolist() == [0, 1.5, 3, 4.5, 0.5, 2, 3.5, 5, 1, 2.5, 4, 5.5]


@pytest.mark.parametrize(
    ("skill", "row"),
    [
        (0, [1, 0.3, 0.09, 0.027, 0, 0, 0, 0, 0, 0, 0, 0]),
        (3, [0.008, 0.04, 0.2, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
        (6, [0, 0, 0, 0, 0.04, 0.2, 1, 0.3, 0, 0, 0, 0]),
    ],
)
def test_practice_reaches_harder_skills_more_than_easier_ones_and_no_other_type(skill: int, row: list[float]) -> None:
    assert transfer()[skill] == pytest.approx(row)


def test_pass_rates_are_logistic() -> None:
    rates = Skills(default_rng(0)).pass_rates()
    assert rates[:2] == pytest.approx([0.5, 1 / (1 + math.exp(1.5))])


def test_learning_is_half_of_practice_times_transfer() -> None:
    world = Skills(default_rng(1), forgetting=0)
    p = world.play(np.full(BATCH, 1)) / 8
    assert world.skills == pytest.approx(0.5 * np.mean(4 * p * (1 - p)) * transfer()[1])


@pytest.mark.parametrize(
    ("num_groups", "left"),
    [(0, 1 - 0.005), (1, 1 - 0.005 * (1 - (1 / 64) / (0.5 / 12))), (3, 1.0), (64, 1.0)],
)
def test_a_skill_is_forgotten_as_far_as_it_is_not_used(num_groups: int, left: float) -> None:
    unsolvable = np.full(12, 500.0)  # nothing is solved, so nothing is learnt
    world = Skills(default_rng(0), skills=np.ones(12), difficulty=unsolvable)
    world.play(np.array([5] * num_groups + [IMPOSSIBLE] * (BATCH - num_groups)))
    assert world.skills[5] == pytest.approx(left)


def test_traps_teach_nothing() -> None:
    world = Skills(default_rng(0), forgetting=0)
    solved = world.play(np.array([NOISE] * 32 + [IMPOSSIBLE] * 32))
    assert not solved[32:].any()
    assert 2.5 < solved[:32].mean() < 5.5
    assert not world.skills.any()


def test_a_group_comes_back_at_the_place_of_its_slot() -> None:
    places = np.array([IMPOSSIBLE, 0] * 32)
    world = Skills(default_rng(0), skills=np.full(12, 50.0))
    assert world.play(places).tolist() == [0, 8] * 32


def test_arms_are_told_with_type_and_level() -> None:
    about = about_arms(has_traps=True)
    assert list(about) == arm_names(has_traps=True)
    assert about["type2.level1"].features == {"level": 1.0, "type": 2.0}
    assert about["trap.noise"].features == about["trap.impossible"].features == {"level": 0.0, "type": 3.0}


@pytest.mark.parametrize(("form", "of_two"), [("raw", 0.375), ("leave_one_out", 0.428571), ("standardised", 0.810091)])
def test_groups_are_worth_what_section_1_says(form: Signal, of_two: float) -> None:
    table = signal_table(form)
    assert table[2] == pytest.approx(of_two, abs=2e-6)
    assert table == pytest.approx(table[::-1])
    assert table[0] == 0
