"""How index rules fill a batch, against the curricula reference, section 3.0."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from orchestrator.bandits.contracts import Pick
from orchestrator.bandits.discounted_ucb import DiscountedUcb, Options
from orchestrator.bandits.index_rule import Buckets, fill, indices, nth_highest, pooled_mean

NAN = math.nan


def rule(mean: list[float], count: list[float], floor: float = 0.0, seed: int = 0) -> DiscountedUcb:
    """Discounted UCB that knows these means of so many slots."""
    made = DiscountedUcb([f"{k:04}" for k in range(len(mean))], np.random.default_rng(seed), Options(), floor)
    made.weight = np.array(count)
    made.total = np.nan_to_num(np.array(mean)) * made.weight
    return made


def by_argmax(made: DiscountedUcb, n: int) -> Counter[int]:
    """The definition, slot by slot, for a rule without ties."""
    mean, count = made.means(), made.counts().copy()
    given = Counter[int]()
    for _ in range(n):
        with np.errstate(divide="ignore"):
            index = mean + made.bonus() / np.sqrt(count)
        k = int(index.argmax())
        given[k] += 1
        count[k] += 1
    return given


def positions(picks: list[Pick]) -> Counter[int]:
    return Counter(int(pick.arm) for pick in picks)


@pytest.mark.parametrize(("num_arms", "n"), [(3, 1), (3, 64), (40, 7), (40, 40), (40, 400), (300, 256)])
def test_virtual_counts_are_the_argmax_slot_by_slot(num_arms: int, n: int) -> None:
    rng = np.random.default_rng(num_arms + n)
    made = rule(rng.random(num_arms).tolist(), rng.exponential(9, num_arms).tolist())
    expected = by_argmax(made, n)
    picks = made.pick(n)
    assert positions(picks) == expected
    assert all(pick.probability == 1.0 for pick in picks)


def test_a_batch_does_not_go_to_one_arm() -> None:
    shares = positions(rule([0.5, 0.45, 0.4], [20.0, 20.0, 20.0]).pick(64))
    assert shares[0] > shares[1] > shares[2] > 0


def test_arms_without_data_get_one_slot_each_first() -> None:
    made = rule([0.6, NAN, 0.1, NAN, NAN], [30.0, 0.0, 30.0, 0.0, 0.0])
    picks = made.pick(6)
    assert {pick.arm for pick in picks[:3]} == {"0001", "0003", "0004"}
    assert [pick.probability for pick in picks[:3]] == pytest.approx([1 / 3, 1 / 2, 1.0])


def test_an_unseen_arm_then_has_the_pooled_mean_and_does_not_swallow_the_batch() -> None:
    mean, count = np.array([0.6, NAN, 0.1]), np.array([30.0, 0.0, 10.0])
    assert pooled_mean(mean, count) == pytest.approx(0.475)
    assert pooled_mean(np.array([NAN, NAN]), np.zeros(2)) == 0.0
    shares = positions(rule(mean.tolist(), count.tolist()).pick(64))
    assert 1 < shares[1] < 40


def test_when_nothing_is_known_all_arms_take_turns() -> None:
    assert set(positions(rule([NAN] * 5, [0.0] * 5).pick(25)).values()) == {5}


def test_ties_are_shared_at_random_with_their_probability() -> None:
    firsts = Counter(rule([0.5] * 4, [9.0] * 4, seed=seed).pick(1)[0].arm for seed in range(800))
    assert all(150 < count < 250 for count in firsts.values())
    picks = rule([0.5] * 4 + [0.1], [9.0] * 5).pick(4)
    assert [pick.probability for pick in picks] == pytest.approx([1 / 4, 1 / 3, 1 / 2, 1.0])


def test_a_slot_carries_the_probability_given_the_slots_before() -> None:
    """With a floor, (1 - f) [best, shared among ties] + f / K, however the slot was filled."""
    made = rule([0.5, 0.5, 0.2, NAN], [9.0, 9.0, 9.0, 0.0], floor=0.4, seed=3)
    mean, count, scale = made.means(), made.counts().copy(), made.bonus()
    known = np.where(np.isnan(mean), pooled_mean(mean, count), mean)
    seen = ~np.isnan(made.means())
    for pick in made.pick(200):
        index = indices(np.where(seen, known, NAN), count, scale)
        best = index == index.max()
        arm = int(pick.arm)
        assert pick.probability == pytest.approx(0.6 * best[arm] / best.sum() + 0.4 / 4, rel=1e-12)
        seen[arm] = True
        count[arm] += 1


def test_a_floor_of_one_is_uniform() -> None:
    picks = rule([0.9, 0.1, 0.1, 0.1], [50.0] * 4, floor=1.0).pick(4000)
    assert all(900 < count < 1100 for count in positions(picks).values())
    assert {pick.probability for pick in picks} == {0.25}


@pytest.mark.parametrize("values", ["random", "level", "two levels", "infinite", "rising"])
@pytest.mark.parametrize(("num", "n"), [(7, 7), (8, 3), (1000, 256), (1003, 10), (1000, 1)])
def test_the_nth_highest_is_that_of_a_sorted_list(values: str, num: int, n: int) -> None:
    rng = np.random.default_rng(num + n)
    given = {
        "random": rng.random(num),
        "level": np.full(num, 0.5),
        "two levels": rng.integers(0, 2, num).astype(np.float64),
        "infinite": np.where(rng.random(num) < 0.5, np.inf, rng.random(num)),
        "rising": np.arange(num, dtype=np.float64),
    }[values]
    assert nth_highest(given, n) == (-np.inf if n >= num else sorted(given)[-n])


@pytest.mark.parametrize("num_unseen", [0, 3, 40, 300])
def test_a_board_gives_each_slot_to_one_of_the_highest(num_unseen: int) -> None:
    """Beside the definition with all arms, ties among them, and with slots that the floor gives."""
    rng = np.random.default_rng(num_unseen)
    mean, count = rng.integers(0, 4, 300) / 4, rng.integers(1, 4, 300).astype(np.float64)
    mean[:num_unseen], count[:num_unseen] = NAN, 0.0
    board, given, known = Buckets(mean, count, 0.7, 200), count.copy(), mean.copy()
    for u in rng.random(200):
        index = indices(known, given, 0.7)
        best = sorted(board.best())
        assert best == np.flatnonzero(index == index.max()).tolist()
        arm = int(rng.integers(300)) if u < 0.3 else best[int(u * len(best))]
        board.give(arm)
        given[arm] += 1
        known[arm] = pooled_mean(mean, count) if math.isnan(mean[arm]) else mean[arm]


def test_an_arm_out_of_reach_can_be_given_by_the_floor() -> None:
    """Only what may win a slot is on the board."""
    mean, count = np.linspace(1.0, 0.0, 50), np.full(50, 1e6)
    board = Buckets(mean, count, 1.0, 3)
    places, chances = fill(board, 3, 50, 0.999, np.random.default_rng(0))
    assert places.max() > 3
    assert chances[places > 3] == pytest.approx(0.999 / 50)
