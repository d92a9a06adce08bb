"""The kinds of part an objective is made of, and what each gives (objectives.md 2.2).

Parts are pure functions on tensors, without gradient. B sequences, T tokens of the longest row. Values off the
mask arrive as 0 and may leave as anything finite: the objective masks what comes out.

What a part must remember from one step to the next it keeps in its `PartState`, which is in the checkpoint. Only
estimators, reward maps and surveys get one: they run once a step, the rest once a micro-batch.

Parts take `Tensor` from here and work with tensor methods, so that reading a spec, which looks into their options,
does not load torch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, TypeAlias, TypeVar

import numpy as np
from pydantic import PrivateAttr, field_validator

from policies.config import Options
from policies.objectives.contracts import Need, ShapedRows, SurveyResult, Totals
from policies.objectives.entropy_reading import ENTROPY
from policies.objectives.errors import ObjectiveError, expect_keys

if TYPE_CHECKING:
    from torch import Tensor as Tensor
else:
    Tensor = Any

Kind = Literal[
    "plans",
    "reward_maps",
    "estimators",
    "shapers",
    "mismatch_weights",
    "ratio_rules",
    "terms",
    "controllers",
    "aggregations",
]
MOST_FLOAT32 = float(np.finfo(np.float32).max)
MAX_LOG_RATIO = 20.0  # log-ratios are clamped to +- this before exp


def clamped(log_ratio_BT: Tensor) -> Tensor:
    """Log-ratios held in +-20, before they are exponentiated or added up."""
    return log_ratio_BT.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def exp_clamped(log_ratio_BT: Tensor) -> Tensor:
    """The ratios of log-ratios clamped to +-20."""
    return clamped(log_ratio_BT).exp()


def given(value: F | None, reads: str) -> F:
    """What a part reads and the learner has to give; an `ObjectiveError` that begins with `reads` where it did not."""
    if value is None:
        raise ObjectiveError(f"{reads}, and was given none")
    return value


class PartOptions(Options):
    """The options of one part. In a spec they are keys of the `objective:` section itself."""

    _moved: frozenset[str] = PrivateAttr(frozenset())  # those that controllers move

    def moved_by(self, knobs: Collection[str | None]) -> Self:
        """The same, with the knobs of the objective's controllers."""
        copy = self.model_copy()
        copy._moved = frozenset(type(self).model_fields) & frozenset(knobs)
        return copy

    def is_off(self, strength: str) -> bool:
        """Whether a strength is 0 for good. One that a controller moves is not: at 0 it goes on being measured."""
        return getattr(self, strength) == 0 and strength not in self._moved

    @field_validator("*")
    @classmethod
    def _fits_a_tensor(cls, value: Any) -> Any:
        if isinstance(value, float) and abs(value) > MOST_FLOAT32:
            raise ValueError(f"at most {MOST_FLOAT32:.1e} fits into a tensor, not {value:g}")
        return value


class ControllerOptions(PartOptions):
    """The options of a controller, keys of its own section. What it says of itself may depend on them."""

    has_target: ClassVar[bool] = False  # it compares a reading with a target; a schedule does not look

    @property
    def reach(self) -> tuple[float, ...]:
        """Values that the coefficient may come to, the extreme ones; empty where it knows none."""
        return ()

    @property
    def steers_entropy(self) -> bool:
        """Whether it moves the coefficient so that the entropy comes to a target."""
        return False

    @property
    def moves_each_environment(self) -> bool:
        """Whether it moves one coefficient for each environment."""
        return False

    @property
    def falls_below_target(self) -> bool:
        """Whether the coefficient falls where the reading is below its target: right for one that lowers it."""
        return False


