"""The interface of an intervention: a change of the policy between two stages that no gradient makes.

Source: plasticity.md 4. Reading its options does not load torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from policies.config import Options
from policies.interventions.conditions import When

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from policies.optimizer import Optimizer
    from policies.policy import Policy

# The weights before any training; those of the boundary before, as it measured them.
Origin = Literal["base", "previous"]


class InterventionOptions(Options):
    """Options of an intervention; every one's `Config` begins with these."""

    when: When = "always"
    """At which boundaries: `always`, `after stages 2, 4`, `every 2 stages`, or a comparison of what was measured there,
    `pass_1 < .3` or `entropy_token on words < .05`. Never after the last stage."""


@dataclass(frozen=True)
class Row:
    """An episode that the policy has just played on a training task. T tokens."""

    ids_T: NDArray[np.int64]
    mask_T: NDArray[np.bool_]  # what the policy wrote


@dataclass(frozen=True)
class Subject:
    """What is given to an intervention: the policy to change, and what it may ask for.

    `with optimizer.whole_weights() as weights:` lends what it changes, in place and by name: float32 whatever the
    model's dtype, and whole where ranks share them. The model follows at the end of the block. Gradients are off.
    """

    policy: Policy  # in eval mode; to read, adapters apart
    optimizer: Optimizer
    weights_of: Callable[[Origin], Mapping[str, Tensor]]  # by name, on the CPU, in the dtype of the policy
    rows: Callable[[int], Sequence[Row]]  # so many episodes on training tasks, played anew at temperature 1
    generator: torch.Generator  # on the CPU: a stream of the run, the stage and the place in the list

    @property
    def model(self) -> Any:
        """The policy's, in eval mode; to read."""
        return self.policy.model


@dataclass(frozen=True)
class Change:
    """What an intervention did."""

    text: str  # in words, for people
    is_any: bool = True  # False: it found nothing to do, and everything is as it was, bit for bit


class Intervention(ABC):
    """Changes a policy between two stages."""

    reads: frozenset[Origin] = frozenset()  # the weights of then that it will ask for
    moves_weights: bool = True  # False: only the optimiser's state, so nothing is measured again

    def require_suited(self, model: Any) -> None:  # noqa: B027 - most suit any model
        """Raise PolicyError for a model that it cannot change; called before a run begins."""

    @abstractmethod
    def apply(self, subject: Subject) -> Change:
        """Change the policy, and say what was done."""
