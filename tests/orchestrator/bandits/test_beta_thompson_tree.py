"""Beta Thompson sampling at the nodes of a tree: exact probabilities, and neighbours that learn from each other."""

from __future__ import annotations

import json

import numpy as np
import pytest

from orchestrator.bandits import beta_thompson
from orchestrator.bandits.beta_thompson_tree import BetaThompsonTree, Config, create, way_to
from orchestrator.bandits.contracts import ArmInfo
from orchestrator.bandits.testing import BanditSuite
from tests.orchestrator.bandits.steps import seen

TREE = {"a": (0, 0), "b": (0, 1), "c": (1, 0), "d": (1, 1)}


def about(ways: dict[str, tuple[int, ...]]) -> dict[str, ArmInfo]:
    return {
        arm: ArmInfo.of(10, {f"node_{depth}": branch for depth, branch in enumerate(way)}) for arm, way in ways.items()
    }


def tree(ways: dict[str, tuple[int, ...]] = TREE, discount: float = 1.0, seed: int = 0) -> BetaThompsonTree:
    made = create(Config(discount=discount), list(ways), np.random.default_rng(seed))
    made.introduce(about(ways))
    return made


class TestBetaThompsonTree(BanditSuite):
    keeps_ratios = False

    def make(self, arms, rng):
        made = create(Config(), arms, rng)
        made.introduce(about({arm: TREE[arm] for arm in arms}))
        return made


class TestWithoutATree(BanditSuite):
    keeps_ratios = False

    def make(self, arms, rng):
        return create(Config(), arms, rng)


def test_without_a_tree_it_is_beta_thompson() -> None:
    flat = beta_thompson.create(beta_thompson.Config(), "abc", np.random.default_rng(0))
    made = create(Config(), "abc", np.random.default_rng(0))
    for one in (flat, made):
        one.observe(seen({0: 0.7, 2: 0.1}, num_groups=6))
    assert made.preferences() == pytest.approx(flat.preferences())


def test_the_probability_is_that_of_drawing_betas_at_every_node() -> None:
    made = tree()
    made.observe(seen({0: 0.8, 1: 0.2, 2: 0.5}, num_groups=4))
    rng, num = np.random.default_rng(0), 200_000

    def goes_left(left: tuple[float, float], right: tuple[float, float]) -> np.ndarray:
        return rng.beta(1 + left[0], 1 + left[1], num) > rng.beta(1 + right[0], 1 + right[1], num)

    s, f = made.total, made.weight - made.total
    at_root = goes_left((s[0] + s[1], f[0] + f[1]), (s[2] + s[3], f[2] + f[3]))
    below_left, below_right = goes_left((s[0], f[0]), (s[1], f[1])), goes_left((s[2], f[2]), (s[3], f[3]))
    drawn = np.where(at_root, np.where(below_left, 0, 1), np.where(below_right, 2, 3))
    assert made.preferences() == pytest.approx(np.bincount(drawn, minlength=4) / num, abs=0.005)


def test_what_an_arm_earns_makes_its_neighbours_likelier() -> None:
    made = tree()
    before = made.preferences()
    made.observe(seen({0: 1.0}, num_groups=10))
    after = made.preferences()
    assert before == pytest.approx([0.25] * 4)
    assert after[1] / (after[1] + after[2] + after[3]) < 0.5, "within its node it loses to its sibling"
    assert after[0] + after[1] > 0.8
    assert after[2] == pytest.approx(after[3])


def test_unequal_depths_and_single_children_are_no_choice() -> None:
    made = tree({"a": (0, 0, 0), "b": (0, 0, 1), "c": (1,)})
    assert made.preferences() == pytest.approx([0.25, 0.25, 0.5])


def test_names_are_paths_and_come_before_the_nodes() -> None:
    assert way_to("words/slice-0.1", {"node_0": 0, "node_1": 1}) == ("words", "0", "1")
    assert way_to("words/short", {}) == ("words", "short")
    assert way_to("short", {"size": 3}) == ("short",)
    made = create(Config(), ["a/x", "a/y", "b/z"], np.random.default_rng(0))
    assert made.preferences() == pytest.approx([0.25, 0.25, 0.5])


def test_the_tree_is_part_of_the_state() -> None:
    made, fresh = tree(), create(Config(discount=1.0), list(TREE), np.random.default_rng(1))
    made.observe(seen({0: 1.0}, num_groups=10))
    fresh.load_state(json.loads(json.dumps(made.state())))
    assert fresh.probabilities() == made.probabilities()
    made.add("e", about({"e": (0, 1, 1)})["e"])
    assert made.ways["e"] == ("0", "1", "1")


def test_of_many_arms_the_state_keeps_only_ways_that_are_not_in_their_names() -> None:
    made = create(Config(), ["a/x", "a/y", "b"], np.random.default_rng(0))
    made.introduce({"b": ArmInfo(None, {"node_0": 2.0, "node_1": 1.0})})
    made.add("c", ArmInfo(None, {"node_0": 2.0}))
    made.add("gone", ArmInfo(None, {"node_0": 3.0}))
    made.retire("gone")
    made.as_arrays = True
    state = made.state()
    assert (state["placed"].tolist(), state["nodes"], state["way_lengths"].tolist()) == ([2, 3], ["2", "1"], [2, 1])
    fresh = create(Config(), ["a/x", "b"], np.random.default_rng(1))
    fresh.introduce({"a/x": ArmInfo(None, {"node_0": 7.0})})
    fresh.load_state(state)
    assert fresh.ways == {"a/x": ("a", "x"), "a/y": ("a", "y"), "b": ("2", "1"), "c": ("2",)}
    fresh.as_arrays = made.as_arrays = False
    assert fresh.state() == made.state()
    made.load_state(json.loads(json.dumps(fresh.state())))
    made.as_arrays = True
    assert made.state()["placed"].tolist() == [2, 3]


def test_a_reward_that_is_no_share_of_a_success_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rewards in \[0, 1\]"):
        tree().observe(seen({0: 1.2}))
