"""Ladders against the worked numbers of the curricula reference, section 4.8."""

import json

import numpy as np
import pytest

from orchestrator.bandits.contracts import ArmInfo, Bandit, Feedback
from orchestrator.bandits.ladder import Config, create
from orchestrator.bandits.testing import BanditSuite
from tests.orchestrator.bandits.steps import seen


class LadderSuite(BanditSuite):
    in_order = True

    def teach(self, bandit: Bandit, best: str) -> None:
        """All goes wrong while the easiest is best, and right when the hardest is."""
        bandit.learn([Feedback(pick, 0.1, score=float(best == "d")) for pick in bandit.pick(16)])


class TestLadderOfRlve(LadderSuite):
    def make(self, arms, rng):
        return create(Config(window=1), arms, rng)


class TestLadderOfReasoningGym(LadderSuite):
    def make(self, arms, rng):
        return create(Config(rule="reasoning_gym"), arms, rng)


def ladder(num_levels=8, highest=0, **options):
    one = create(Config(**options), [str(k) for k in range(num_levels)], np.random.default_rng(0))
    one.highest = float(highest)
    return one


def open_levels(one):
    return [int(arm) for arm, p in one.probabilities().items() if p > 0]


def observed(one, *told):
    """h after steps of (level, mean score, number of groups)."""
    for step, (level, score, num_groups) in enumerate(told):
        one.observe(seen({level: 0.1}, step=step, num_groups=num_groups, score={level: score}))
    return one.highest


@pytest.mark.parametrize(("highest", "levels"), [(6, [3, 4, 5, 6]), (1, [0, 1]), (0, [0]), (3, [0, 1, 2, 3])])
def test_levels_picked_from(highest, levels):
    one = ladder(highest=highest)
    assert open_levels(one) == levels
    assert max(one.probabilities().values()) == pytest.approx(1 / len(levels))


SECTION_4_8_RLVE = [
    ("enough and good", 1, [(0, 0.9, 8)]),
    ("not enough yet", 0, [(0, 1.0, 7)]),
    ("together enough", 1, [(0, 0.85, 4), (0, 0.95, 4)]),
    ("enough, not good enough", 0, [(0, 0.89, 8)]),
    ("the count begins anew", 0, [(0, 0.0, 8), (0, 1.0, 7)]),
    ("one rise a judgement", 1, [(0, 1.0, 64)]),
    ("only the highest level counts", 1, [(0, 1.0, 8), (0, 1.0, 8)]),
    ("it never falls", 1, [(0, 1.0, 8), (1, 0.0, 64)]),
]


@pytest.mark.parametrize(("case", "highest", "told"), SECTION_4_8_RLVE)
def test_rlve_climbs(case, highest, told):
    assert observed(ladder(), *told) == highest


SECTION_4_8_REASONING_GYM = [
    ("above .7 it rises", 3, [(2, 0.75, 20)]),
    ("at .7 it stays", 2, [(2, 0.7, 20)]),
    ("below .1 it falls", 1, [(2, 0.05, 20)]),
    ("at .1 it stays", 2, [(2, 0.1, 20)]),
    ("twenty are needed", 2, [(2, 1.0, 19)]),
    ("the last twenty count", 3, [(2, 0.5, 20), (2, 0.8, 15)]),  # (5 * .5 + 15 * .8) / 20 = .725
    ("the last twenty, not all", 2, [(2, 0.5, 20), (2, 0.8, 13)]),  # .695
    ("after a change it counts anew", 3, [(2, 1.0, 20), (3, 1.0, 19)]),
]


@pytest.mark.parametrize(("case", "highest", "told"), SECTION_4_8_REASONING_GYM)
def test_reasoning_gym_climbs_and_falls(case, highest, told):
    one = ladder(highest=2, rule="reasoning_gym")
    assert open_levels(one) == [2]
    assert observed(one, *told) == highest


def test_the_ladder_ends_at_its_ends():
    assert observed(ladder(2), (0, 1.0, 8), (1, 1.0, 8), (1, 1.0, 8)) == 1
    assert observed(ladder(2, rule="reasoning_gym"), (0, 0.0, 20), (0, 0.0, 20)) == 0


def test_a_group_without_a_score_is_not_counted():
    one = ladder()
    one.observe(seen({0: 0.5}, num_groups=64))
    assert (one.highest, one.counted) == (0, [])


def test_levels_may_be_any_numbers_and_have_several_arms():
    one = create(Config(levels={"a": 3.0, "b": 3.0, "c": 7.5}), ["c", "a", "b"], np.random.default_rng(0))
    assert one.probabilities() == {"a": 0.5, "b": 0.5, "c": 0.0}
    one.observe(seen({0: 0.1, 1: 0.1}, num_groups=4, score={0: 0.9, 1: 1.0}))
    assert one.probabilities() == {"a": 0.25, "b": 0.25, "c": 0.5}


def test_the_easiest_level_is_known_when_the_arms_are_introduced():
    one = create(Config(), ["a", "b"], np.random.default_rng(0))
    one.introduce({"a": ArmInfo(None, {"level": 9.0}), "b": ArmInfo(None, {"level": 4.0})})
    assert one.probabilities() == {"a": 0.0, "b": 1.0}


def test_an_arm_that_joins_takes_its_place_on_the_ladder():
    one = create(Config(window=1, levels={"b": 1.0}), ["a", "c"], np.random.default_rng(0))
    one.introduce({"a": ArmInfo(None, {"level": 0.0}), "c": ArmInfo(None, {"level": 2.0})})
    one.add("b")
    observed(one, (0, 1.0, 8))
    assert one.probabilities() == {"a": 0.0, "b": 1.0, "c": 0.0}


def test_where_the_highest_level_is_retired_the_next_lower_one_is_it():
    one = ladder(4, highest=2, window=1)
    one.retire("2")
    assert open_levels(one) == [1]
    one.retire("0")
    assert open_levels(one) == [1]


def test_what_was_counted_survives_json():
    one, copy = ladder(), ladder()
    observed(one, (0, 1.0, 7))
    copy.load_state(json.loads(json.dumps(one.state())))
    assert observed(copy, (0, 1.0, 1)) == 1
