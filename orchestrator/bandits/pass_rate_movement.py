"""Whether an arm's pass rate moves, in standard deviations of standing still; the clock counts groups.

For h in `horizons`, with n the groups that the arm had in the step, N all of them so far and s their mean score:

    fast <- fast + a (s - fast)       a = max(1 - exp(-n / h), n / N)
    slow <- slow + b (fast - slow)    b = max(1 - exp(-n / 2h), n / N)
    z_h   = |fast - slow| / sqrt(v c)     v: variance of one group's score, c: of fast - slow in units of v

Where nothing moves both averages are sums of independent scores with known weights, so c follows exactly from how many
groups each step had: 1 / N while both are plain means, 1 / 3h in the end, more than either in between. v is the mean
squared distance of groups from `fast` as it stood before them, less what `fast` itself scatters. So z_h has mean square
1 at every count, there is no unit of pass rate or of time to tune, and two horizons see fast and slow learning (the
larger of two has mean square 1.6 in the end, for 50 and 300). The clock counts groups, so the averages are equally
certain however often an arm is picked.

Source: Evergreen's own, after the learning progress of arXiv 2106.14876. z is absolute: it also sees what is forgotten.
Scores in [0, 1] are needed: a group without one moves nothing. An arm that is not picked keeps everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.bandits.contracts import Bandit, Floats, StepFeedback

VARIANCE_HORIZON = 300.0  # groups; time constant of the measured variance of one group's score
NEGLIGIBLE = 1e-12  # variance of scores that are all the same: then any movement is beyond doubt

Places = NDArray[np.intp] | slice
ALL = slice(None)  # arms

# Of each horizon: the fast average, its lead over the slow one; what both would have as variances, and as covariance,
# where nothing moves, in units of the variance of one group's score.
TRAIL = ("fast", "lead", "fast_var", "lead_var", "shared_var")


class PassRateMovement(Bandit):
    """Keeps the averages of every arm's pass rate and what they scatter.

    A rule calls `watch_movement` once, and `follow_movement` in `observe`. What it reads is of the arms `at` these
    places, by default of all.
    """

    num_scored: Floats  # groups with a score
    squares: Floats  # sum of their squared distances, older ones fading
    freedom: Floats  # what that sum is in the mean, in units of the variance of one group's score

    def watch_movement(self, horizons: Sequence[float]) -> None:
        """Keep a fast average and its lead over a slow one for each of these numbers of groups."""
        self._horizons = horizons
        trails = [f"{name}_{h:g}" for h in horizons for name in TRAIL]
        self._measured = dict.fromkeys(["num_scored", "squares", "freedom", *trails], 0.0)
        self.keep(**self._measured)

    def follow_movement(self, seen: StepFeedback) -> None:
        """Move the averages of the arms that have a score."""
        scored = ~np.isnan(seen.score)
        at, n, score = seen.at[scored], seen.num_groups[scored], seen.score[scored]
        self._measure(at, n, score, seen.num_picks[scored], seen.scatter[scored])
        self.num_scored[at] += n
        for h in self._horizons:
            self._follow(h, at, n, score)

    def pass_rate(self, at: Places = ALL) -> Floats:
        """The fast average of the first horizon; 0 without a score."""
        return self._trail(self._horizons[0])[0][at]

    def movement(self, falling: float = 1.0, at: Places = ALL) -> Floats:
        """The largest z of the arms over the horizons, times `falling` where the pass rate falls.

        Infinite until there is a second step to compare.
        """
        moved = [np.where(self._trail(h)[1][at] < 0, falling, 1.0) * self.z(h, at) for h in self._horizons]
        return np.asarray(np.max(moved, axis=0))

    def z(self, h: float, at: Places = ALL) -> Floats:
        """z_h of the arms."""
        _, lead, _, lead_var, _ = (kept[at] for kept in self._trail(h))
        deviation = np.sqrt(np.maximum(self.variance(at), NEGLIGIBLE) * lead_var)
        far = np.full(len(lead), np.inf)
        np.divide(np.abs(lead), deviation, out=far, where=deviation > 0)
        return far

    def variance(self, at: Places = ALL) -> Floats:
        """v of the arms, as measured; 0 without data."""
        squares, freedom = self.squares[at], self.freedom[at]
        return np.divide(squares, freedom, out=np.zeros(len(squares)), where=freedom > 0)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; one without all of these numbers (other horizons) begins them anew."""
        if not self._measured.keys() <= state.keys():
            state = {**state, **dict.fromkeys(self._measured, np.zeros(len(state["arms"])))}
        super().load_state(state)

    def _measure(self, at: NDArray[np.intp], n: Floats, score: Floats, num_picks: Floats, scatter: Floats) -> None:
        """Add squared distances from the first horizon's fast average; an arm's first ones are from their own mean."""
        fast, _, fast_var, _, _ = self._trail(self._horizons[0])
        is_first = self.num_scored[at] == 0
        squares = scatter + np.where(is_first, 0.0, n * (score - fast[at]) ** 2)
        freedom = num_picks + np.where(is_first, -1.0, n * fast_var[at])
        fading = np.exp(-n / VARIANCE_HORIZON)
        self.squares[at] = fading * self.squares[at] + squares
        self.freedom[at] = fading * self.freedom[at] + freedom

    def _follow(self, h: float, at: NDArray[np.intp], n: Floats, score: Floats) -> None:
        """Move the averages of the arms at these positions, and their variances with them; a score's own is 1 / n."""
        fast, lead, fast_var, lead_var, shared_var = self._trail(h)
        a, b = self._rate(h, at, n), self._rate(2 * h, at, n)
        brought = a * a / n
        old_fast, old_lead, old_shared = fast_var[at], lead_var[at], shared_var[at]
        lead[at] = (1 - b) * (lead[at] + a * (score - fast[at]))
        lead_var[at] = (1 - b) ** 2 * (old_lead - 2 * a * old_shared + a * a * old_fast + brought)
        shared_var[at] = (1 - b) * ((1 - a) * (old_shared - a * old_fast) + brought)
        fast[at] += a * (score - fast[at])
        fast_var[at] = (1 - a) ** 2 * old_fast + brought

    def _rate(self, h: float, at: NDArray[np.intp], n: Floats) -> Floats:
        """a, or b for 2h: of a plain mean at first, with the time constant h later."""
        return np.maximum(-np.expm1(-n / h), n / self.num_scored[at])

    def _trail(self, h: float) -> list[Floats]:
        """The arrays [K] of a horizon, in the order of `TRAIL`."""
        return [getattr(self, f"{name}_{h:g}") for name in TRAIL]
