"""One unit for rewards of unknown range: their place between the quantiles of their own history.

    y = clip((x - low) / (high - low), 0, 1),  low and high the 20 and 80 % quantiles of the last thousand rewards

Source: the reward scaling of arXiv 1704.03003 (there to [-1, 1]); curricula reference, section 3.9. The history is the
last values, not a random sample of all: exact, without chance, and it forgets. Two rules keep noise small where nothing
happens: low and high stay as they are while the quantiles are less than 1e-6 apart, and a range is never less than a
tenth of the widest that there was (a share, because the rewards' unit is unknown; our choice).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.bandits.contracts import Floats

QUANTILES = (0.2, 0.8)
FLAT = 1e-6  # quantiles closer than this are one value
LEAST_SHARE = 0.1  # of the widest range so far


class QuantileScale:
    """Maps rewards to [0, 1]; `add` what was earned, then `scale` it.

    Args:
        history: how many of the last values the quantiles are of.
    """

    def __init__(self, history: int = 1000) -> None:
        self._values: deque[float] = deque(maxlen=history)
        self.low = self.high = self.widest = 0.0

    @property
    def is_known(self) -> bool:
        """Whether there was any spread yet; before, `scale` gives 0 up to the only value seen, and 1 above."""
        return self.widest > 0

    def add(self, values: Sequence[float] | Floats) -> None:
        """Take values into the history, the oldest first."""
        if not len(values):
            return
        self._values.extend(np.asarray(values, np.float64).tolist())
        low, high = np.quantile(np.array(self._values), QUANTILES).tolist()
        if high - low >= FLAT:
            self.widest = max(self.widest, high - low)
            missing = max(0.0, LEAST_SHARE * self.widest - (high - low))
            self.low, self.high = low - missing / 2, high + missing / 2
        elif not self.is_known:
            self.low = self.high = low

    def scale(self, values: Sequence[float] | Floats) -> Floats:
        """Place of each value between low and high, in [0, 1]."""
        x = np.asarray(values, np.float64)
        if not self.is_known:
            return (x > self.low).astype(np.float64)
        return np.clip((x - self.low) / (self.high - self.low), 0.0, 1.0)

    def state(self) -> dict[str, Any]:
        """Everything, as JSON."""
        return {"values": list(self._values), "low": self.low, "high": self.high, "widest": self.widest}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self._values = deque(state["values"], self._values.maxlen)
        self.low, self.high, self.widest = state["low"], state["high"], state["widest"]
