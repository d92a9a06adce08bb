"""Teachers that fit a Gaussian mixture to the latest groups and draw points from it.

Every `fit_every` groups the latest so many are fitted in a thread, while the run goes on; the next call of `learn`
waits for the mixture and takes it. So thread timing never decides which mixture a point is drawn from, and a state
taken during a fit holds what is needed to repeat it.

The fit is scikit-learn's, for several numbers of components, the best by an information criterion. Its starts are
k-means as there, but our own: theirs changes the BLAS threads of the whole process while it runs, and adds up in the
order in which its threads finish, so that a resumed run could differ.
"""

from __future__ import annotations

import math
import random
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from orchestrator.bandits.contracts import Floats, proportional
from orchestrator.teachers.contracts import Teacher, TeacherConfig

Criterion = Literal["aic", "bic", "aicc"]

COVARIANCE_FLOOR = 1e-6  # scikit-learn's reg_covar
MOST_ITERATIONS = 1000  # of EM, which ends when the mean log-likelihood rises by less than 1e-3
MOST_MOVES = 100  # of the centres of k-means
ROWS_PER_COMPONENT = 5


@dataclass(frozen=True)
class Mixture:
    """k Gaussians in D dimensions."""

    weights: Floats  # [k]
    means: Floats  # [k, D]
    covariances: Floats  # [k, D, D]

    def draw(self, of: NDArray[np.intp], num_dims: int, rng: np.random.Generator) -> Floats:
        """Draw the first `num_dims` dimensions of a point from each of these Gaussians [n]."""
        roots = np.linalg.cholesky(self.covariances[:, :num_dims, :num_dims])
        normal = rng.standard_normal((len(of), num_dims))
        return np.asarray(self.means[of, :num_dims] + np.einsum("nij,nj->ni", roots[of], normal))

    def state(self) -> dict[str, Any]:
        return {name: numbers.tolist() for name, numbers in vars(self).items()}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Mixture:
        """Read a state."""
        return cls(**{name: np.array(numbers, np.float64) for name, numbers in state.items()})


@dataclass(frozen=True)
class Fit:
    """The best mixture, and the best of each number of components."""

    best: Mixture
    tried: Mapping[int, Mixture]


def fit(
    rows: Floats,
    components: Iterable[int],
    criterion: Criterion,
    seed: int,
    restarts: int = 1,
    before: Mapping[int, Mixture] | None = None,
) -> Fit:
    """Fit a mixture to rows [N, D] for each number of components; the lowest criterion is best.

    Numbers of components above that of distinct rows are left out. Each has so many `restarts` of its own seeds; of
    those in `before` the first start is that mixture.
    """
    distinct = len(np.unique(rows, axis=0))
    costs: dict[int, float] = {}
    tried: dict[int, Mixture] = {}
    for k in components:
        for start in range(restarts) if k <= distinct else ():
            if before and k in before and start == 0:
                first = before[k]
            else:
                first = clusters(rows, k, np.random.Generator(np.random.PCG64([seed, k, start])))
            mixture, log_likelihood = _climb(rows, first)
            cost = _cost(criterion, log_likelihood, k, *rows.shape)
            if k not in costs or cost < costs[k]:
                costs[k], tried[k] = cost, mixture
    return Fit(tried[min(costs, key=lambda k: costs[k])], tried)


def clusters(rows: Floats, k: int, rng: np.random.Generator) -> Mixture:
    """A Gaussian for each of k clusters of rows [N, D], by k-means from k-means++."""
    labels = _labels(rows, k, rng)
    parts = [rows[labels == j] for j in range(k)]
    means = np.array([part.mean(axis=0) for part in parts])
    floor = COVARIANCE_FLOOR * np.eye(rows.shape[1])
    covariances = [(part - mean).T @ (part - mean) / len(part) + floor for part, mean in zip(parts, means, strict=True)]
    return Mixture(np.array([len(part) / len(rows) for part in parts]), means, np.array(covariances))


