"""Discounted LinUCB, against the curricula reference, section 3.8."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from orchestrator.bandits.contracts import ArmInfo
from orchestrator.bandits.index_rule import fill
from orchestrator.bandits.linucb import LEVEL, Config, LinUcb, Widths, create
from orchestrator.bandits.testing import ARMS, BanditSuite
from tests.orchestrator.bandits.steps import seen

UNIT = {"level": (0.0, 1.0)}


class OneHot(LinUcb):
    """Every arm has a feature of its own; those of the arm `e`, which the suite adds without any, are filled in."""

    def add(self, arm: str, about: ArmInfo | None = None) -> None:
        super().add(arm, about or ArmInfo(features=own(arm)))


def own(arm: str) -> dict[str, float]:
    return {name: float(name == arm) for name in (*ARMS, "e")}


class TestLinUcb(BanditSuite):
    in_turn = True
    keeps_ratios = False

    def make(self, arms, rng):
        made = OneHot(arms, rng, Config(alpha=0.2, ranges={"e": (0.0, 1.0)}))
        made.introduce({arm: ArmInfo(features=own(arm)) for arm in arms}, 100)
        return made


class TestLinUcbWithFloor(TestLinUcb):
    floor = 0.2

    def make(self, arms, rng):
        made = OneHot(arms, rng, Config(alpha=0.1, floor=0.2))
        made.introduce({arm: ArmInfo(features=own(arm)) for arm in arms}, 100)
        return made


def levels(*values: float, floor: float = 0.0, **options: object) -> LinUcb:
    """One arm for every value of the feature `level`, by default on the range 0 to 1."""
    arms = [f"{k}" for k in range(len(values))]
    made = create(Config(floor=floor, **{"ranges": UNIT, **options}), arms, np.random.default_rng(0))
    made.introduce({arm: ArmInfo(features={"level": v}) for arm, v in zip(arms, values, strict=True)}, 10)
    return made


def test_the_index_of_a_worked_example() -> None:
    """x = (1, .5) is the constant and a level of .5; x = (1, 0) an arm that was never seen."""
    made = levels(0.5, 0.0, alpha=1.0, discount=1.0)
    made.observe(seen({0: 0.8}))
    theta, inverse = made.estimate()
    x = np.array([1.0, 0.0])
    assert theta == pytest.approx([0.355556, 0.177778], abs=1e-6)
    assert made.values()["1"] == pytest.approx(0.355556, abs=1e-6)
    assert math.sqrt(x @ inverse @ x) == pytest.approx(0.745356, abs=1e-6)
    assert made.index()[1] == pytest.approx(1.100912, abs=1e-6)


def test_a_and_b_are_discounted() -> None:
    """A <- g A + (1 - g) lambda I + x x', b <- g b + r x, also over steps that nothing was heard of."""
    made = levels(0.5, 0.0, discount=0.8, ridge=2.0)
    a, b, x = 2 * np.eye(2), np.zeros(2), np.array([1.0, 0.5])
    for step in range(6):
        a, b = 0.8 * a + 0.4 * np.eye(2), 0.8 * b
        if step in (1, 5):
            a, b = a + 16 * np.outer(x, x), b + 16 * 0.3 * x
            made.observe(seen({0: 0.3}, step=step, num_groups=16))
    assert made.a == pytest.approx(a)
    assert made.b == pytest.approx(b)


def test_late_feedback_has_the_age_of_its_step() -> None:
    early, late = levels(0.5, 0.0), levels(0.5, 0.0)
    for made, order in ((early, (0, 3)), (late, (3, 0))):
        for step in order:
            made.observe(seen({step % 2: 0.4}, step=step))
    assert late.a == pytest.approx(early.a)
    assert late.b == pytest.approx(early.b)


def test_features_are_scaled_to_the_arms_known_at_the_start() -> None:
    made = levels(10.0, 30.0, 20.0, ranges={})
    assert made.x.tolist() == [[1.0, 0.0], [1.0, 1.0], [1.0, 0.5]]
    made.add("harder", ArmInfo(features={"level": 40.0, "colour": 3.0}))
    assert made.x.tolist()[3] == [1.0, 1.5]
    assert levels(7.0, 7.0, ranges={}).x.tolist() == [[1.0, 0.0], [1.0, 0.0]], "the same of all tells nothing"


def test_an_arm_made_while_the_run_goes_on_is_estimated_at_once() -> None:
    made = levels(0.0, 0.25, 0.5, discount=1.0, alpha=0.1)
    for step in range(40):
        made.observe(seen({0: 0.0, 1: 0.1, 2: 0.2}, step=step, num_groups=16))
    made.add("new", ArmInfo(features={"level": 1.0}))
    assert made.values()["new"] == pytest.approx(0.4, abs=0.01)
    assert made.probabilities()["new"] == 1.0
    assert made.pick(4)[0].arm == "new"


def test_a_slot_narrows_the_arms_like_it() -> None:
    made = levels(0.0, 0.05, 1.0, alpha=1.0)
    mean, a = np.zeros(3), made.a.copy()
    for pick in made.pick(40):
        index = mean + np.sqrt(np.einsum("kd,de,ke->k", made.x, np.linalg.inv(a), made.x))
        assert index[int(pick.arm)] == pytest.approx(index.max(), abs=1e-9)
        a += np.outer(made.x[int(pick.arm)], made.x[int(pick.arm)])
    picked = made.num_picks
    assert abs(picked["2"] - picked["0"] - picked["1"]) <= 2, "two that are alike share what one gets that is not"


