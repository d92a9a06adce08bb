"""A uniformly random environment for every stage.

Source: RLVE (arXiv 2511.07317) draws environments so. It learns nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

from orchestrator.bandits.contracts import ChooserConfig
from orchestrator.bandits.uniform import Uniform

SOURCE = "arXiv 2511.07317"


class Config(ChooserConfig):
    type: Literal["uniform"] = "uniform"


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> Uniform:
    return Uniform(arms, rng)
