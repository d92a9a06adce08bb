"""The spec's `objective:` section: a preset, the names of its parts, and the options of those parts.

    objective: repo_r
    objective: {preset: repo_r, clip_high: 0.3}
    objective: {preset: rloo, shaper: repo, centre: batch, controller: {type: geometric, target: 0.5}}

Importing and validating it does not load torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import ModuleType
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from policies.objectives import compatibility, registry
from policies.objectives.aggregations import AGGREGATIONS
from policies.objectives.entropy_reading import Mode
from policies.objectives.errors import ObjectiveError
from policies.objectives.method_options import Section, in_a_row, one_of, part_of
from policies.objectives.parts import Controller
from policies.objectives.presets import DEFAULT, PRESETS
from policies.objectives.registry import Kind

PresetName = Annotated[str, one_of("preset", lambda: list(PRESETS))]
AggregationName = Annotated[str, one_of("aggregation", lambda: list(AGGREGATIONS))]
EstimatorName = Annotated[str, part_of("estimators")]
RatioName = Annotated[str, part_of("ratio_rules")]
ControllerName = Annotated[str, part_of("controllers")]
Plans = Annotated[tuple[Annotated[str, part_of("plans")], ...], BeforeValidator(in_a_row)]
RewardMaps = Annotated[tuple[Annotated[str, part_of("reward_maps")], ...], BeforeValidator(in_a_row)]
Shapers = Annotated[tuple[Annotated[str, part_of("shapers")], ...], BeforeValidator(in_a_row)]
Weights = Annotated[tuple[Annotated[str, part_of("mismatch_weights")], ...], BeforeValidator(in_a_row)]
Terms = Annotated[tuple[Annotated[str, part_of("terms")], ...], BeforeValidator(in_a_row)]

SHORT = {"shaper": "shapers", "controller": "controllers"}  # one of them may be given without a list


class ControllerConfig(Section):
    """What moves one coefficient by one reading a step. A plain string stands for `{type: string}`.

    Further keys are those of `controllers/<type>.py`, such as `target`, a fraction of the entropy at the start.
    """

    type: ControllerName
    """A file of `controllers/`."""
    knob: str | None = None
    """The option it moves; null: the strength of the first part that has one."""
    start: float | None = None
    """Where the knob starts: another way to give that option."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"type": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _options_fit(self) -> ControllerConfig:
        self.complete_options([self.method], droppable={})
        return self

    @property
    def method(self) -> ModuleType:
        """The controller's module."""
        return registry.load("controllers", self.type)


Controllers = Annotated[tuple[ControllerConfig, ...], BeforeValidator(in_a_row)]