class Written:
    """The board as the rule is written: every arm is looked at for every slot."""

    def __init__(self, x, mean, inverse, alpha):
        self.x, self.mean, self.a, self.alpha = x, mean, np.linalg.inv(inverse), alpha

    def best(self):
        squared = np.einsum("kd,de,ke->k", self.x, np.linalg.inv(self.a), self.x)
        index = self.mean + self.alpha * np.sqrt(squared)
        return np.flatnonzero(index >= index.max() - LEVEL).tolist()

    def give(self, arm):
        self.a += np.outer(self.x[arm], self.x[arm])


def arms_of(kind: str, num_arms: int, chance: np.random.Generator) -> np.ndarray:
    """Features of arms, the constant first."""
    features = chance.random((num_arms, 3))
    if kind == "few different":
        features = features[chance.integers(min(4, num_arms), size=num_arms)]
    elif kind == "all but equal":
        features = features[chance.integers(min(4, num_arms), size=num_arms)] + 1e-5 * chance.random((num_arms, 3))
    return np.hstack([np.ones((num_arms, 1)), features])


@pytest.mark.parametrize("kind", ["different", "few different", "all but equal"])
@pytest.mark.parametrize("num_arms", [1, 7, 200])
@pytest.mark.parametrize(("alpha", "floor"), [(0.5, 0.0), (0.05, 0.3), (0.0, 0.0), (0.0, 0.2)])
@pytest.mark.parametrize("seen_slots", [0, 2000])
def test_leaving_out_arms_that_cannot_win_changes_nothing(
    kind: str, num_arms: int, alpha: float, floor: float, seen_slots: int
) -> None:
    """Nor do the shortcuts: picks and chances are those of the rule as it is written."""
    chance = np.random.default_rng(num_arms)
    x = arms_of(kind, num_arms, chance)
    played = x[chance.integers(num_arms, size=seen_slots)]
    inverse = np.linalg.inv(np.eye(4) + played.T @ played)
    mean = x @ np.array([0.2, 0.1, -0.1, 0.05])
    for n in (1, 60):
        boards = Widths(x, mean, inverse, alpha, n), Written(x, mean, inverse, alpha)
        found, wanted = (fill(board, n, num_arms, floor, np.random.default_rng(3)) for board in boards)
        assert found[0].tolist() == wanted[0].tolist()
        assert found[1].tolist() == wanted[1].tolist()


def test_most_arms_cannot_win_where_means_differ_more_than_widths() -> None:
    chance = np.random.default_rng(2)
    x = arms_of("different", 500, chance)
    board = Widths(x, x @ np.array([0.0, 1.0, 0.0, 0.0]), np.eye(4) / 1e4, 0.5, 64)
    assert len(board._on) < 50


def test_arms_with_equal_features_are_level() -> None:
    made = levels(*[0.3] * 7, 0.1)
    made.observe(seen({0: 0.7, 7: 0.1}, num_groups=8))
    assert made.preferences() == pytest.approx([1 / 7] * 7 + [0.0])


def test_without_features_it_refuses() -> None:
    made = create(Config(), ["a", "b"], np.random.default_rng(0))
    assert made.values() == {"a": None, "b": None}
    with pytest.raises(ValueError, match="none are known: give the categories parameters"):
        made.pick(2)
    with pytest.raises(ValueError, match="none are known"):
        made.introduce({"a": ArmInfo(size=3), "b": ArmInfo()}, 10)


def test_every_arm_needs_every_feature() -> None:
    made = create(Config(), ["a", "b"], np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"arm 'b' has no finite number for \['level'\]"):
        made.introduce({"a": ArmInfo(features={"level": 1.0}), "b": ArmInfo()}, 10)
    with pytest.raises(ValueError, match="arm 'new' has no finite number"):
        levels(0.1, 0.2).add("new")
    with pytest.raises(ValueError, match=r"ranges names \['size'\]; the features of the arms are \['level'\]"):
        levels(0.1, 0.2, ranges={"size": (0.0, 1.0)})


def test_its_state_needs_no_introduction() -> None:
    made = levels(0.1, 0.9)
    made.add("new", ArmInfo(features={"level": 0.4}))
    made.observe(seen({0: 0.5, 2: 0.2}))
    copy = create(Config(ranges=UNIT), ["0", "1"], np.random.default_rng(5))
    copy.load_state(json.loads(json.dumps(made.state())))
    assert copy.state() == made.state()
    copy.add("newer", ArmInfo(features={"level": 0.5}))
    assert copy.pick(8)


def test_another_range_that_a_fork_asks_for_is_taken_and_what_was_learned_begins_anew() -> None:
    about = {"a": ArmInfo(features={"level": 0.0}), "b": ArmInfo(features={"level": 5.0})}

    def made(**options: Any) -> LinUcb:
        bandit = create(Config(**options), list(about), np.random.default_rng(0))
        bandit.introduce(about, 10)
        return bandit

    parent, same, fork = made(), made(alpha=0.7), made(ranges={"level": (0.0, 50.0)})
    parent.observe(seen({0: 0.5, 1: 0.2}))
    state = json.loads(json.dumps(parent.state()))
    same.load_state(state)
    assert same.state() == parent.state()
    fork.load_state(state)
    assert fork.x[:, 1].tolist() == [0.0, 0.1]
    assert fork.estimates().tolist() == [0.0, 0.0]
