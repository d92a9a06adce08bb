"""The spec's `objective:` section: a preset, the names of its parts, and the options of those parts.

    objective: repo_r
    objective: {preset: repo_r, clip_high: 0.3}
    objective: {preset: rloo, shaper: repo, centre: batch, controller: {type: geometric, target: 0.5}}

Importing and validating it does not load torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from policies.objectives import methods
from policies.objectives.aggregations import AGGREGATIONS
from policies.objectives.errors import ObjectiveError
from policies.objectives.methods import Kind
from policies.objectives.parts import Controller
from policies.objectives.presets import DEFAULT, PRESETS
from policies.objectives.sections import Section, one_of

PresetName = Annotated[str, one_of("preset", lambda: list(PRESETS))]
EstimatorName = Annotated[str, one_of("estimator", lambda: methods.names("estimators"))]
ShaperName = Annotated[str, one_of("shaper", lambda: methods.names("shapers"))]
RatioName = Annotated[str, one_of("ratio rule", lambda: methods.names("ratio_rules"))]
TermName = Annotated[str, one_of("term", lambda: methods.names("terms"))]
ControllerName = Annotated[str, one_of("controller", lambda: methods.names("controllers"))]
AggregationName = Annotated[str, one_of("aggregation", lambda: list(AGGREGATIONS))]


class ControllerConfig(Section):
    """What moves one coefficient by the entropy that is read. A plain string stands for `{type: string}`.

    Further keys are those of `controllers/<type>.py`, such as `target`, a fraction of the entropy at the start.
    """

    type: ControllerName
    """A file of `controllers/`."""
    knob: str | None = None
    """The option it moves; null: the shaper's strength, without a shaper the entropy bonus."""
    start: float | None = None
    """Where the knob starts: another way to give that option."""

    @model_validator(mode="after")
    def _options_fit(self) -> ControllerConfig:
        self.complete_options([self.method], droppable={})
        return self

    @property
    def method(self) -> ModuleType:
        """The controller's module."""
        return methods.load("controllers", self.type)


