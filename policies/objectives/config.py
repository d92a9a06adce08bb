"""The spec's `objective:` section: a preset, the names of its parts, and the options of those parts.

    objective: repo_r
    objective: {preset: repo_r, clip_high: 0.3}
    objective: {preset: rloo, shaper: repo, centre: batch, controller: {type: geometric, target: 0.5}}
    objective: {by: {words: repo_r, book: {preset: dapo, clip_high: 0.3}}}

Importing and validating it does not load torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from environments.plugins import KIND
from environments.user_code import in_full
from policies.objectives import compatibility, registry
from policies.objectives.entropy_reading import Mode
from policies.objectives.errors import ObjectiveError, unknown
from policies.objectives.parts import Controller, Kind, PartModule, expect_components
from policies.objectives.presets import DEFAULT, PRESETS


def _is_preset(word: str) -> str:
    if word not in PRESETS:
        raise ObjectiveError(unknown("preset", word, PRESETS))
    return word


@dataclass(frozen=True)
class PartOf:
    """A field with the name of a part: ours, an installed package's, or a user's, whose file is written in full."""

    kind: Kind

    def check(self, word: str, info: ValidationInfo) -> str:
        """Refuse what names no part of this kind."""
        if registry.is_outside(word):
            word = in_full(word, (info.context or {}).get("search_path"))
            registry.load(self.kind, word)
        elif word not in registry.names(self.kind):
            what = self.kind.removesuffix("s").replace("_", " ")
            raise ObjectiveError(unknown(what, word, registry.names(self.kind)))
        return word

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), KIND: self.kind}


def _in_a_row(value: Any) -> Any:
    """Read one thing as a list of one, and nothing as an empty one; a resolved section is left as it is."""
    if value is None or value == "none":
        return ()
    return [value] if isinstance(value, str | Mapping) else value


Plans = Annotated[tuple[Annotated[str, PartOf("plans")], ...], BeforeValidator(_in_a_row)]
RewardMaps = Annotated[tuple[Annotated[str, PartOf("reward_maps")], ...], BeforeValidator(_in_a_row)]
Shapers = Annotated[tuple[Annotated[str, PartOf("shapers")], ...], BeforeValidator(_in_a_row)]
Weights = Annotated[tuple[Annotated[str, PartOf("mismatch_weights")], ...], BeforeValidator(_in_a_row)]
Terms = Annotated[tuple[Annotated[str, PartOf("terms")], ...], BeforeValidator(_in_a_row)]

SHARED = ("reward", "entropy", "reference")  # a run has one of each
SHORT = {"shaper": "shapers", "controller": "controllers"}  # one of them may be given without a list


class Section(BaseModel):
    """Fields name methods; every option of a named method (its `Config`) is a further key, all others are refused."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @property
    def options(self) -> dict[str, Any]:
        """The options of all methods named here, by name; complete once the section is validated."""
        assert self.__pydantic_extra__ is not None, "further keys are allowed"
        return self.__pydantic_extra__

    def options_of(self, method: PartModule) -> Any:
        """Make the `Config` of one method."""
        names = method.Config.model_fields
        return method.Config.model_validate({k: v for k, v in self.options.items() if k in names})

    def complete_options(self, named: Sequence[PartModule], droppable: Mapping[str, Any]) -> None:
        """Check the further keys against the methods and fill in defaults.

        A key of no method is an error, unless it is droppable: a preset's option for a part that the user replaced.
        """
        complete = {key: v for method in named for key, v in self.options_of(method).model_dump().items()}
        errors = []
        for key, value in self.options.items():
            if key in complete or droppable.get(key, ...) == value:
                continue
            parts = [registry.load(*part) for part in registry.every()]
            owners = [f"{part.kind}/{part.name}" for part in parts if key in part.Config.model_fields]
            message = unknown("key", key, {*type(self).model_fields, *complete})
            if owners:
                message = f"`{key}` is an option of {', '.join(owners)}, which is not part of this objective"
            error = PydanticCustomError("unknown_option", "{message}", {"message": message})
            errors.append(InitErrorDetails(type=error, loc=(key,), input=value))
        if errors:
            raise ValidationError.from_exception_data(type(self).__name__, errors)
        self.options.clear()
        self.options.update(complete)


