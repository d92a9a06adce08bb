"""A reward as a spec writes it: a name, a map with `type`, or a list of those, each with a `weight`.

    reward: exact
    reward: {type: numeric, relative_tolerance: 0.01}
    reward: {type: "my_rewards:compute_score", scale: [-1, 1]}
    reward: [{type: exact, weight: 2}, my_rewards:is_short, ./lengths.py:is_long]

Once read it is plain data, a map with `type` and every option, so it travels to any process. A list is a short form of
the type `combined`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, WithJsonSchema

from environments.contracts import EnvironmentFault
from environments.options import Options
from environments.plugins import KIND, REWARDS
from environments.registry import function_of, module_of, types
from environments.rewards.contracts import Reward
from environments.rewards.functions import CALLING, FunctionOptions, FunctionReward
from environments.user_code import is_user_code


def make_reward(section: object, search_path: str | None = None, filled: Collection[str] = ()) -> Reward:
    """Build the reward of a spec's section, whichever way it is written, or of what `RewardSection` made of one.

    Functions of the user's own are looked for in the folder `search_path`, after the path; `filled` are parameters of
    TRL's functions that attempts have in `Attempt.trainer`. Raises
    pydantic.ValidationError if there is no such reward, or it refuses its options, EnvironmentFault if a function is
    not there or cannot be called, or an extra is not installed.
    """
    resolved = _SECTION.validate_python(section)
    type_, options = resolved["type"], {key: value for key, value in resolved.items() if key != "type"}
    if is_user_code(type_):
        function = function_of(REWARDS, type_, search_path, CALLING)
        return FunctionReward(type_, function, FunctionOptions.model_validate(options), filled)
    config = _config_class(type_).model_validate(options)
    parts = {"filled": filled} if filled and type_ == "combined" else {}  # which makes rewards itself
    reward: Reward = module_of(REWARDS, type_).create(config.within(search_path), **parts)
    return reward


def resolve(raw: object) -> dict[str, Any]:
    """Check a section and write it out: `type`, and every option with its value."""
    if isinstance(raw, str):
        raw = {"type": raw}
    if isinstance(raw, list | tuple):
        parts = TypeAdapter(list[Part]).validate_python(list(raw))  # here errors say where in the list they are
        return resolve({"type": "combined", "parts": parts})
    if not isinstance(raw, Mapping) or not isinstance(raw.get("type"), str):
        raise ValueError(
            f"expected the name of a reward, a map with `type`, or a list of those, found {raw!r};"
            f" there are: {', '.join(types(REWARDS))}"
        )
    options = {key: value for key, value in raw.items() if key != "type"}
    if "weight" in options:
        raise ValueError("`weight` has a meaning only in a list of rewards: remove it, or write a list")
    config = _config_class(raw["type"]).model_validate(options)
    return {"type": raw["type"], **config.model_dump(mode="json", by_alias=True)}


def _config_class(type_: str) -> type[Options]:
    """Give the options of a type.

    Raises ValueError if there is no such type; the message reaches whoever wrote the spec, with its key and line.
    """
    if is_user_code(type_):
        return FunctionOptions
    try:
        config: type[Options] = module_of(REWARDS, type_).Config
    except EnvironmentFault as error:
        raise ValueError(str(error)) from error
    return config


class Weight(Options):
    """What a part of a combination has beside its own options."""

    weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """Share in the mean; 0: only a component, for reading."""


def _resolve_part(raw: object) -> dict[str, Any]:
    weight = {"weight": raw["weight"]} if isinstance(raw, Mapping) and "weight" in raw else {}
    own = {k: v for k, v in raw.items() if k != "weight"} if isinstance(raw, Mapping) else raw
    if isinstance(own, list | tuple) or (isinstance(own, Mapping) and own.get("type") == "combined"):
        raise ValueError("a combination of rewards holds no further combination: write all parts in one list")
    return {**resolve(own), "weight": Weight.model_validate(weight).weight}


Part = Annotated[  # a reward's map, with its weight
    dict[str, Any], BeforeValidator(_resolve_part), WithJsonSchema({"type": ["string", "object"], KIND: REWARDS.name})
]
RewardSection = Annotated[
    Mapping[str, Any],
    BeforeValidator(resolve),
    WithJsonSchema(
        {
            "description": "A reward's name, a map of its type and options, or a list of maps with weights.",
            "type": ["string", "object", "array"],
            KIND: REWARDS.name,
        }
    ),
]

_SECTION: TypeAdapter[Mapping[str, Any]] = TypeAdapter(RewardSection)