class ObjectiveConfig(Section):
    """What the `objective:` section resolves to. A plain string stands for `{preset: string}`.

    The fields name the parts, further keys are the options of those parts. The dump is the resolved objective;
    read again, it gives the same.
    """

    preset: PresetName = DEFAULT
    """Where values that are not given come from (`presets.py`)."""
    estimator: EstimatorName = "rloo"
    """From rewards to advantages: a file of `estimators/`."""
    shaper: ShaperName | None = None
    """What changes advantages token by token: a file of `shapers/`; null: nothing does."""
    mismatch: ShaperName = "tis"
    """The weight against the mismatch of sampler and trainer, after the shaper; `tis_cap: null` turns it off."""
    ratio: RatioName = "ppo"
    """How far the policy may move from the start of the step: a file of `ratio_rules/`."""
    terms: tuple[TermName, ...] = ("entropy_bonus",)
    """What is added to the loss: files of `terms/`; one with a coefficient of 0 is off."""
    aggregation: AggregationName = "token_mean"
    """How much each token weighs (`aggregations.py`)."""
    max_length: int | None = Field(default=None, ge=1)
    """Of `aggregation: constant`, tokens: usually the sampler's `max_tokens`."""
    updates: int = Field(default=1, ge=1)
    """Optimiser updates a step, unless the learner's section says otherwise."""
    reward: Literal["value", "correct"] = "value"
    """What of a score the policy is rewarded with."""
    controller: ControllerConfig | None = None
    """What moves the force on entropy, once a step; `none`: nothing does."""
    reading: Literal["corrected", "raw"] = "corrected"
    """The entropy that a controller reads: corrected for the mix of tasks, or the plain mean (`reading.py`)."""

    @model_validator(mode="before")
    @classmethod
    def _over_the_preset(cls, value: Any) -> Any:
        given = {"preset": value} if isinstance(value, str) else value
        if not isinstance(given, Mapping):
            return given
        preset = PRESETS.get(str(given.get("preset", DEFAULT)))
        overrides = dict(preset.overrides) if preset else {}
        merged = overrides | dict(given)
        if "controller" in given:
            merged["controller"] = _over_the_preset_controller(
                given["controller"], overrides.get("controller", {})
            )
        return merged

    @model_validator(mode="after")
    def _parts_fit(self) -> ObjectiveConfig:
        self._fold_start()
        preset = PRESETS[self.preset].overrides
        self.complete_options([methods.load(*part) for part in self.parts()], droppable=preset)
        if self.shaper == self.mismatch:
            raise ObjectiveError(
                f"`{self.shaper}` is both the shaper and the mismatch weight: leave `shaper` out"
            )
        if self.aggregation == "constant" and self.max_length is None:
            raise ObjectiveError(
                "`aggregation: constant` needs `max_length`, usually the sampler's `max_tokens`"
            )
        self.create_controller()
        return self

    def parts(self) -> list[tuple[Kind, str]]:
        """List the parts by kind and name, in the order in which they act."""
        shapers = [name for name in (self.shaper, self.mismatch) if name]
        return [
            ("estimators", self.estimator),
            *(("shapers", name) for name in shapers),
            ("ratio_rules", self.ratio),
            *(("terms", name) for name in self.terms),
        ]

    @property
    def knob(self) -> str | None:
        """The option that the controller moves: the shaper's strength before any other; None without one."""
        if self.controller is None:
            return None
        return self.controller.knob or next(iter(self._strengths()), None)

    @property
    def weighs_mismatch(self) -> bool:
        """Whether tokens that older weights wrote are weighed."""
        return self.options.get("tis_cap") is not None

    def create_controller(self) -> Controller | None:
        """Make the controller at its start; `ObjectiveError` when it has nothing to move or cannot start there."""
        if self.controller is None:
            return None
        start = self.options.get(self.knob or "")
        if not isinstance(start, float):
            raise ObjectiveError(
                f"the controller `{self.controller.type}` has no coefficient to move"
                + (f" (`{self.knob}` is none)" if self.knob else "")
                + ": add a shaper with a strength (repo, repo_r) or an `entropy_bonus`, or say `controller: none`"
            )
        method = self.controller.method
        controller: Controller = method.create(self.controller.options_of(method), start)
        return controller

    def warnings(self) -> list[str]:
        """List what is allowed and usually a mistake, one sentence each."""
        found = [
            _FIXED_PUSH.format(strength=strength, value=self.options[strength])
            for strength, method in self._strengths().items()
            if getattr(method, "PUSHES_ENTROPY", False)
            and strength != self.knob
            and self.options[strength] != 0
        ]
        if self.controller and self.reading == "raw":
            found.append(_RAW_READING)
        if self.ratio == "reinforce" and self.updates > 1:
            found.append(_STALE.format(updates=self.updates))
        return found

    def _strengths(self) -> dict[str, ModuleType]:
        """The options that say how hard a part acts on entropy, of the parts that are on."""
        named = [(kind, methods.load(kind, name)) for kind, name in self.parts()]
        return {
            method.KNOB: method
            for kind, method in named
            if hasattr(method, "KNOB") and (kind == "shapers" or self.options.get(method.KNOB))
        }

    def _fold_start(self) -> None:
        """Write the controller's `start` into the option that it moves."""
        start = self.controller.start if self.controller else None
        if start is None or self.knob is None:
            return
        given = self.options.get(self.knob, start)
        if given not in (start, PRESETS[self.preset].overrides.get(self.knob)):
            raise ObjectiveError(
                f"`{self.knob}` is {given} and the controller's `start` is {start}: give one of them"
            )
        self.options[self.knob] = start


_FIXED_PUSH = (
    "`{strength}: {value:g}` is fixed: nothing can lower it. Measured with REPO, a fixed strength destroyed the "
    "policy on tasks of several tokens (entropy at its ceiling, accuracy 0 within 50 steps): most groups have no "
    "spread there, and nothing opposes the push. Give it a controller, such as `geometric`, unless that is what "
    "you study."
)
_RAW_READING = (
    "`reading: raw` moves with the mix of tasks, so that the controller chases the bandit. It is there to "
    "reproduce papers."
)
_STALE = (
    "`ratio: reinforce` with {updates} updates a step: later updates take stale samples for fresh ones. Take "
    "`ratio: ppo`, or one update."
)


def _over_the_preset_controller(given: Any, base: Mapping[str, Any]) -> Any:
    """Lay a controller as given over the preset's; another type keeps nothing of it but the knob."""
    if given is None or given == "none":
        return None
    if isinstance(given, str):
        given = {"type": given}
    if not isinstance(given, Mapping):
        return given
    same_type = given.get("type", base.get("type")) == base.get("type")
    return {k: v for k, v in base.items() if same_type or k == "knob"} | dict(given)
