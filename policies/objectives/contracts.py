"""The seams of an objective: what a part reads, and the two coefficients it fills.

Dimension letters: B sequences, T tokens of the longest row (prompt included). Every tensor is float32 (float64
in tests) and carries no gradient. Everything is computed at the sampling temperature, in nats.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from policies.objectives.groups import group_size

if TYPE_CHECKING:
    from torch import Tensor


Need = Literal["lp_old", "lp_roll", "lp_ref", "mean_lp", "entropy", "entropy_grad"]


@dataclass(frozen=True)
class Batch:
    """A step's trajectories as padded tensors; padding is on the right."""

    ids_BT: Tensor  # int64, pad id is arbitrary: nothing reads it
    mask_BT: Tensor  # bool, True on tokens the policy wrote
    lp_roll_BT: Tensor  # float32, the sampler's log-prob on masked tokens, 0 elsewhere
    length_B: Tensor  # int64, whole row without padding
    group_B: Tensor  # int64
    reward_B: Tensor  # float32
    advantage_B: Tensor  # float32, from the estimator

    @property
    def num_lone_groups(self) -> int:
        """How many groups of a whole step have one member: nothing to compare with, so their advantage is 0."""
        return int((group_size(self.group_B) == 1).sum())

    def take(self, rows: Tensor) -> Batch:
        """Take some rows, trimmed to the longest of them."""
        width = int(self.length_B[rows].max())
        return Batch(
            self.ids_BT[rows, :width],
            self.mask_BT[rows, :width],
            self.lp_roll_BT[rows, :width],
            self.length_B[rows],
            self.group_B[rows],
            self.reward_B[rows],
            self.advantage_B[rows],
        )


@dataclass(frozen=True)
class Rows:
    """What the parts of an objective may read about a micro-batch. Values off the mask are 0.

    Not whole groups: a row that could get no coefficient is not run, and a group may be cut.
    """

    mask_BT: Tensor  # bool
    advantage_BT: Tensor  # the estimator's, spread over the policy's tokens
    lp_BT: Tensor  # log-prob under the policy being updated, gradient stopped
    lp_old_BT: Tensor  # under the weights at the start of the step
    lp_roll_BT: Tensor  # as the sampler reported it
    entropy_BT: Tensor | None = None  # of the full distribution, only if a part needs it
    group_B: Tensor | None = None  # int64


@dataclass(frozen=True)
class Totals:
    """Sizes of the whole update, over all its micro-batches and ranks."""

    num_tokens: int  # tokens the policy wrote
    num_sequences: int  # sequences with at least one such token
    mean_lp: float | None = None  # mean log-prob over the valid tokens of the step; None: nobody needs it


@dataclass(frozen=True)
class Coefficients:
    """W multiplies the log-probs, K the entropies: loss = -(W * lp).sum() - (K * H).sum()."""

    w_BT: Tensor
    k_BT: Tensor | None  # None: no part pushes on the entropy through its gradient
    sums: dict[str, tuple[float, float]]  # metrics as (sum, count): they add over micro-batches and ranks
    maxima: dict[str, float] = field(default_factory=dict)  # never negative: the largest of all micro-batches