@dataclass(frozen=True)
class PartInfo:
    """What a part says of itself: `INFO = PartInfo(...)` in its module. The defaults hold for most parts.

    The rules about what goes together (`compatibility.py`) ask for these and for no names, of a user's part as of ours.
    """

    missing: str | None = None  # what of it is not verified: then it is experimental
    differs: str | None = None  # where it departs on purpose from the code that it was checked against
    knob: str | None = None  # option that a controller moves by default; of a controller: what it is made for
    idle_at_one_update: bool = False  # it does nothing with one update a step
    pushes_entropy: bool = False  # it acts on entropy even where no group has a signal
    lowers_entropy: bool = False  # its options lower entropy where they are positive
    raises_entropy: tuple[str, ...] = ()  # its options that raise entropy as they grow; of a shaper all do
    notes: tuple[str, ...] = ()  # what its survey notes of tokens for other parts
    # what it remembers means nothing with another one of these: options of its own, `reward`, `reward_maps`, and the
    # `temperature` of the samples; a fork that changes one has it begin anew
    memory_of: tuple[str, ...] = ()
    # says what is usually a mistake in the objective's options, or None
    warn: Callable[[Mapping[str, Any]], str | None] | None = None

    # of a reward map or an estimator: how many tokens an answer has, or numbers of each: one that is masked has none
    reads_tokens: bool = False
    components: str | None = None  # of these: its option that names the components of the score that it weighs
    compares_groups: bool = True  # of an estimator: advantages compare samples inside a group
    learns_from_even_groups: bool = False  # of an estimator: also from groups without spread
    subtracts: bool = False  # of a shaper: from the advantage, which therefore must not be weighed yet
    by_environment: bool = False  # of a shaper: its knob may have another value for each (`ShapedRows.strengths`)
    weighs_by_mean_lp: bool = False  # of a shaper: an answer is weighed by its mean log-prob
    is_importance_weight: bool = False  # of a mismatch weight: a ratio of probabilities, no mask
    anchor: Literal["lp_old", "lp_roll"] = "lp_old"  # of a ratio rule: what it is to; lp_roll: the sampler
    # of a ratio rule: stale samples are held near the start of the step, only weighed, or taken for fresh ones
    stale_samples: Literal["bounded", "weighed", "ignored"] = "bounded"
    clips_freed_tokens: bool = True  # of a ratio rule: also those that a term frees
    reads: tuple[str, ...] = ()  # of a ratio rule: what a shaper has to note
    is_of_sequences: bool = False  # of a ratio rule: one ratio a sequence
    holds: bool = False  # of a term: it keeps the policy near the start of the step, a ratio rule need not
    frees_tokens: bool = False  # of a term: from the ratio rule's clip
    # of a plan: what a run carries out for it
    plan: Literal["drops_even_groups", "sizes_groups", "adds_tempered_rows"] | None = None
    cost: str = ""  # of a plan: what it costs in generation
    needs_max_length: bool = False  # of an aggregation
    weighs_sequences_alike: bool = False  # of an aggregation


@dataclass(frozen=True)
class PartModule:
    """A part as its module defines it."""

    kind: Kind
    name: str
    source: str  # the paper
    Config: type[PartOptions]
    create: Callable[..., Any]  # of options (a controller's also of its start) a part; None: they turn it off
    info: PartInfo = PartInfo()
    text: str = ""  # the docstring


@dataclass(frozen=True)
class Preset:
    """One named objective. Texts are sentences for people, without a full stop at the end."""

    about: str  # what it is, in one line
    source: str
    overrides: Mapping[str, Any] = field(default_factory=dict)  # of the defaults of `ObjectiveConfig`
    missing: str | None = None  # what is not verified; None: checked against maintained code or the authors'
    differs: str | None = None  # where the composition departs from that code on purpose; parts say their own
    entropy: str = "neutral"  # its expected effect on entropy against plain GRPO
    use: str = ""  # when it is the right choice
    beware: str = ""  # its main hazard

    @property
    def verified(self) -> bool:
        """Whether formula and constants were checked against the authors' or a maintained implementation."""
        return self.missing is None


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

    def chosen_components(self, names: Collection[str], option: str) -> Mapping[str, Tensor]:
        """The components of these names, [B] each; all there are without names. `option` is where the user named them.

        `ObjectiveError` when a sample lacks one: a missing component is not a 0.
        """
        known = self.components
        here = {self.arms[place].partition("/")[0] for place in self.arm_B.unique().tolist()}  # type: ignore[no-untyped-call]
        expect_components(known, names, option, sorted(here))
        lacking = {name for name, value_B in known.items() if bool(value_B.isnan().any())}
        wanted = list(names) or list(known)
        for name in wanted:
            if name in lacking:
                complete = ", ".join(other for other in known if other not in lacking) or "none"
                have = f"components that every score has: {complete}; all: {', '.join(known)}"
                places = self.arm_B[known[name].isnan()].unique().tolist()  # type: ignore[no-untyped-call]
                arms = ", ".join(self.arms[place] for place in places)
                raise ObjectiveError(
                    f"scores of {arms} have no component `{name}` ({have}): name in `{option}` those that all arms "
                    "have, or give the others an objective of their own (`objective: {by: ...}`)"
                )
        return {name: known[name] for name in wanted}


