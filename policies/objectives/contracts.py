"""The seams of an objective: the trajectories it starts from, what a part reads, the two coefficients it fills.

Dimension letters: B sequences, T tokens of the longest row (prompt included). Every tensor is float32 (float64
in tests, and rewards always) and carries no gradient. Everything is computed at the sampling temperature, in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

# What the learner computes for a part beside lp, and what that costs:
#   lp_old        log-probs at the start of the step: a pass without gradient; free with one update a step
#   lp_roll       the sampler's: free
#   lp_ref        a frozen reference's: a pass of it
#   mean_lp       the step's mean log-prob: that of lp_old; free on-policy
#   entropy       of the full distribution, without gradient: a reduction over logits that are there anyway
#   entropy_grad  the same with gradient: keeps or makes again the logits for the backward pass; the dearest
#   step          statistics of the whole step (`Part.survey`): a pass without gradient over all its rows
#   old_entropy   the entropy in that pass
#   old_filter    the log-prob after a filter on the vocabulary, in that pass (Lp-Reg)
#   drift         the mean of lp_old - lp over each update: a pass without gradient over its rows; free in the first
Need = Literal[
    "lp_old",
    "lp_roll",
    "lp_ref",
    "mean_lp",
    "entropy",
    "entropy_grad",
    "step",
    "old_entropy",
    "old_filter",
    "drift",
]


@dataclass(frozen=True)
class Trajectory:
    """One scored episode as token ids. L = length of the whole row, prompt included.

    Nothing in `ids` was ever decoded and encoded again. Unscorable episodes never become trajectories.
    """

    ids: NDArray[np.int64]  # [L] prompt, policy tokens, environment replies, in order
    mask: NDArray[np.bool_]  # [L] True on tokens the policy wrote
    logprobs: NDArray[np.float32]  # [L] log q of the sampler on masked tokens, 0 elsewhere; nats
    entropies: NDArray[np.float32] | None  # [L] entropy of q on masked tokens, 0 elsewhere; nats
    reward: float  # the score's value or correctness, as the spec says
    group: int  # episodes with the same number were played from one task
    version: int = 0  # of the weights that wrote it (the oldest, when there are several)
    arm: str = ""  # "environment/category"
    correct: bool = False  # what the verifier said, whatever the reward is
    components: Mapping[str, float] = field(default_factory=dict)  # named parts of the score
    answer: str = ""  # what was answered in the end: equal texts are equal answers
    turns: NDArray[np.int64] | None = None  # [L] number of the turn on masked tokens; None: there is one
    think_end: int | None = None  # position behind the closing think tag; None: there is none
    was_cut_off: bool = False  # by a budget of tokens, turns or context
    advantage: float | None = None  # given by the plan that played it; None: the estimator's


def is_off_policy(trajectories: Sequence[Trajectory], version: int) -> bool:
    """Whether any was not written by weights of this version, or at another temperature than the main one."""
    return any(one.version != version or one.advantage is not None for one in trajectories)


@dataclass(frozen=True)
class Batch:
    """A step's trajectories as padded tensors; padding is on the right."""

    ids_BT: Tensor  # int64, pad id is arbitrary: nothing reads it
    mask_BT: Tensor  # bool, True on tokens the policy wrote
    lp_roll_BT: Tensor  # float32, the sampler's log-prob on masked tokens, 0 elsewhere
    length_B: Tensor  # int64, whole row without padding
    group_B: Tensor  # int64
    reward_B: Tensor  # float64, before any reward map: estimates are cast only when they are done
    advantage_BT: Tensor  # float32, from the estimator (which counts in float64), 0 off the mask
    arm_B: Tensor  # int64, places in `arms`
    turn_BT: Tensor  # int64, which turn of the episode a masked token belongs to, from 0
    arms: tuple[str, ...] = ("",)  # "environment/category"
    lp_ref_BT: Tensor | None = None  # float32, the reference's on masked tokens, 0 elsewhere
    is_given_B: Tensor | None = None  # bool, rows whose advantage is their plan's, not the estimator's; None: none is

    @property
    def has_advantage(self) -> Tensor:
        """Which rows have an advantage that is not 0, bool [B]."""
        return (self.advantage_BT != 0).any(-1)

    def take(self, rows: Tensor) -> Batch:
        """Take some rows, trimmed to the longest of them."""
        width = int(self.length_B[rows].max())
        return self.map(lambda value: value[rows, :width] if value.ndim == 2 else value[rows])

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Change all tensors."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "arms"}
        changed: dict[str, Any] = {name: change(v) for name, v in values.items() if v is not None}
        return replace(self, **changed)