class ObjectiveConfig(Section):
    """What the `objective:` section resolves to. A plain string stands for `{preset: string}`.

    The fields name the parts, further keys are the options of those parts. The dump is the resolved objective;
    read again, it gives the same.
    """

    preset: PresetName = DEFAULT
    """Where values that are not given come from (`presets/`)."""
    plans: Plans = ()
    """Which samples are played, and which groups are kept: files of `plans/`."""
    reward_maps: RewardMaps = ()
    """What changes rewards before advantages are estimated: files of `reward_maps/`, in order."""
    estimator: EstimatorName = "rloo"
    """From rewards to advantages: a file of `estimators/`."""
    shapers: Shapers = ()
    """What changes advantages token by token: files of `shapers/`, in order; `shaper: x` stands for a list of one."""
    mismatch: Weights = ("tis",)
    """The weights against the mismatch of sampler and trainer, after the shapers: files of `mismatch_weights/`."""
    ratio: RatioName = "ppo"
    """How far the policy may move from the start of the step: a file of `ratio_rules/`."""
    terms: Terms = ("entropy_bonus", "kl")
    """What is added to the loss: files of `terms/`; one with a coefficient of 0 is off."""
    aggregation: AggregationName = "token_mean"
    """How much each token weighs (`aggregations.py`)."""
    max_length: int | None = Field(default=None, ge=1)
    """Of `aggregation: constant` and of parts that measure lengths, tokens: usually the sampler's `max_tokens`."""
    updates: int = Field(default=1, ge=1)
    """Optimiser updates a step, unless the learner's section says otherwise."""
    reward: Literal["value", "correct"] = "value"
    """What of a score the policy is rewarded with."""
    reference: Literal["start", "stage"] = "start"
    """Which weights a KL is taken to: those the run began with, or those the stage began with. A frozen copy of them
    is kept only while a part needs it: as much memory again as the weights take, and a pass over every step."""
    controllers: Controllers = ()
    """What moves the forces on entropy, once a step; `controller: x` stands for a list of one, `none`: nothing does."""
    reading: Mode = "corrected"
    """The entropy that a controller reads: corrected for the mix of tasks, over all categories visited so far or the
    `recent` ones, or the plain mean: `raw` (`reading.py`)."""
    entropy: Literal["sampler", "surprisal", "surprisal_iw"] = "sampler"
    """Where it is read: the sampler's entropies, the mean surprisal of the tokens drawn, or that weighed by how likely
    the learner finds them (`surprisal.py`; a pass without gradient over all rows)."""

    @model_validator(mode="before")
    @classmethod
    def _over_the_preset(cls, value: Any) -> Any:
        given = {"preset": value} if isinstance(value, str) else value
        if not isinstance(given, Mapping):
            return given
        given = _written_out(given)
        preset = PRESETS.get(str(given.get("preset", DEFAULT)))
        overrides = _written_out(preset.overrides) if preset else {}
        merged = overrides | given
        if "controllers" in given:
            merged["controllers"] = _over_the_preset_controllers(
                given["controllers"], overrides.get("controllers", ())
            )
        return merged

    @model_validator(mode="after")
    def _parts_fit(self) -> ObjectiveConfig:
        self._fold_starts()
        modules = [registry.load(*part) for part in self.parts()]
        shared = Counter(name for module in modules for name in module.Config.model_fields)
        if twice := [name for name, count in shared.items() if count > 1]:
            raise ObjectiveError(f"two parts of this objective have an option `{twice[0]}`: keep one of them")
        self.complete_options(modules, droppable=_written_out(PRESETS[self.preset].overrides))
        for refusal in compatibility.refusals(self):
            raise ObjectiveError(refusal)
        self.create_controllers()
        return self

    def parts(self) -> list[tuple[Kind, str]]:
        """List the parts by kind and name, in the order in which they act."""
        return [
            *(("plans", name) for name in self.plans),
            *(("reward_maps", name) for name in self.reward_maps),
            ("estimators", self.estimator),
            *(("shapers", name) for name in self.shapers),
            *(("mismatch_weights", name) for name in self.mismatch),
            ("ratio_rules", self.ratio),
            *(("terms", name) for name in self.terms),
        ]

    def knob_of(self, controller: ControllerConfig) -> str | None:
        """The option that a controller moves: by default the first strength there is; None without one."""
        own = getattr(controller.method, "KNOB", None)
        return controller.knob or own or next(iter(self.strengths()), None)

    @property
    def knobs(self) -> list[str | None]:
        """The options that the controllers move."""
        return [self.knob_of(controller) for controller in self.controllers]

    @property
    def weighs_mismatch(self) -> bool:
        """Whether tokens that older weights wrote are weighed; a mask alone weighs nothing."""
        return bool(compatibility.mismatch_ratios(self)) or self.anchor == "lp_roll"

    @property
    def anchor(self) -> str:
        """What the ratio rule compares with: lp_old, of the start of the step, or the sampler's lp_roll."""
        found: str = getattr(registry.load("ratio_rules", self.ratio), "ANCHOR", "lp_old")
        return found

    def create_controllers(self) -> list[Controller]:
        """Make the controllers at their start; `ObjectiveError` when one has nothing to move or cannot start there."""
        return [self._create_controller(controller) for controller in self.controllers]

    def warnings(self, updates: int | None = None) -> list[str]:
        """List what is allowed and usually a mistake, one sentence each, with so many updates a step."""
        return compatibility.warnings(self, updates or self.updates)

    def strengths(self) -> dict[str, ModuleType]:
        """The options that say how hard a part acts, of the parts that are on."""
        named = [(kind, registry.load(kind, name)) for kind, name in self.parts()]
        named_knobs = {controller.knob for controller in self.controllers}  # on, even where they stand at 0
        return {
            method.KNOB: method
            for kind, method in named
            if hasattr(method, "KNOB")
            and (kind != "terms" or self.options.get(method.KNOB) or method.KNOB in named_knobs)
        }

    def _create_controller(self, config: ControllerConfig) -> Controller:
        knob = self.knob_of(config)
        start = self.options.get(knob or "")
        if not isinstance(start, float):
            raise ObjectiveError(
                f"the controller `{config.type}` has no coefficient to move"
                + (f" (`{knob}` is none)" if knob else "")
                + ": add a shaper with a strength (repo, repo_r) or an `entropy_bonus`, or say `controller: none`"
            )
        controller: Controller = config.method.create(config.options_of(config.method), start)
        return controller

    def _fold_starts(self) -> None:
        """Write the controllers' `start` into the options that they move."""
        for controller in self.controllers:
            knob = self.knob_of(controller)
            if controller.start is None or knob is None:
                continue
            given = self.options.get(knob, controller.start)
            if given not in (controller.start, PRESETS[self.preset].overrides.get(knob)):
                raise ObjectiveError(
                    f"`controller.start` is {controller.start:g} and `{knob}` is {given:g}: give one of them"
                )
            self.options[knob] = controller.start


def _written_out(given: Mapping[str, Any]) -> dict[str, Any]:
    """Write short forms out: `shaper: x` is `shapers: [x]`."""
    for short, long in SHORT.items():
        if short in given and long in given:
            raise ObjectiveError(f"`{short}` and `{long}` are two ways to say the same: give one of them")
    return {SHORT.get(key, key): in_a_row(value) if key in SHORT else value for key, value in given.items()}


def _over_the_preset_controllers(given: Any, base: Any) -> Any:
    """Lay controllers as given over the preset's, in order; another type keeps nothing of one but its knob."""
    given, base = in_a_row(given), in_a_row(base)
    if not isinstance(given, list | tuple):
        return given
    below = [dict(one) for one in base] + [{}] * len(given)
    return [_over_one(one, beneath) for one, beneath in zip(given, below, strict=False)]


def _over_one(given: Any, base: Mapping[str, Any]) -> Any:
    if isinstance(given, str):
        given = {"type": given}
    if not isinstance(given, Mapping):
        return given
    same_type = given.get("type", base.get("type")) == base.get("type")
    return {k: v for k, v in base.items() if same_type or k == "knob"} | dict(given)
