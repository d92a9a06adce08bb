import subprocess
import sys

import numpy as np

from orchestrator import registry
from orchestrator.bandits.contracts import Floats
from orchestrator.teachers import alp_gmm, covar_gmm, random, riac
from orchestrator.teachers.contracts import Teacher
from orchestrator.teachers.testing import TeacherSuite


class TestRandom(TeacherSuite):
    learns = False

    def make(self, num_dims: int, rng: np.random.Generator) -> Teacher:
        return random.create(random.Config(), num_dims, rng)


class TestAlpGmm(TeacherSuite):
    def make(self, num_dims: int, rng: np.random.Generator) -> Teacher:
        return alp_gmm.create(alp_gmm.Config(fit_every=100, max_components=3, history=200), num_dims, rng)


class TestWarmAlpGmm(TeacherSuite):
    def make(self, num_dims: int, rng: np.random.Generator) -> Teacher:
        config = alp_gmm.Config(fit_every=70, max_components=3, warm_start=True, restarts=2, criterion="bic")
        return alp_gmm.create(config, num_dims, rng)


class TestCovarGmm(TeacherSuite):
    def make(self, num_dims: int, rng: np.random.Generator) -> Teacher:
        return covar_gmm.create(covar_gmm.Config(fit_every=100, max_components=3), num_dims, rng)


class TestRiac(TeacherSuite):
    def make(self, num_dims: int, rng: np.random.Generator) -> Teacher:
        return riac.create(riac.Config(region_size=60), num_dims, rng)


class Halves(Teacher):
    """A teacher from outside: always the half of the box in which scores moved more between two calls."""

    def __init__(self, num_dims: int, rng: np.random.Generator) -> None:
        super().__init__(num_dims, rng)
        self.means = [0.5, 0.5]
        self.moved = [0.0, 0.0]

    def choose(self, n: int) -> Floats:
        points = self.rng.random((n, self.num_dims))
        inside = self.rng.random(n) < 0.8
        half = int(self.moved[1] > self.moved[0])
        points[:, 0] = np.where(inside, (points[:, 0] + half) / 2, points[:, 0])
        return points

    def learn(self, points: Floats, scores: Floats) -> None:
        for half in (0, 1):
            own = scores[(points[:, 0] >= 0.5) == half]
            if len(own):
                mean = float(own.mean())
                self.moved[half] = 0.9 * self.moved[half] + 0.1 * abs(mean - self.means[half])
                self.means[half] = mean

    def state(self):  # type: ignore[no-untyped-def]
        return super().state() | {"means": list(self.means), "moved": list(self.moved)}

    def load_state(self, state):  # type: ignore[no-untyped-def]
        super().load_state(state)
        self.means, self.moved = list(state["means"]), list(state["moved"])


class TestOneFromOutside(TeacherSuite):
    def make(self, num_dims: int, rng: np.random.Generator) -> Teacher:
        return Halves(num_dims, rng)


def test_teachers_are_found_by_their_files():
    found = {method.name: method.source for method in registry.listing("teachers")}
    assert list(found) == ["alp_gmm", "covar_gmm", "random", "riac"]
    assert all(found.values())


def test_reading_the_options_of_teachers_loads_no_scikit_learn():
    code = (
        "import sys\n"
        "from orchestrator.teachers import alp_gmm, covar_gmm, random, riac\n"
        "alp_gmm.Config(), covar_gmm.Config(), riac.Config(), random.Config()\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('sklearn', 'scipy')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