class ControllerConfig(Section):
    """What moves one coefficient by one reading a step. A plain string stands for `{type: string}`.

    Further keys are the options of the type, such as `target`, a fraction of the entropy at the start.
    """

    type: Annotated[str, PartOf("controllers")]
    """Which controller; left out, the preset's own."""
    knob: str | None = None
    """The option it moves; null: the strength of the first part that has one."""
    start: float | None = None
    """Where the knob starts, another way to give that option; null: at the option's own value."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"type": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _options_fit(self) -> ControllerConfig:
        self.complete_options([self.method], droppable={})
        return self

    @property
    def method(self) -> PartModule:
        """The controller."""
        return registry.load("controllers", self.type)


Controllers = Annotated[tuple[ControllerConfig, ...], BeforeValidator(_in_a_row)]


class ObjectiveConfig(Section):
    """A composition of parts over one loss. A plain string stands for `{preset: string}`.

    The first fields name the parts, all further keys are options of those parts. What is not given is the preset's.
    """

    preset: Annotated[str, AfterValidator(_is_preset)] = DEFAULT
    """Where values that are not given come from: `evergreen methods objectives`."""
    plans: Plans = ()
    """Which samples are played, and which groups are kept."""
    reward_maps: RewardMaps = ()
    """What changes rewards before advantages are estimated, in order."""
    estimator: Annotated[str, PartOf("estimators")] = "rloo"
    """From rewards to advantages."""
    shapers: Shapers = ()
    """What changes advantages token by token, in order; `shaper: x` stands for a list of one."""
    mismatch: Weights = ("tis",)
    """The weights against the mismatch of sampler and trainer, after the shapers."""
    ratio: Annotated[str, PartOf("ratio_rules")] = "ppo"
    """How far the policy may move from the start of the step."""
    terms: Terms = ("entropy_bonus", "kl")
    """What is added to the loss; a term with a coefficient of 0 is off."""
    aggregation: Annotated[str, PartOf("aggregations")] = "token_mean"
    """How much each token weighs in the loss."""
    max_length: int | None = Field(default=None, ge=1)
    """Of `aggregation: constant` and of parts that measure lengths, tokens: usually the sampler's `max_tokens`; null:
    nothing needs it."""
    updates: int = Field(default=1, ge=1)
    """Optimiser updates a step, unless the learner's section says otherwise."""
    reward: Literal["value", "correct"] = "value"
    """What of a score the policy is rewarded with."""
    reference: Literal["start", "stage"] = "start"
    """Which weights a KL is taken to: those the run began with, or those the stage began with. A frozen copy of them
    is kept only while a part needs it: as much memory again as the weights take, and a pass over every step."""
    controllers: Controllers = ()
    """What moves the forces on entropy, once a step. `controller: x` stands for a list of one, `none`: nothing does."""
    reading: Mode = "corrected"
    """The entropy that a controller reads: corrected for the mix of tasks, over all categories visited so far or the
    `recent` ones, or the plain mean: `raw`."""
    entropy: Literal["sampler", "surprisal", "surprisal_iw"] = "sampler"
    """Where it is read: the sampler's entropies, the mean surprisal of the tokens drawn, or that weighed by how likely
    the learner finds them (a pass without gradient over all rows)."""
    by: Annotated[
        dict[str, ObjectiveConfig],
        WithJsonSchema({"type": "object", "additionalProperties": {"type": ["string", "object"]}}),
    ] = Field(default_factory=dict)
    """Objectives of single environments, by name, each with its own controllers and memory; of all others it is what
    the section says beside, of each apart. One that names no preset is laid over the section."""

    @model_validator(mode="before")
    @classmethod
    def _over_the_preset(cls, value: Any) -> Any:
        given = {"preset": value} if isinstance(value, str) else value
        if not isinstance(given, Mapping):
            return given
        given = _written_out(given)
        if isinstance(by := given.get("by"), Mapping):
            given["by"] = {name: _laid_over_section(one, given) for name, one in by.items()}
        preset = PRESETS.get(str(given.get("preset", DEFAULT)))
        overrides = _written_out(preset.overrides) if preset else {}
        merged = overrides | given
        controllers = _in_a_row(given.get("controllers"))
        if "controllers" in given and isinstance(controllers, list | tuple):
            below = [dict(one) for one in overrides.get("controllers", ())] + [{}] * len(controllers)
            merged["controllers"] = list(map(_laid_over, controllers, below))
        return merged

    @model_validator(mode="after")
    def _parts_fit(self) -> ObjectiveConfig:
        for place, controller in enumerate(self.controllers):
            if controller.start is None or (knob := self.knobs[place]) is None:
                continue
            given = self.options.get(knob, controller.start)
            if given not in (controller.start, PRESETS[self.preset].overrides.get(knob)):
                raise ObjectiveError(
                    f"`controller.start` is {controller.start:g} and `{knob}` is {given:g}: give one of them"
                )
            self.options[knob] = controller.start
        modules = [*self.modules(), registry.load("aggregations", self.aggregation)]
        shared = Counter(name for module in modules for name in module.Config.model_fields)
        if twice := [name for name, count in shared.items() if count > 1]:
            raise ObjectiveError(f"two parts of this objective have an option `{twice[0]}`: keep one of them")
        self.complete_options(modules, droppable=_written_out(PRESETS[self.preset].overrides))
        for refusal in compatibility.refusals(self._resolved()):
            raise ObjectiveError(refusal)
        self.create_controllers()
        return self

    @model_validator(mode="after")
    def _objectives_fit_together(self) -> ObjectiveConfig:
        for name, one in self.by.items():
            if one.by:
                raise ObjectiveError(f"`by.{name}.by`: an environment has one objective: leave it out")
            for field in SHARED:
                if (own := getattr(one, field)) != (rest := getattr(self, field)):
                    raise ObjectiveError(
                        f"`by.{name}.{field}` is {own}, beside it is {rest}: a run has one, so leave it out there"
                    )
        every = [self, *self.by.values()] if self.by else []
        if any(one.reading == "raw" for one in every):
            raise ObjectiveError("`reading: raw` is one number of a whole step, and `by` reads each environment's")
        return self

    @model_serializer(mode="wrap")
    def _without_an_empty_map(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write `by` where it says something."""
        made: dict[str, Any] = write(self)
        return made if self.by else {key: value for key, value in made.items() if key != "by"}

    def options_of(self, method: PartModule) -> Any:
        """Make the `Config` of one part, which knows what of it controllers move."""
        made = super().options_of(method)
        return made.moved_by(self.knobs) if self.controllers else made

    def of(self, environment: str) -> ObjectiveConfig:
        """The section of an environment."""
        return self.by.get(environment, self)

    def clashes(self, environments: Iterable[str]) -> list[str]:
        """Say what the objectives of these environments cannot have in common."""
        used = {id(one): one for one in map(self.of, environments)}
        return list(compatibility.clashes([one._resolved() for one in used.values()]))

    def expect_components(self, scores: Mapping[str, Collection[str]]) -> None:
        """Raise `ObjectiveError` for an environment whose scores lack the components that its objective weighs.

        `scores`: by environment, the components that any of its scores has; those without scores are not there.
        """
        for environment, known in scores.items():
            own = self.of(environment)
            for module in own.modules():
                if option := module.info.components:
                    expect_components(known, own.options.get(option, ()), option, [environment])

    @property
    def every(self) -> dict[str, ObjectiveConfig]:
        """Each section by the key under which it stands: "" this one, which all may have that are not named."""
        return {"": self, **{f"by.{name}": one for name, one in self.by.items()}}

    @property
    def most_updates(self) -> int:
        """The most updates a step that one of them is made for."""
        return max(one.updates for one in self.every.values())

    @property
    def controller_types(self) -> list[str]:
        """The types of all controllers; those of an environment's own objective with its name."""
        own = [f"{name}/{one.type}" for name, section in self.by.items() for one in section.controllers]
        return [*(one.type for one in self.controllers), *own]

    def title(self, environments: Iterable[str]) -> str:
        """The preset, and those of environments that have their own; of these alone where all have."""
        own = ", ".join(f"{name}: {one.preset}" for name, one in self.by.items())
        if not own:
            return self.preset
        return f"{self.preset}, {own}" if set(environments) - self.by.keys() else own

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

    @property
    def knobs(self) -> list[str | None]:
        """The options that the controllers move: by default the first strength there is; None without one."""
        first = next(iter(self.strengths()), None)
        return [one.knob or one.method.info.knob or first for one in self.controllers]

    @property
    def weighs_mismatch(self) -> bool:
        """Whether tokens that older weights wrote are weighed; a mask alone weighs nothing."""
        return bool(self._resolved().importance_weights) or self.anchor == "lp_roll"

    @property
    def anchor(self) -> str:
        """What the ratio rule compares with: lp_old, of the start of the step, or the sampler's lp_roll."""
        return registry.load("ratio_rules", self.ratio).info.anchor

    @property
    def divides_by_max_length(self) -> bool:
        """Whether the loss is smaller the larger `max_length` is."""
        return registry.load("aggregations", self.aggregation).info.needs_max_length

    def create_controllers(self) -> list[Controller]:
        """Make the controllers at their start; `ObjectiveError` when one has nothing to move or cannot start there."""
        made = []
        for controller, knob in zip(self.controllers, self.knobs, strict=True):
            start = self.options.get(knob or "")
            if not isinstance(start, float):
                raise ObjectiveError(
                    f"the controller `{controller.type}` has no coefficient to move"
                    + (f" (`{knob}` is none)" if knob else "")
                    + ": add a shaper with a strength (repo, repo_r) or an `entropy_bonus`, or say `controller: none`"
                )
            made.append(controller.method.create(controller.options_of(controller.method), start))
        return made

    def warnings(self, updates: int | None = None) -> list[str]:
        """List what is allowed and usually a mistake, one sentence each, with so many updates a step."""
        return compatibility.warnings(self._resolved(), updates or self.updates)

    def strengths(self) -> dict[str, PartModule]:
        """The options that say how hard a part acts, of the parts that are on."""
        moved = {controller.knob for controller in self.controllers}  # on, even where they stand at 0
        return {
            knob: module
            for module in self.modules()
            if (knob := module.info.knob) and (module.kind != "terms" or self.options.get(knob) or knob in moved)
        }

    def modules(self, kind: Kind | None = None) -> list[PartModule]:
        """The parts, all or those of a kind, in the order in which they act."""
        return [registry.load(*part) for part in self.parts() if kind in (None, part[0])]

    def _resolved(self) -> compatibility.ResolvedObjective:
        """What the rules about combinations read."""
        return compatibility.ResolvedObjective(
            parts=[(module, self.options_of(module)) for module in self.modules()],
            aggregation=registry.load("aggregations", self.aggregation),
            max_length=self.max_length,
            reading=self.reading,
            entropy=self.entropy,
            options=self.options,
            strengths=self.strengths(),
            controllers=[
                (knob, one.options_of(one.method)) for one, knob in zip(self.controllers, self.knobs, strict=True)
            ],
        )


def _written_out(given: Mapping[str, Any]) -> dict[str, Any]:
    """Write short forms out: `shaper: x` is `shapers: [x]`."""
    for short, long in SHORT.items():
        if short in given and long in given:
            raise ObjectiveError(f"`{short}` and `{long}` are two ways to say the same: give one of them")
    return {SHORT.get(key, key): _in_a_row(value) if key in SHORT else value for key, value in given.items()}


def _laid_over_section(given: Any, section: Mapping[str, Any]) -> Any:
    """An environment's objective over the section it stands in: all of it, or what a run has one of beside a preset."""
    if isinstance(given, str):
        given = {"preset": given}
    if not isinstance(given, Mapping):
        return given
    given = _written_out(given)
    return {
        key: one for key, one in section.items() if key in SHARED or (key != "by" and "preset" not in given)
    } | given


def _laid_over(given: Any, base: Mapping[str, Any]) -> Any:
    """A controller as given over the preset's; another type keeps nothing of that one but its knob."""
    if isinstance(given, str):
        given = {"type": given}
    if not isinstance(given, Mapping):
        return given
    same_type = given.get("type", base.get("type")) == base.get("type")
    return {k: v for k, v in base.items() if same_type or k == "knob"} | dict(given)
