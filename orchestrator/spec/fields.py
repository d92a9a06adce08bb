"""Field types of the spec: sections that name a method, and how their errors find their way out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from environments.plugins import ENVIRONMENTS, KIND
from environments.slices.options import KEY as SLICES
from environments.slices.options import read_options
from environments.user_code import is_user_code
from orchestrator import registry
from orchestrator.episode_options import KEY as EPISODES
from orchestrator.episode_options import EpisodeOptions
from orchestrator.errors import SpecError
from orchestrator.spec.echo import shown
from orchestrator.user_options import EnvironmentOptions

# What a map of options without a `type` is about.
DEFAULT_TYPES = {"bandits": "headroom", "schedulers": "headroom", "samplers": "transformers"}


ONE_OR_MORE = BeforeValidator(lambda raw: [raw] if isinstance(raw, str | dict) else raw)  # where several may stand


class Section(BaseModel):
    """A part of the spec: unknown keys are errors, values do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


def refuse(message: str) -> PydanticCustomError:
    """Make an error that reaches the user word for word, with its key and line put in front."""
    return PydanticCustomError("spec", "{message}", {"message": message})


def short_form(key: str) -> Callable[[Any], Any]:
    """Let a plain string stand for a map with this one key."""
    return lambda raw: {key: raw} if isinstance(raw, str) else raw


def nested(
    validate: Callable[[Any, ValidationInfo], BaseModel],
) -> Callable[[Any, ValidationInfo], BaseModel]:
    """Run a validation inside a validator without losing where its errors are; its context says the spec's folder."""

    def run(raw: Any, info: ValidationInfo) -> BaseModel:
        try:
            return validate(raw, info)
        except ValidationError as error:
            inner = error.errors(include_url=False)
            raise PydanticCustomError("nested", "options of a method", {"inner": inner}) from error
        except SpecError as error:
            raise refuse(str(error)) from error

    return run


def nested_model(model: type[BaseModel]) -> Any:
    """Type a field that holds another package's options, short forms included."""

    def validate(raw: Any, info: ValidationInfo) -> BaseModel:
        return raw if isinstance(raw, model) else model.model_validate(raw, context=info.context)

    return Annotated[SerializeAsAny[model], BeforeValidator(nested(validate))]  # type: ignore[valid-type, misc]


def method(kind: str) -> Any:
    """Type a field that holds `{type: name, **options}` or just the name of a method of this kind."""

    def validate(raw: Any, info: ValidationInfo) -> BaseModel:
        if isinstance(raw, BaseModel):
            return raw
        if isinstance(raw, dict):
            raw = {**({"type": DEFAULT_TYPES[kind]} if kind in DEFAULT_TYPES else {}), **raw}
        return registry.config_class(kind, _type_of(raw, kind)).model_validate(raw, context=info.context)

    return Annotated[
        SerializeAsAny[BaseModel],
        BeforeValidator(nested(validate)),
        BeforeValidator(short_form("type")),
        WithJsonSchema(
            {"description": f"One of the {kind}, with its options.", "type": ["string", "object"], KIND: kind}
        ),
    ]


def _environment(raw: Any, info: ValidationInfo) -> BaseModel:
    """Check an environment's options where they are defined; keep them as plain data for any process."""
    if isinstance(raw, EnvironmentOptions):
        return raw
    type_ = _type_of(raw, "environments")
    options = {key: value for key, value in raw.items() if key not in ("type", SLICES, EPISODES)}
    config_class = registry.config_class("environments", type_)
    if not is_user_code(type_):
        if EPISODES in config_class.model_fields:
            raise refuse(f"type {type_} has an option `{EPISODES}`, which is a word of the spec: it needs another name")
        options = config_class.model_validate(options).model_dump(mode="json")
    if raw.get(SLICES) is not None:
        options[SLICES] = _beside(SLICES, read_options, raw)
    if raw.get(EPISODES) is not None and (said := _beside(EPISODES, EpisodeOptions.model_validate, raw)):
        options[EPISODES] = said
    return EnvironmentOptions.model_validate({"type": type_, **options}, context=info.context)


def _beside(key: str, read: Callable[[Any], BaseModel], raw: Mapping[str, Any]) -> dict[str, Any]:
    """Check what stands beside an environment's options; keep that as plain data for any process."""
    try:
        return read(raw[key]).model_dump(mode="json")
    except ValidationError as error:
        inner = [{**one, "loc": (key, *one["loc"])} for one in error.errors(include_url=False)]
        raise PydanticCustomError("nested", "options of a method", {"inner": inner}) from error


def _type_of(raw: Any, kind: str) -> str:
    if isinstance(raw, dict) and isinstance(raw.get("type"), str):
        return str(raw["type"])
    known = ", ".join(m.name for m in registry.listing(kind))
    raise SpecError(f"expected a map with a `type` (one of the {kind}: {known}), found {shown(raw)}")


EnvironmentSection = Annotated[
    SerializeAsAny[EnvironmentOptions],
    BeforeValidator(nested(_environment)),
    BeforeValidator(short_form("type")),
    WithJsonSchema(
        {
            "description": "One of the environments, with its options.",
            "type": ["string", "object"],
            KIND: ENVIRONMENTS.name,
        }
    ),
]
