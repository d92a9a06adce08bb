"""The tests that every teacher must pass, as a class that outside teachers run too.

class TestMine(TeacherSuite):
    def make(self, num_dims, rng):
        return Mine(num_dims, rng)
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from orchestrator.bandits.contracts import Floats
from orchestrator.teachers.contracts import Teacher

BATCH = 50  # groups a step


class TeacherSuite(ABC):
    """Subclass it as `Test...`, implement `make`, and let pytest collect it; the attributes say what it promises."""

    learns = True  # False: the points never depend on scores
    num_steps = 6  # of `BATCH` groups in the tests of the state: enough for fits to begin and be adopted
    num_groups = 1000  # after which a change of the region that teaches must have been found

    @abstractmethod
    def make(self, num_dims: int, rng: np.random.Generator) -> Teacher:
        """Make a fresh teacher of points in d dimensions."""

    def test_points_lie_in_the_box(self) -> None:
        for num_dims in (1, 3):
            with self._made(num_dims) as teacher:
                for n in (1, 7, BATCH, BATCH, BATCH):
                    points = teacher.choose(n)
                    assert points.shape == (n, num_dims)
                    assert points.min() >= 0
                    assert points.max() <= 1
                    teacher.learn(points, _scores(points))

    def test_the_same_seed_and_scores_give_the_same_points(self) -> None:
        with self._made(seed=5) as teacher, self._made(seed=5) as twin:
            for _ in range(self.num_steps):
                assert _step(teacher).tolist() == _step(twin).tolist()

    def test_state_survives_json_at_any_moment(self) -> None:
        with self._made() as teacher:
            for _ in range(self.num_steps):
                points = teacher.choose(BATCH)
                with self._copy(teacher) as copy:
                    for one in (teacher, copy):
                        one.learn(points, _scores(points))
                    assert copy.state() == teacher.state()
                with self._copy(teacher) as copy, self._copy(teacher) as original:
                    for _ in range(2):
                        assert _step(copy).tolist() == _step(original).tolist()
                    assert copy.state() == original.state()

    def test_a_loaded_teacher_continues_as_the_one_that_went_on(self) -> None:
        with self._made() as teacher:
            copies = {}
            for done in range(self.num_steps):
                copies[done] = json.dumps(teacher.state())
                _step(teacher)
            for done in {0, self.num_steps // 2, self.num_steps - 1}:
                with self._made(seed=99) as copy:
                    copy.load_state(json.loads(copies[done]))
                    for _ in range(done, self.num_steps):
                        _step(copy)
                    assert copy.state() == teacher.state()

    def test_reading_draws_nothing(self) -> None:
        with self._made() as teacher, self._made() as twin:
            for _ in range(self.num_steps):
                teacher.state(), teacher.state()
                assert _step(teacher).tolist() == _step(twin).tolist()

    def test_a_state_is_not_changed_by_what_comes_after(self) -> None:
        with self._made() as teacher:
            _step(teacher)
            state = teacher.state()
            before = json.dumps(state)
            for _ in range(self.num_steps):
                _step(teacher)
            assert json.dumps(state) == before

    def test_it_can_be_asked_often_before_it_is_told_and_told_nothing(self) -> None:
        with self._made() as teacher:
            first, second = teacher.choose(BATCH), teacher.choose(BATCH)
            teacher.learn(second, _scores(second))
            teacher.learn(first[:0], np.empty(0))
            teacher.learn(first, _scores(first))
            assert teacher.choose(0).shape == (0, 2)

    def test_no_global_generator_is_touched(self) -> None:
        before = json.dumps(np.random.get_state(legacy=False), default=str)
        with self._made() as teacher:
            for _ in range(self.num_steps):
                _step(teacher)
        assert json.dumps(np.random.get_state(legacy=False), default=str) == before

    def test_a_closed_teacher_can_still_be_read(self) -> None:
        with self._made() as teacher:
            for _ in range(self.num_steps):
                _step(teacher)
            before = teacher.state()
            teacher.close()
            assert teacher.state() == before

    def test_a_change_of_the_region_that_teaches_is_found(self) -> None:
        """In one fifth of the box scores rise, elsewhere they stay; then in another fifth."""
        if not self.learns:
            return
        with self._made(1) as teacher:
            for low in (0.1, 0.7):
                assert _share(teacher, low, self.num_groups) > 0.25

    @contextmanager
    def _made(self, num_dims: int = 2, seed: int = 0) -> Iterator[Teacher]:
        teacher = self.make(num_dims, np.random.Generator(np.random.PCG64(seed)))
        try:
            yield teacher
        finally:
            teacher.close()

    @contextmanager
    def _copy(self, teacher: Teacher) -> Iterator[Teacher]:
        with self._made(teacher.num_dims, seed=99) as copy:
            copy.load_state(json.loads(json.dumps(teacher.state())))
            yield copy


def _step(teacher: Teacher) -> Floats:
    """Choose and learn one batch."""
    points = teacher.choose(BATCH)
    teacher.learn(points, _scores(points))
    return points


def _scores(points: Floats) -> Floats:
    """Rough scores that depend on nothing but the point: high at its lower end, scattered in the middle."""
    scatter: Floats = np.modf(np.abs(np.sin(1e4 * points.sum(axis=1))) * 1e3)[0]
    return np.where(points[:, 0] < 0.3, 1.0, np.where(points[:, 0] < 0.6, scatter, 0.0))


def _share(teacher: Teacher, low: float, num_groups: int) -> float:
    """Play groups of which those in [low, low + .2] rise from 0 to 1; the share of the last half that lay there."""
    noise = np.random.Generator(np.random.PCG64(1))
    num_inside, batch = 0, 10
    for step in range(num_groups // batch):
        points = teacher.choose(batch)
        inside = (points[:, 0] >= low) & (points[:, 0] <= low + 0.2)
        scores = np.where(inside, step * batch / num_groups, 0.5) + 0.03 * noise.standard_normal(batch)
        teacher.learn(points, np.clip(scores, 0.0, 1.0))
        num_inside += int(inside.sum()) if 2 * step * batch >= num_groups else 0
    return num_inside / (num_groups / 2)