@dataclass(frozen=True)
class ShapedRows:
    """What the parts of an objective may read about a micro-batch. Values off the mask are 0.

    Not whole groups: a row that could get no coefficient is not run, and a group may be cut. In a survey they are all
    rows of the step, and lp, lp_old and both entropies are those at its start.
    """

    mask_BT: Tensor  # bool
    advantage_BT: Tensor  # the estimator's or given, spread over the policy's tokens
    lp_BT: Tensor  # log-prob under the policy being updated, gradient stopped
    lp_old_BT: Tensor  # under the weights at the start of the step
    lp_roll_BT: Tensor  # as the sampler reported it
    # of the distribution (over its nucleus, if a part says `nucleus`), if needed
    entropy_BT: Tensor | None = None
    group_B: Tensor | None = None  # int64
    lp_ref_BT: Tensor | None = None  # under the reference, if a part needs it
    entropy_old_BT: Tensor | None = None  # at the start of the step, if a part needs `old_entropy`
    # after the filter at the start of the step, if a part needs `old_filter`
    lp_proxy_BT: Tensor | None = None
    arm_B: Tensor | None = None  # int64, places in `Totals.arms`
    turn_BT: Tensor | None = None  # int64
    is_given_B: Tensor | None = None  # bool, rows whose advantage is their plan's, not the estimator's; None: none is
    noted: Mapping[str, Tensor] = field(default_factory=dict)  # [B, T], what surveys noted of these rows
    # [B, 1], by option: the coefficient of each row's environment, where a controller moves one for each
    strengths: Mapping[str, Tensor] = field(default_factory=dict)

    def take(self, is_taken_B: Tensor) -> ShapedRows:
        """Take some rows, as wide as they are."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in values.items():
            if isinstance(value, Mapping):
                values[name] = {key: one[is_taken_B] for key, one in value.items()}
            elif value is not None:
                values[name] = value[is_taken_B]
        return ShapedRows(**values)


def of_estimator(rows: Batch | ShapedRows) -> Tensor:
    """The policy's tokens whose advantage is the estimator's, bool [B, T]."""
    return rows.mask_BT if rows.is_given_B is None else rows.mask_BT & ~rows.is_given_B[:, None]


@dataclass(frozen=True)
class Totals:
    """Sizes of the whole update, over all its micro-batches and ranks, and numbers of the whole step."""

    num_tokens: int  # tokens the policy wrote
    num_sequences: int  # sequences with at least one such token
    mean_lp: float | None = None  # mean log-prob over the valid tokens of the step; None: nobody needs it
    # of every group that has any, by its number
    group_tokens: Mapping[int, int] = field(default_factory=dict)
    arms: tuple[str, ...] = ("",)  # "environment/category"
    signal: float = 0.0  # mean |advantage| over the update's tokens that have the estimator's; 0 without one
    signals: Mapping[str, float] = field(default_factory=dict)  # the same of each environment that has any tokens
    noted: Mapping[str, float] = field(default_factory=dict)  # what surveys noted of the step
    # mean of lp_old - lp over the valid tokens of the update; None: nobody needs it
    drift: float | None = None
    # the same of the rows of each environment, where each has an objective of its own
    own: Mapping[str, Totals] = field(default_factory=dict)


@dataclass(frozen=True)
class SurveyResult:
    """What a part's survey of the whole step found, by keys that begin with its name; it holds for all updates."""

    # [B, T], handed out by row in `ShapedRows.noted`
    tokens: Mapping[str, Tensor] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)  # in `Totals.noted`
    log: Mapping[str, float] = field(default_factory=dict)  # metrics of the step
    # by arm: sum over its tokens in nats, and their number; empty unless the objective reads its entropy so
    surprisal: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Coefficients:
    """W multiplies the log-probs, K the entropies: loss = -(W * lp).sum() - (K * H).sum()."""

    w_BT: Tensor
    k_BT: Tensor | None  # None: no part pushes on the entropy through its gradient
    sums: dict[str, tuple[float, float]]  # metrics as (sum, count): they add over micro-batches and ranks
    maxima: dict[str, float] = field(default_factory=dict)  # never negative: the largest of all micro-batches
