"""The kinds of part an objective is made of, and what each gives (objectives.md 2.2).

Parts are pure functions on tensors, without gradient. B sequences, T tokens of the longest row. Values off the
mask arrive as 0 and may leave as anything finite: the objective masks what comes out.

What a part must remember from one step to the next it keeps in its `PartState`, which is in the checkpoint. Only
estimators, reward maps and surveys get one: they run once a step, the rest once a micro-batch.

Part files import torch for type checkers only and work with tensor methods, so that reading a spec, which looks
into their options, does not load torch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import numpy as np
from pydantic import ConfigDict

from policies.config import Options
from policies.objectives.contracts import Need, ShapedRows, SurveyResult, Totals
from policies.objectives.entropy_reading import ENTROPY
from policies.objectives.errors import ObjectiveError, expect_keys

if TYPE_CHECKING:
    from torch import Tensor

MAX_LOG_RATIO = 20.0  # log-ratios are clamped to +- this before exp


class PartOptions(Options):
    """The options of one part. In a spec they are keys of the `objective:` section itself."""

    model_config = ConfigDict(allow_inf_nan=False)


@dataclass(frozen=True)
class PartState:
    """What one part remembers between steps, and its source of chance."""

    kept: dict[str, Any]  # plain data, the part's own to change; in the checkpoint
    rng: np.random.Generator  # the objective's; in the checkpoint
    log: dict[str, float] = field(default_factory=dict)  # metrics of this step, for the part to fill


@dataclass(frozen=True)
class Outcomes:
    """What estimators and reward maps read: a step's outcomes, all groups of it together. Floats are float64."""

    reward_B: Tensor
    group_B: Tensor  # int64
    num_tokens_B: Tensor  # int64, tokens the policy wrote
    mask_BT: Tensor  # bool
    entropy_BT: Tensor  # as the sampler reported it, or its estimate; 0 off the mask
    is_answer_BT: Tensor  # bool, tokens behind the closing think tag; nowhere without one
    correct_B: Tensor  # bool, what the verifier said
    components: Mapping[str, Tensor]  # [B] each, named parts of the score; NaN where a score has none
    answer_B: Tensor  # int64, equal numbers are equal answers
    was_cut_off_B: Tensor  # bool
    arm_B: Tensor  # int64, places in `arms`
    arms: tuple[str, ...]  # "environment/category"
    kl_BT: Tensor | None = None  # lp_roll - lp_ref; None: no part needs the reference


@dataclass(frozen=True)
class Shaped:
    """What a shaper gives; `means` and `maxima` are values of each token ([B, T]), to be logged."""

    advantage_BT: Tensor
    means: Mapping[str, Tensor] = field(default_factory=dict)
    maxima: Mapping[str, Tensor] = field(default_factory=dict)  # of values that are never negative


@dataclass(frozen=True)
class Ratio:
    """What a ratio rule gives. The gradient of `value` with respect to lp is `-advantage * c`."""

    c_BT: Tensor  # multiplies the advantage; 0 where the token is clipped
    value_BT: Tensor  # the conventional loss of each token, for the log
    clipped_BT: Tensor  # bool


@dataclass(frozen=True)
class Added:
    """What a term gives, before aggregation. `value` is weighed as `k` is when there is a `k`, else as `w`."""

    value_BT: Tensor
    w_BT: Tensor | None = None  # weighed like the policy loss
    k_BT: Tensor | None = None  # weighed as a mean over tokens, always
    means: Mapping[str, Tensor] = field(default_factory=dict)  # of each token, to be logged


F = TypeVar("F")
Products: TypeAlias = Mapping[str, Mapping[str, float]]  # inner products of gradients, by the names of both
Survey: TypeAlias = Callable[[ShapedRows, Totals, PartState], SurveyResult]


@dataclass(frozen=True)
class Part(Generic[F]):
    """A part as composed: a function, what the learner has to compute for it, and what it makes of an advantage of 0.

    `zero_stays_zero`: where the advantage is 0 a shaper gives 0 again, and a ratio rule or a term no coefficient,
    whatever the log-probs are. If all parts say so, rows without an advantage are not run at all. A part that says
    nothing is taken to act on them.

    `survey`: looks at the whole step before its updates, once, at the start-of-step quantities. Statistics over "the
    batch" (a quantile, a mean, the largest) belong here, so that they do not change with the micro-batch.

    `nucleus`: the entropies it reads are those of the smallest set of tokens with this mass.

    `kappa`: the filter of `old_filter` lets tokens pass whose p is at least kappa * p_max.

    `components`: of an estimator that weighs several rewards by their gradients, the advantages [B] of each, by name.
    `hear` is then told the inner products of their gradients, once a step.
    """

    apply: F
    needs: frozenset[Need] = frozenset()
    zero_stays_zero: bool = False
    survey: Survey | None = None
    nucleus: float | None = None
    kappa: float | None = None
    components: Callable[[Outcomes], Mapping[str, Tensor]] | None = None
    hear: Callable[[Products, PartState], None] | None = None


# To one advantage a sequence, [B], or a token, [B, T].
Estimator: TypeAlias = "Part[Callable[[Outcomes, PartState], Tensor]]"
RewardMap: TypeAlias = "Part[Callable[[Outcomes, PartState], Tensor]]"  # to other rewards, [B]
Shaper: TypeAlias = (
    "Part[Callable[[Tensor, ShapedRows, Totals], Shaped]]"  # the tensor: advantages so far, [B, T]
)
RatioRule: TypeAlias = "Part[Callable[[Tensor, ShapedRows], Ratio]]"  # the tensor: shaped advantages, [B, T]
Term: TypeAlias = "Part[Callable[[ShapedRows, Totals], Added]]"


class Controller(ABC):
    """One coefficient, moved once a step; the new value holds from the next step.

    Most steer an entropy to a target and are a `Steering` (`targets.py`). What a controller keeps beside its value are
    numbers in `kept`, so that they are in the checkpoint.
    """

    reads: str | None = ENTROPY  # the metric of the step that moves it; None: it goes by the steps alone

    def __init__(self, start: float) -> None:
        self.value = start
        self.kept: dict[str, float] = {}

    def update(self, reading: float | None) -> float:
        """Move the value by one step, and return it. What is not finite counts as no reading."""
        is_read = reading is not None and math.isfinite(reading)
        self.value = self.move(reading if is_read else None)
        return self.value

    @abstractmethod
    def move(self, reading: float | None) -> float:
        """Where the value goes from here; None, nothing was read: a controller that reads stays where it is."""

    @property
    @abstractmethod
    def is_at_bound(self) -> bool:
        """Whether the value is as large as it may become: the controller may have run out of force."""

    @property
    def target(self) -> float | None:
        """What the reading is steered to now; None: nothing, or not known yet."""
        return None

    def rescale(self) -> None:  # noqa: B027
        """Forget what the readings were so far, which are on another scale from now on; the value stays."""

    def state(self) -> dict[str, Any]:
        """All that is needed to go on identically, as JSON."""
        return {"value": self.value, **self.kept}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state; `ObjectiveError` when it does not fit."""
        expect_keys(state, {"value", *self.kept}, type(self).__name__)
        for name, saved in state.items():
            if not math.isfinite(saved):
                raise ObjectiveError(f"the saved {name} of {type(self).__name__} is {saved}, not a number")
        self.value = float(state["value"])
        self.kept = {name: state[name] for name in self.kept}
