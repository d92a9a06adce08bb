"""Every environment in turn, in the order of the spec.

Source: the baseline of multi-environment training. With equal environments no bandit is known to beat it. It
learns nothing; the probability of a pick is 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

from orchestrator.bandits.contracts import ChooserConfig
from orchestrator.schedulers.sequence import Sequence

SOURCE = "baseline"


class Config(ChooserConfig):
    type: Literal["round_robin"] = "round_robin"


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> Sequence:
    order = list(arms)
    return Sequence(order, rng, order)
