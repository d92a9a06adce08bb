"""Levels of arms: where they come from, and how they follow arms that come and go."""

import json

import numpy as np
import pytest

from orchestrator.bandits import easy_to_hard
from orchestrator.bandits.contracts import ArmInfo
from orchestrator.bandits.cumulative import Config, Cumulative


def bandit(arms, **options):
    return Cumulative(arms, np.random.default_rng(0), Config(**{"steps": 10, **options}))


def levels(one):
    return one.by_arm(one.level)


def test_without_anything_else_the_order_of_the_arms_counts():
    assert levels(bandit(["z", "a", "m"])) == {"z": 0, "a": 1, "m": 2}


def test_a_parameter_goes_before_the_order_and_an_option_before_both():
    one = bandit(["z", "a", "m"], levels={"m": 0.5})
    assert levels(one) == {"z": 0, "a": 1, "m": 0.5}
    one.introduce({"z": ArmInfo(None, {"level": 3.0}), "a": ArmInfo(None, {"level": 1.0}), "m": ArmInfo()})
    assert levels(one) == {"z": 3, "a": 1, "m": 0.5}


def test_some_with_a_parameter_and_some_without_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"a has no level, while z has a parameter `level`; name .* `levels`"):
        bandit(["z", "a"]).introduce({"z": ArmInfo(None, {"level": 3.0}), "a": ArmInfo()})


def test_an_arm_that_joins_has_its_level_or_comes_last():
    one = bandit(["z", "a"], levels={"b": 7.0})
    one.add("m", ArmInfo(None, {"level": 0.0}))
    one.add("b")
    one.add("c")
    assert levels(one) == {"z": 0, "a": 1, "m": 0, "b": 7, "c": 8}


def test_an_arm_that_was_told_of_before_it_joined_has_its_level():
    """After a fork: all arms are told of, the state has the old ones, and the others join."""
    old = bandit(["a"])
    old.introduce({"a": ArmInfo(None, {"level": 2.0})}, 10)
    one = bandit(["a", "b"])
    one.introduce({"a": ArmInfo(None, {"level": 2.0}), "b": ArmInfo(None, {"level": 1.0})}, 10)
    one.load_state(old.state())
    one.add("b")
    assert levels(one) == {"a": 2, "b": 1}


def test_an_arm_that_comes_back_has_the_level_it_had_and_a_new_one_comes_after_all():
    """From quarantine, also of a run that was resumed meanwhile: it came back as the hardest."""
    one, resumed = bandit(["easy", "mid", "hard"]), bandit(["easy", "mid", "hard"])
    one.retire("easy")
    one.retire("hard")
    resumed.load_state(json.loads(json.dumps(one.state())))
    for each in (one, resumed):
        each.add("new")
        each.add("hard")
        each.add("easy")
        assert levels(each) == {"easy": 0, "mid": 1, "hard": 2, "new": 3}
    assert resumed.state() == one.state()


def test_a_state_that_knows_of_no_retired_arms_is_read():
    one, old = bandit(["a", "b"]), bandit(["a", "b"])
    old.retire("a")
    one.load_state({name: value for name, value in old.state().items() if name != "retired"})
    one.add("a")
    assert levels(one) == {"a": 2, "b": 1}


def test_an_option_that_changed_goes_before_the_state():
    one = bandit(["a", "b"], levels={"a": 5.0})
    one.load_state(bandit(["a", "b"]).state())
    assert levels(one) == {"a": 5, "b": 1}


def test_equal_levels_are_one_rung_and_share_it_and_distances_mean_nothing():
    one = bandit(["a", "b", "c", "d"], levels={"a": 3.0, "b": 3.0, "c": 50.0, "d": -1.0})
    found, rung = one.rungs()
    assert (found.tolist(), rung.tolist()) == ([-1, 3, 50], [1, 1, 2, 0])
    assert one.spread(np.array([0.2, 0.6, 0.2]), rung).tolist() == pytest.approx([0.3, 0.3, 0.2, 0.2])


def test_the_schedule_is_as_long_as_the_option_says_or_else_the_run():
    one, other = bandit(["a", "b"], steps=None), bandit(["a", "b"], steps=4)
    for each in (one, other):
        each.introduce({}, 10)
    assert (one.steps, other.steps) == (10, 4)


def test_a_schedule_without_a_length_is_refused_at_the_first_pick():
    with pytest.raises(ValueError, match="give `steps`"):
        bandit(["a", "b"], steps=None).pick(1)


def test_after_the_schedule_its_end_stays():
    one = bandit(["a", "b", "c"], steps=3)
    stages = [(one.stage(3), one.progress, one.pick(1))[:2] for _ in range(5)]
    assert stages == [(0, 0.0), (1, 1 / 3), (2, 2 / 3), (2, 1.0), (2, 1.0)]


@pytest.mark.parametrize("retired", [False, True])
def test_a_level_that_a_fork_names_no_more_is_its_own_again(retired: bool) -> None:
    about = {"a": ArmInfo(), "b": ArmInfo(), "c": ArmInfo()}
    levels = {"a": 1.0, "b": 0.0}
    parent, fork = (
        easy_to_hard.create(easy_to_hard.Config(levels=one), list(about), np.random.default_rng(0))
        for one in (levels, {})
    )
    for one in (parent, fork):
        one.introduce(about, 10)
    if retired:
        parent.retire("a")
    fork.load_state(json.loads(json.dumps(parent.state())))
    if retired:
        fork.add("a")
    assert fork.by_arm(fork.level) == {"a": 0.0, "b": 1.0, "c": 2.0}
