"""The curve of a probe: what a copy is found to do while it is trained, every so many steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, isfinite
from statistics import fmean

from policies.errors import NonFiniteLogits

WARMUP = 0.1  # of the steps: over so many the learning rate rises; then it is constant (plasticity.md 3.1)
BETAS = (0.9, 0.99)  # of AdamW, without weight decay
CLIP_NORM = 1.0


@dataclass(frozen=True)
class Budget:
    """How long a copy is trained, and how fast."""

    steps: int  # of the optimiser
    lr: float
    looks: frozenset[int]  # after which steps there is one; 0: before the first
    micro_tokens: int  # padded tokens in one forward and backward

    @property
    def warmup(self) -> int:
        """Steps over which the learning rate rises."""
        return ceil(WARMUP * self.steps)

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 1."""
        return self.lr * min(1.0, step / self.warmup)


@dataclass
class Curve:
    """Numbers by (step, name). Step 0: before any. A copy that diverges leaves a curve that ends early."""

    points: dict[tuple[int, str], float] = field(default_factory=dict)
    num_updates: int = 0  # of the copy
    num_refused: int = 0  # updates left out, as their gradient was not finite
    _since: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def note(self, **values: float) -> None:
        """Gather numbers of a step; their means since the last look belong to the next one."""
        for name, value in values.items():
            self._since[name].append(value)

    def count(self, num_updates: int, num_refused: int) -> None:
        """Count updates, and those that were left out."""
        self.num_updates += num_updates
        self.num_refused += num_refused

    def look(self, step: int, values: Mapping[str, float]) -> None:
        """Enter what was found after a step, with the means of what was gathered; those not finite are left out."""
        means = {name: fmean(own) for name, own in self._since.items()}
        self._since.clear()
        self.points |= {(step, name): value for name, value in {**means, **values}.items() if isfinite(value)}


def require_finite_loss(loss: float, step: int) -> None:
    """Refuse a loss that is none: no later step could have one either."""
    if not isfinite(loss):
        raise NonFiniteLogits(f"the loss of a probe's copy is not finite in its step {step}", step)
