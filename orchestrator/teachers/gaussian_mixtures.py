"""Gaussian mixtures: fitted for several numbers of components, the best by an information criterion kept.

The fit is scikit-learn's. Its starts are k-means as there, but our own: theirs changes the BLAS threads of the whole
process while it runs, and adds up in the order in which its threads finish, so that a resumed run could differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from orchestrator.bandits.contracts import Floats

Criterion = Literal["aic", "bic", "aicc"]

COVARIANCE_FLOOR = 1e-6  # scikit-learn's reg_covar
MOST_ITERATIONS = 1000  # of EM, which ends when the mean log-likelihood rises by less than 1e-3
MOST_MOVES = 100  # of the centres of k-means


@dataclass(frozen=True)
class Mixture:
    """k Gaussians in D dimensions."""

    weights: Floats  # [k]
    means: Floats  # [k, D]
    covariances: Floats  # [k, D, D]

    def draw(self, of: NDArray[np.intp], num_dims: int, rng: np.random.Generator) -> Floats:
        """Draw a point [n, num_dims] from each of these Gaussians [n], leaving out the dimensions after `num_dims`."""
        roots = np.linalg.cholesky(self.covariances[:, :num_dims, :num_dims])
        normal = rng.standard_normal((len(of), num_dims))
        moved: Floats = self.means[of, :num_dims] + np.einsum("nij,nj->ni", roots[of], normal)
        return moved

    def state(self) -> dict[str, Any]:
        """Write it as JSON."""
        return {name: numbers.tolist() for name, numbers in vars(self).items()}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Mixture:
        """Read it back."""
        return cls(**{name: np.array(numbers, np.float64) for name, numbers in state.items()})


@dataclass(frozen=True)
class Fit:
    """The best mixture, and all that were tried by their number of components."""

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
    """Fit a mixture to rows [N, D] for each number of components; the same arguments give the same mixtures.

    Args:
        rows: distinct ones must be as many as the fewest components.
        components: the numbers to try; more than there are distinct rows are left out.
        criterion: the lowest decides.
        seed: of the starts.
        restarts: starts for each number.
        before: where a number begins in place of its first start.
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
    """Divide rows [N, D] by k-means, seeded as k-means++, and describe each part by a Gaussian."""
    labels = _labels(rows, k, rng)
    parts = [rows[labels == j] for j in range(k)]
    means = np.array([part.mean(axis=0) for part in parts])
    floor = COVARIANCE_FLOOR * np.eye(rows.shape[1])
    covariances = [
        (part - mean).T @ (part - mean) / len(part) + floor for part, mean in zip(parts, means, strict=True)
    ]
    return Mixture(np.array([len(part) / len(rows) for part in parts]), means, np.array(covariances))


def _labels(rows: Floats, k: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Say which of k clusters each row is in; none is empty."""
    centres = rows[[rng.integers(len(rows))]]
    while len(centres) < k:
        far = _squared(rows, centres).min(axis=1)
        centres = np.vstack([centres, rows[rng.choice(len(rows), p=far / far.sum())]])
    labels = np.full(len(rows), -1, np.intp)
    for _ in range(MOST_MOVES):
        distances = _squared(rows, centres)
        moved = distances.argmin(axis=1)
        for empty in np.setdiff1d(
            np.arange(k), moved
        ):  # takes the row that is worst off where it is not alone
            crowded = np.bincount(moved, minlength=k)[moved] > 1
            moved[np.where(crowded, distances.min(axis=1), -1.0).argmax()] = empty
        if np.array_equal(moved, labels):
            break
        labels = moved
        centres = np.array([rows[labels == j].mean(axis=0) for j in range(k)])
    return labels


def _squared(rows: Floats, centres: Floats) -> Floats:
    """Squared distances [N, k]."""
    distances: Floats = np.square(rows[:, None] - centres[None]).sum(axis=2)
    return distances


def _climb(rows: Floats, first: Mixture) -> tuple[Mixture, float]:
    """Improve a mixture by EM; also the log-likelihood of the rows under it."""
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
    """Weigh fit against the number of free parameters; less is better."""
    free = k - 1 + k * num_dims + k * num_dims * (num_dims + 1) // 2
    if criterion == "bic":
        return free * math.log(num_rows) - 2 * log_likelihood
    cost = 2 * free - 2 * log_likelihood
    if criterion == "aic":
        return cost
    spare = num_rows - free - 1
    return cost + 2 * free * (free + 1) / spare if spare > 0 else math.inf
