"""The tests that every selection must pass, as a class that outside selections run too.

class TestMine(SelectionSuite):
    def make(self, num_tasks, rng):
        return Mine(num_tasks, rng)
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from orchestrator.selections.contracts import Positions, Selection, TaskResult

Rates = Callable[[int], float]  # the true pass rate of a task, by position


class SelectionSuite(ABC):
    """Subclass it as `Test...`, implement `make`, let pytest collect it; the attributes say what a rule promises."""

    visits_all = True  # False: a task that never suits may never be played
    sparse_state = True  # False: the state holds numbers of tasks that were never tried

    @abstractmethod
    def make(self, num_tasks: int, rng: np.random.Generator) -> Selection:
        """Make a fresh selection among so many tasks."""

    def _made(self, num_tasks: int = 40, seed: int = 0) -> Selection:
        return self.make(num_tasks, np.random.Generator(np.random.PCG64(seed)))

    def test_what_is_chosen_is_there_and_distinct(self) -> None:
        selection = self._made()
        for _ in range(30):
            chosen = play(selection, 16)
            assert chosen.dtype == np.int64
            assert ((chosen >= 0) & (chosen < 40)).all()
            assert len(set(chosen.tolist())) == 16

    def test_a_batch_may_be_as_large_as_the_category_or_larger(self) -> None:
        selection = self._made(7)
        for n in (7, 6, 7, 1, 20, 7):
            counts = np.bincount(play(selection, n), minlength=7)
            assert counts.sum() == n
            assert counts.max() - counts.min() <= 1

    def test_one_task_is_enough(self) -> None:
        selection = self._made(1)
        for n in (1, 3, 0):
            assert play(selection, n).tolist() == [0] * n

    def test_the_clock_counts_how_often_it_was_asked(self) -> None:
        selection = self._made(5)
        for clock, n in enumerate((2, 9, 0, 5)):
            assert selection.clock == clock
            selection.choose(n)

    def test_the_same_seed_and_results_give_the_same_choices(self) -> None:
        one, twin, other = (self._made(200, seed) for seed in (5, 5, 6))
        differs = False
        for _ in range(12):
            chosen = play(one, 16)
            assert chosen.tolist() == play(twin, 16).tolist()
            differs |= chosen.tolist() != play(other, 16).tolist()
        assert differs

    def test_state_survives_json_in_mid_batch(self) -> None:
        selection = self._made(60)
        for _ in range(9):
            chosen, step = selection.choose(16), selection.clock - 1
            copy = self._made(60, seed=99)
            copy.load_state(json.loads(json.dumps(selection.state())))
            for one in (selection, copy):
                one.learn(results(chosen, step))
            assert copy.state() == selection.state()
            then = self._made(60, seed=98)
            then.load_state(json.loads(json.dumps(selection.state())))
            for _ in range(6):
                assert play(copy, 7).tolist() == play(then, 7).tolist()

    def test_reading_the_state_changes_nothing(self) -> None:
        selection, twin = self._made(), self._made()
        for _ in range(4):
            selection.state()
            assert play(selection, 9).tolist() == play(twin, 9).tolist()

    def test_batches_may_be_chosen_before_any_is_learned_from(self) -> None:
        selection, twin = self._made(100), self._made(100)
        outcomes: list[TaskResult] = []
        for _ in range(4):
            chosen, step = selection.choose(12), selection.clock - 1
            assert chosen.tolist() == twin.choose(12).tolist()
            outcomes += results(chosen, step)
        selection.learn(outcomes)
        twin.learn(outcomes[30:] + outcomes[:30])
        assert selection.state() == twin.state()
        assert play(selection, 12).tolist() == play(twin, 12).tolist()

    def test_results_may_stay_away_or_come_late(self) -> None:
        selection = self._made()
        batches = [(selection.choose(10), selection.clock - 1) for _ in range(5)]
        for number in (0, 3, 1, 4):
            chosen, step = batches[number]
            selection.learn(results(chosen[:4], step))
        selection.learn([])
        for _ in range(10):
            assert len(set(play(selection, 10).tolist())) == 10

    def test_a_group_without_comparison_is_taken_in(self) -> None:
        selection = self._made()
        for _ in range(6):
            chosen = selection.choose(8)
            selection.learn([TaskResult(int(at), selection.clock - 1, 1.0, 1, None) for at in chosen])
        assert len(set(play(selection, 40).tolist())) == 40
        json.dumps(selection.state(), allow_nan=False)

    def test_the_state_of_many_tasks_holds_those_that_were_tried(self) -> None:
        selection = self._made(100_000)
        for _ in range(4):
            play(selection, 8)
        if self.sparse_state:
            assert len(json.dumps(selection.state())) < 8000

    def test_scores_of_nothing_but_0_or_1_do_not_stop_it(self) -> None:
        selection = self._made()
        rates: list[Rates] = [lambda at: 0.0, lambda at: 1.0]
        for rate in rates:
            for _ in range(20):
                assert len(set(play(selection, 12, rate).tolist())) == 12

    def test_every_task_comes_in_the_end(self) -> None:
        if not self.visits_all:
            return
        selection = self._made(24)
        seen = np.zeros(24, bool)
        for _ in range(400):
            seen[play(selection, 6, lambda at: 0.5 * (at % 2))] = True
        assert seen.all()


def play(selection: Selection, n: int, rate: Rates | None = None) -> Positions:
    """One step: choose n tasks and learn from them."""
    chosen = selection.choose(n)
    selection.learn(results(chosen, selection.clock - 1, rate))
    return chosen


def results(chosen: Positions, step: int, rate: Rates | None = None, num_samples: int = 8) -> list[TaskResult]:
    """Made-up outcomes; pass rates not given lie between 0 and 1 in the order of a fixed shuffle."""
    made = []
    for at in chosen.tolist():
        share = (at * 7919 % 9) / 8 if rate is None else rate(at)
        score = round(share * num_samples) / num_samples
        made.append(TaskResult(at, step, score, num_samples, signal=2 * score * (1 - score)))
    return made
