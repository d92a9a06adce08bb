"""The kinds of part an objective is made of, and what each gives (objectives.md 2.2).

Parts are pure functions on tensors, without gradient. B sequences, T tokens of the longest row. Values off the
mask arrive as 0 and may leave as anything finite: the objective masks what comes out.

Part files import torch for type checkers only and work with tensor methods, so that reading a spec, which looks
into their options, does not load torch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from pydantic import ConfigDict

from policies.config import Options
from policies.objectives.contracts import Need, Rows, Totals
from policies.objectives.errors import ObjectiveError, expect_keys

if TYPE_CHECKING:
    from torch import Tensor

MAX_LOG_RATIO = 20.0  # log-ratios are clamped to +- this before exp


class PartOptions(Options):
    """The options of one part. In a spec they are keys of the `objective:` section itself."""

    model_config = ConfigDict(allow_inf_nan=False)


@dataclass(frozen=True)
class Outcomes:
    """What an estimator reads: a step's rewards, all groups of it together."""

    reward_B: Tensor  # float64
    group_B: Tensor  # int64
    num_tokens_B: Tensor  # int64, tokens the policy wrote


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


F = TypeVar("F")


@dataclass(frozen=True)
class Part(Generic[F]):
    """A part as composed: a function, what the learner has to compute for it, and what it makes of an advantage of 0.

    `zero_stays_zero`: where the advantage is 0 a shaper gives 0 again, and a ratio rule or a term no coefficient,
    whatever the log-probs are. If all parts say so, rows without an advantage are not run at all. A part that says
    nothing is taken to act on them.
    """

    apply: F
    needs: frozenset[Need] = frozenset()
    zero_stays_zero: bool = False


Estimator: TypeAlias = "Part[Callable[[Outcomes], Tensor]]"  # to one advantage a sequence, [B]
Shaper: TypeAlias = "Part[Callable[[Tensor, Rows, Totals], Shaped]]"  # the tensor: advantages so far, [B, T]
RatioRule: TypeAlias = "Part[Callable[[Tensor, Rows], Ratio]]"  # the tensor: shaped advantages, [B, T]
Term: TypeAlias = "Part[Callable[[Rows, Totals], Added]]"


class Controller(ABC):
    """One coefficient, moved once a step by one reading; the new value holds from the next step.

    A missing or non-finite reading leaves the value where it is. `target` has the unit of the reading: in a run
    both are fractions of the entropy at the start (see `reading.py`).
    """

    def __init__(self, target: float, start: float) -> None:
        self.target = target
        self.value = start

    def update(self, reading: float | None) -> float:
        """Move the value by one step, and return it."""
        if reading is not None and math.isfinite(reading):
            self.value = self.move(self.value, reading)
        return self.value

    @abstractmethod
    def move(self, value: float, reading: float) -> float:
        """Where the value goes from here; a pure function."""

    @property
    @abstractmethod
    def is_at_bound(self) -> bool:
        """Whether the value is as large as it may become: the controller may have run out of force."""

    def state(self) -> dict[str, float]:
        """All that is needed to go on identically, as JSON."""
        return {"value": self.value}

    def load_state(self, state: Mapping[str, float]) -> None:
        """Go on from a saved state; `ObjectiveError` when it does not fit."""
        expect_keys(state, {"value"}, type(self).__name__)
        if not math.isfinite(state["value"]):
            raise ObjectiveError(
                f"the saved value of {type(self).__name__} is {state['value']}, not a number"
            )
        self.value = float(state["value"])