def expect_components(
    known: Collection[str], names: Collection[str], option: str, environments: Collection[str]
) -> None:
    """Raise `ObjectiveError` where no score of these environments has a component that `option` weighs.

    `known`: components that any of their scores has. `names`: those that the option names; none: all that there are.
    """
    here, own = ", ".join(environments), ", ".join(f"{name}: rloo" for name in environments)
    instead = (
        f"an objective that reads the reward there, in a new run or a fork, for example `objective: {{by: {{{own}}}}}`"
    )
    if not known:
        raise ObjectiveError(
            f"`{option}` weighs components of the score, and no score of {here} has any: take {instead}"
        )
    if unknown := [name for name in names if name not in known]:
        raise ObjectiveError(
            f"no score of {here} has a component `{unknown[0]}` (all that there are: {', '.join(sorted(known))}): "
            f"change `{option}`, or take {instead}"
        )


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
    """A part as composed: a function, and what the learner has to compute for it."""

    apply: F
    needs: frozenset[Need] = frozenset()
    # where the advantage is 0 a shaper gives 0 again, and a ratio rule or a term no coefficient, whatever the log-probs
    # are; if all parts say so, rows without an advantage are not run at all
    zero_stays_zero: bool = False
    # looks at the whole step once, at its start: statistics over "the batch" that must not change with the micro-batch
    survey: Survey | None = None
    nucleus: float | None = None  # its entropies are those of the smallest set of tokens with this mass
    kappa: float | None = None  # the filter of `old_filter` lets tokens pass with p >= kappa * p_max
    # of an estimator that weighs several rewards by their gradients: the advantages [B] of each, by name; it then hears
    # the inner products of their gradients, once a step
    components: Callable[[Outcomes], Mapping[str, Tensor]] | None = None
    # of an estimator: by what its advantages are multiplied, from the group and the number of tokens of each row; in a
    # step of several updates each has that of its own rows
    factor: Callable[[Tensor, Tensor], float] | None = None
    hear: Callable[[Products, PartState], None] | None = None


# An estimator gives one advantage a sequence, [B], or a token, [B, T]; a reward map other rewards, [B]. The tensor that
# a shaper takes are the advantages so far, that of a ratio rule the shaped ones, [B, T].
Estimator: TypeAlias = "Part[Callable[[Outcomes, PartState], Tensor]]"
RewardMap: TypeAlias = "Part[Callable[[Outcomes, PartState], Tensor]]"
Shaper: TypeAlias = "Part[Callable[[Tensor, ShapedRows, Totals], Shaped]]"
RatioRule: TypeAlias = "Part[Callable[[Tensor, ShapedRows], Ratio]]"
Term: TypeAlias = "Part[Callable[[ShapedRows, Totals], Added]]"
# From the mask as numbers [B, T], the rows, the totals and `max_length` to D, what each token weighs, [B, T].
Aggregation: TypeAlias = Callable[[Tensor, ShapedRows, Totals, int | None], Tensor]


class Controller(ABC):
    """One coefficient, moved once a step; the new value holds from the next step.

    Most are a `Steering` (`controllers/__init__.py`). The numbers in `kept` are in the checkpoint beside the value.
    """

    reads: str | None = ENTROPY  # the metric of the step that moves it; None: it goes by the steps alone
    also_reads: str | None = None  # another metric of the step, which it hears of before it moves

    def __init__(self, start: float) -> None:
        self.value = start
        self.kept: dict[str, float] = {}

    @property
    def strengths(self) -> Mapping[str, float]:
        """The coefficient of each environment that has one of its own; `value` is that of the others."""
        return {}

    @property
    def level(self) -> float:
        """What is logged as the coefficient: the value, or the mean of those of environments."""
        return self.value

    def update(self, reading: float | None, environments: Mapping[str, float] = MappingProxyType({})) -> float:
        """Move the value by one step, and return it. What is not finite counts as no reading.

        `environments`: what `reads` was of each environment, where it is known of each.
        """
        self.move_each({name: own for name, own in environments.items() if math.isfinite(own)})
        is_read = reading is not None and math.isfinite(reading)
        self.value = self.move(reading if is_read else None)
        return self.value

    def hear(self, value: float) -> None:  # noqa: B027
        """Take in the step's `also_reads`, a finite number."""

    @abstractmethod
    def move(self, reading: float | None) -> float:
        """Where the value goes from here; None, nothing was read: a controller that reads stays where it is."""

    def move_each(self, readings: Mapping[str, float]) -> None:  # noqa: B027
        """Move the coefficients of single environments by what was read of each; most controllers have none."""

    @property
    def is_at_bound(self) -> bool:
        """Whether the value is as large as it may become: the controller may have run out of force."""
        return False

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
