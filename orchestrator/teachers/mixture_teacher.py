"""Teachers that fit a Gaussian mixture to the latest groups and draw points from it: what they share.

Every `fit_every` groups the latest so many are fitted in a thread, beside whatever the run does next; the next call of
`learn` waits for the mixture and takes it. So it is fixed which mixture each point is drawn from, however fast the
thread was, and a state taken while it works holds what the fit needs to be made again.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from orchestrator.bandits.contracts import Floats
from orchestrator.teachers.contracts import Teacher, TeacherConfig
from orchestrator.teachers.gaussian_mixtures import Criterion, Fit, Mixture, fit
from orchestrator.teachers.proportions import proportional

ROWS_PER_COMPONENT = 5


class MixtureConfig(TeacherConfig):
    """What teachers that fit mixtures take. A group is one task played; a step has several."""

    fit_every: int = Field(
        250,
        ge=10,
        description="Groups between two fits, and how many of the latest each reads; before the first all is uniform.",
    )
    explore: float = Field(
        0.2, ge=0, le=1, description="Share of points drawn uniformly from the whole box, always."
    )
    min_components: int = Field(2, ge=1, description="The fewest Gaussians that are tried.")
    max_components: int = Field(
        10, ge=1, description="The most that are tried; never more than fit_every / 5."
    )
    criterion: Criterion = Field(
        "aic", description="How many Gaussians are kept: the number with the lowest of these."
    )
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
        """The numbers of Gaussians to try."""
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
        """Describe groups [m, E] at points [m, d], which come after `num_learned` others."""

    @abstractmethod
    def worth(self, mixture: Mixture) -> Floats:
        """Say what each Gaussian is worth [k], at least 0."""

    def choose(self, n: int) -> Floats:
        """Draw from the box before the first fit, and with the share `explore`; else from the mixture."""
        anywhere = self.rng.random((n, self.num_dims))
        if self.mixture is None:
            return anywhere
        explored = self.rng.random(n) < self.config.explore
        of = proportional(self.worth(self.mixture), n, self.rng)
        drawn = np.clip(self.mixture.draw(of, self.num_dims, self.rng), 0.0, 1.0)
        return np.where(explored[:, None], anywhere, drawn)

    def learn(self, points: Floats, scores: Floats) -> None:
        """Take the mixture that was being fitted, then the groups; begin a fit where a block of them is full."""
        self._adopt()
        self._rows += np.hstack([points, self.measure(points, scores)]).tolist()
        del self._rows[: -2 * self.config.fit_every]
        full = self.num_learned // self.config.fit_every
        self.num_learned += len(points)
        if self.num_learned // self.config.fit_every > full:
            self._seed = int(self.rng.integers(2**31))
            self._begin()

    def state(self) -> dict[str, Any]:
        """The mixture, the latest rows, and the seed of a fit under way."""
        return super().state() | {
            "num_learned": self.num_learned,
            "rows": [list(row) for row in self._rows],
            "seed": self._seed,
            "mixture": None if self.mixture is None else self.mixture.state(),
            "tried": {str(k): mixture.state() for k, mixture in self._tried.items()},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue; a fit that was under way begins again."""
        super().load_state(state)
        self.num_learned = int(state["num_learned"])
        self._rows = [list(row) for row in state["rows"]]
        self.mixture = None if state["mixture"] is None else Mixture.of(state["mixture"])
        self._tried = {int(k): Mixture.of(written) for k, written in state["tried"].items()}
        self._seed, self._fit = state["seed"], None
        if self._seed is not None:
            self._begin()

    def close(self) -> None:
        """End the thread; a fit under way is made when it is asked for."""
        self._fit = None
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
            self._thread = None

    def _begin(self) -> None:
        """Fit in the thread."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="teacher")
        self._fit = self._thread.submit(self._made)

    def _adopt(self) -> None:
        """Take the mixture of the fit under way, if there is one."""
        if self._seed is None:
            return
        found = self._made() if self._fit is None else self._fit.result()
        self.mixture, self._seed, self._fit = found.best, None, None
        self._tried = found.tried if self.config.warm_start else {}

    def _made(self) -> Fit:
        """Fit the latest full block: nothing that it reads changes before `_adopt`."""
        assert self._seed is not None
        end = len(self._rows) - self.num_learned % self.config.fit_every
        rows = np.array(self._rows[end - self.config.fit_every : end])
        config = self.config
        return fit(rows, config.components, config.criterion, self._seed, config.restarts, self._tried)