def _labels(rows: Floats, k: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Cluster of each row [N]; none is empty."""
    centres = rows[[rng.integers(len(rows))]]
    while len(centres) < k:
        far = _squared(rows, centres).min(axis=1)
        centres = np.vstack([centres, rows[rng.choice(len(rows), p=far / far.sum())]])
    labels = np.full(len(rows), -1, np.intp)
    for _ in range(MOST_MOVES):
        distances = _squared(rows, centres)
        moved = distances.argmin(axis=1)
        for empty in np.setdiff1d(np.arange(k), moved):  # takes the farthest row that is not alone
            crowded = np.bincount(moved, minlength=k)[moved] > 1
            moved[np.where(crowded, distances.min(axis=1), -1.0).argmax()] = empty
        if np.array_equal(moved, labels):
            break
        labels = moved
        centres = np.array([rows[labels == j].mean(axis=0) for j in range(k)])
    return labels


def _squared(rows: Floats, centres: Floats) -> Floats:
    return np.asarray(np.square(rows[:, None] - centres[None]).sum(axis=2))  # [N, k]


def _climb(rows: Floats, first: Mixture) -> tuple[Mixture, float]:
    """The mixture that EM finds from `first`, and its log-likelihood."""
    from sklearn.mixture import GaussianMixture

    inverses = np.linalg.inv(first.covariances)
    model = GaussianMixture(
        len(first.weights),
        covariance_type="full",
        reg_covar=COVARIANCE_FLOOR,
        max_iter=MOST_ITERATIONS,
        weights_init=first.weights,
        means_init=first.means,
        precisions_init=(inverses + inverses.transpose(0, 2, 1)) / 2,
        init_params="random_from_data",  # replaced by the three above
        random_state=0,
    ).fit(rows)
    return Mixture(model.weights_, model.means_, model.covariances_), float(model.score(rows)) * len(rows)


def _cost(criterion: Criterion, log_likelihood: float, k: int, num_rows: int, num_dims: int) -> float:
    """The information criterion."""
    free = k - 1 + k * num_dims + k * num_dims * (num_dims + 1) // 2
    if criterion == "bic":
        return free * math.log(num_rows) - 2 * log_likelihood
    cost = 2 * free - 2 * log_likelihood
    if criterion == "aic":
        return cost
    spare = num_rows - free - 1
    return cost + 2 * free * (free + 1) / spare if spare > 0 else math.inf


class MixtureConfig(TeacherConfig):
    """Options of teachers that fit mixtures. A group is one task played; a step has several."""

    fit_every: int = Field(
        250,
        ge=10,
        description="Groups between two fits, and how many of the latest each reads; before the first all is uniform.",
    )
    explore: float = Field(0.2, ge=0, le=1, description="Share of points drawn uniformly from the box.")
    min_components: int = Field(2, ge=1, description="The fewest Gaussians that are tried.")
    max_components: int = Field(10, ge=1, description="The most that are tried, fit_every / 5 at most.")
    criterion: Criterion = Field("aic", description="Its lowest value decides the number of Gaussians.")
    restarts: int = Field(1, ge=1, description="Starts of each fit, of which the likeliest result is kept.")
    warm_start: bool = Field(False, description="Every number of Gaussians begins where its last fit ended.")

    @model_validator(mode="after")
    def _leave_something_to_try(self) -> Self:
        if not self.components:
            raise ValueError(
                f"min_components {self.min_components} leaves nothing to try: max_components is {self.max_components}"
                f" and fit_every {self.fit_every} allows {self.fit_every // ROWS_PER_COMPONENT}; lower or raise them"
            )
        return self

    @property
    def components(self) -> range:
        """Numbers of Gaussians to try."""
        return range(self.min_components, min(self.max_components, self.fit_every // ROWS_PER_COMPONENT) + 1)


class MixtureTeacher(Teacher):
    """Draws from a mixture over rows [x, measurements]: a Gaussian by its worth, then x from it."""

    def __init__(self, num_dims: int, rng: np.random.Generator, config: MixtureConfig) -> None:
        super().__init__(num_dims, rng)
        self.config = config
        self.num_learned = 0
        self.mixture: Mixture | None = None
        self._rows: list[list[float]] = []  # of the latest groups, oldest first
        self._tried: Mapping[int, Mixture] = {}  # of the last fit, where the next one begins there
        self._seed: int | None = None  # of the fit under way
        self._fit: Future[Fit] | None = None
        self._thread: ThreadPoolExecutor | None = None

    @abstractmethod
    def measure(self, points: Floats, scores: Floats) -> Floats:
        """Measurements [m, E] of groups at points [m, d], which come after `num_learned` others."""

    @abstractmethod
    def worth(self, mixture: Mixture) -> Floats:
        """Worth of each Gaussian [k], at least 0."""

    def choose(self, n: int) -> Floats:
        """Draw from the box before the first fit, and for the share `explore`; else from the mixture."""
        anywhere = self.rng.random((n, self.num_dims))
        if self.mixture is None:
            return anywhere
        explored = self.rng.random(n) < self.config.explore
        worth = self.worth(self.mixture)
        of = proportional(worth if worth.any() else np.ones_like(worth), n, self.rng)
        drawn = np.clip(self.mixture.draw(of, self.num_dims, self.rng), 0.0, 1.0)
        return np.where(explored[:, None], anywhere, drawn)

    def learn(self, points: Floats, scores: Floats) -> None:
        """Take the mixture that was being fitted, then the groups; begin a fit where a block is full."""
        self._adopt()
        self._rows += np.hstack([points, self.measure(points, scores)]).tolist()
        del self._rows[: -2 * self.config.fit_every]
        full = self.num_learned // self.config.fit_every
        self.num_learned += len(points)
        if self.num_learned // self.config.fit_every > full:
            self._seed = int(self.rng.integers(2**31))
            self._begin()

    def state(self) -> dict[str, Any]:
        return super().state() | {
            "num_learned": self.num_learned,
            "rows": [list(row) for row in self._rows],
            "seed": self._seed,
            "fit_every": self.config.fit_every,
            "mixture": None if self.mixture is None else self.mixture.state(),
            "tried": {str(k): mixture.state() for k, mixture in self._tried.items()},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; a fit that was under way is repeated, unless a fork's blocks have another length."""
        super().load_state(state)
        self.num_learned = int(state["num_learned"])
        self._rows = [list(row) for row in state["rows"]]
        self.mixture = None if state["mixture"] is None else Mixture.of(state["mixture"])
        self._tried = {int(k): Mixture.of(written) for k, written in state["tried"].items()}
        is_same = state.get("fit_every", self.config.fit_every) == self.config.fit_every
        self._seed, self._fit = state["seed"] if is_same else None, None
        if self._seed is not None:
            self._begin()

    def close(self) -> None:
        """End the thread; a fit under way is made by the next `learn`."""
        self._fit = None
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
            self._thread = None

    def _begin(self) -> None:
        if self._thread is None:
            python = random.getstate()  # which the import draws from: here, as others draw beside the thread
            import sklearn.mixture  # noqa: F401

            random.setstate(python)
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="teacher")
        self._fit = self._thread.submit(self._made)

    def _adopt(self) -> None:
        """Take the mixture of the fit under way, if any."""
        if self._seed is None:
            return
        found = self._made() if self._fit is None else self._fit.result()
        self.mixture, self._seed, self._fit = found.best, None, None
        self._tried = found.tried if self.config.warm_start else {}

    def _made(self) -> Fit:
        """Fit the latest full block; what it reads changes only after `_adopt`."""
        assert self._seed is not None
        end = len(self._rows) - self.num_learned % self.config.fit_every
        rows = np.array(self._rows[max(0, end - self.config.fit_every) : end])  # a fork's first may be shorter
        config = self.config
        return fit(rows, config.components, config.criterion, self._seed, config.restarts, self._tried)
