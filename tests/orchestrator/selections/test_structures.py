"""Sum tree, Gumbel draws, epochs, ties, memories: what the methods stand on."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.selections.contracts import TaskResult
from orchestrator.selections.cursor import Epochs
from orchestrator.selections.draws import SumTree, gumbel_top_k, smallest, smallest_beside
from orchestrator.selections.task_statistics import TaskBuffer, by_step

CHI_SQUARE = 29.59  # 10 degrees of freedom, at 1e-3


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def chi_square(counts, probabilities) -> float:
    expected = counts.sum() * np.asarray(probabilities)
    return float((np.square(counts - expected) / expected).sum())


def test_the_tree_agrees_with_dense_sums_after_a_hundred_thousand_updates() -> None:
    chance, num = rng(), 777
    dense = chance.random(num)
    tree = SumTree(dense)
    for _ in range(1000):
        at = chance.integers(num, size=100)
        weights = chance.random(100) * 10.0 ** chance.integers(-9, 9, size=100)
        weights[chance.random(100) < 0.1] = 0.0
        dense[at] = weights
        tree.set(at, weights)
    assert (tree.weights == dense).all()
    assert tree.total == pytest.approx(dense.sum(), rel=1e-9)
    assert (tree._nodes >= 0).all()
    fresh = SumTree(dense)
    assert (fresh._nodes == tree._nodes).all(), "nothing drifts: the history leaves no trace"
    edges = np.cumsum(dense) / dense.sum()
    assert np.allclose(np.cumsum(tree.weights) / tree.total, edges, atol=1e-9)


@pytest.mark.parametrize("num", [1, 2, 3, 11])
def test_the_tree_draws_in_proportion(num: int) -> None:
    weights = np.arange(1.0, num + 1)
    counts = np.bincount(SumTree(weights).draw(100_000, rng()), minlength=num)
    assert chi_square(counts, weights / weights.sum()) < CHI_SQUARE


@pytest.mark.parametrize("draw", ["tree", "gumbel"])
def test_distinct_draws_leave_out_what_was_drawn(draw: str) -> None:
    weights, chance = np.array([4.0, 2.0, 1.0, 1.0]), rng()
    tree, counts = SumTree(weights), np.zeros(4)
    for _ in range(6_000):
        drawn = tree.draw_distinct(2, chance) if draw == "tree" else gumbel_top_k(np.log(weights), 2, chance)
        assert len(set(drawn.tolist())) == 2
        counts[drawn] += 1
    shares = weights / 8
    inclusion = [p + sum(q * p / (1 - q) for j, q in enumerate(shares) if j != i) for i, p in enumerate(shares)]
    assert counts / 6_000 == pytest.approx(inclusion, abs=0.025)
    assert (tree.weights == weights).all(), "and is put back"


def test_what_has_no_weight_is_never_drawn() -> None:
    tree = SumTree(np.array([0.0, 1e-300, 0.0, 1.0, 0.0]))
    assert set(tree.draw(1000, rng()).tolist()) == {3}
    assert set(tree.draw_distinct(4, rng()).tolist()) == {1, 3}
    assert SumTree(np.zeros(3)).draw_distinct(2, rng()).tolist() == []
    assert gumbel_top_k(np.array([-np.inf, 0.0, -np.inf, 0.0]), 2, rng()).tolist() in ([1, 3], [3, 1])


@pytest.mark.parametrize("bad", [-1e-9, np.nan, np.inf])
def test_a_weight_that_is_none_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite and not negative"):
        SumTree(np.ones(3)).set(np.array([1]), np.array([bad]))


def test_an_epoch_holds_everything_once_and_a_batch_nothing_twice() -> None:
    epochs = Epochs(100, seed=3)
    drawn = [epochs.take(8).tolist() for _ in range(50)]
    in_order = [at for batch in drawn for at in batch]
    assert all(len(set(batch)) == 8 for batch in drawn)
    assert sorted(in_order[:100]) == list(range(100))
    assert in_order[:100] != in_order[100:200]


def test_what_is_left_out_is_passed_over() -> None:
    epochs = Epochs(10, seed=0)
    assert set(epochs.take(7, leave_out=np.array([1, 3, 5])).tolist()) == {0, 2, 4, 6, 7, 8, 9}
    assert epochs.take(4, leave_out=np.arange(8)).tolist() in ([8, 9], [9, 8])


def test_an_epoch_goes_on_from_its_state() -> None:
    one, other = Epochs(50, seed=1), Epochs(50, seed=2)
    one.take(65)
    other.load_state(one.state())
    assert [one.take(9).tolist() for _ in range(9)] == [other.take(9).tolist() for _ in range(9)]


def test_the_smallest_are_found_and_chance_breaks_ties() -> None:
    values, counts = np.array([3.0, 1.0, 2.0, 2.0, 2.0, 9.0]), np.zeros(6)
    for seed in range(3000):
        counts[smallest(values, 3, rng(seed))] += 1
    assert counts[[0, 1, 5]].tolist() == [0, 3000, 0]
    assert counts[2:5] / 3000 == pytest.approx([2 / 3] * 3, abs=0.03)
    assert smallest(values, 0, rng()).tolist() == []
    assert smallest(values, 9, rng()).tolist() == list(range(6))


@pytest.mark.parametrize("n", [0, 1, 3, 6, 8, 10])
def test_the_smallest_beside_a_level_are_the_smallest_of_all(n: int) -> None:
    at, values, level = np.array([1, 4, 5, 9]), np.array([0.1, 0.9, 0.5, 0.3]), 0.5
    everything = np.full(10, level)
    everything[at] = values
    counts, wanted = np.zeros(10), np.zeros(10)
    for seed in range(2000):
        found = smallest_beside(at, values, level, 10, n, rng(seed))
        assert len(set(found.tolist())) == n
        counts[found] += 1
        wanted[smallest(everything, n, rng(seed + 5000))] += 1
    assert counts / 2000 == pytest.approx(wanted / 2000, abs=0.06)
    assert counts[wanted == 0].sum() == 0


def test_a_memory_keeps_the_best_in_order() -> None:
    held = TaskBuffer("worth")
    held.put(np.array([7, 2]), worth=np.array([0.7, 0.2]))
    held.put(np.array([5, 7]), worth=np.array([0.5, 0.1]))
    assert held.at.tolist() == [2, 5, 7]
    assert held["worth"].tolist() == [0.2, 0.5, 0.1]
    held.at_most(2, held["worth"])
    assert held.at.tolist() == [2, 5]
    assert held.has(np.array([1, 5])).tolist() == [False, True]


def test_what_was_played_twice_in_a_batch_counts_as_one_with_more_samples() -> None:
    later, first, again = (
        TaskResult(4, 9, 1.0, 8),
        TaskResult(2, 3, 0.5, 8, 0.5),
        TaskResult(2, 3, 0.125, 4, None),
    )
    early, late = by_step([later, first, again])
    assert (early.step, early.at.tolist(), early.num_samples.tolist()) == (3, [2], [12.0])
    assert early.score.tolist() == pytest.approx([0.375])
    assert early.signal.tolist() == [0.5], "the group without comparison says nothing of it"
    assert late.step == 9
    assert np.isnan(late.signal).all()
