"""Finding methods: whatever a spec can name by `type` or `preset`.

A method is a file in the folder of its kind that defines `Config` and `create`; its name is the file's. Listing imports
nothing; a method is imported when a spec names it. Installed packages add theirs by entry points
(`evergreen.bandits = name = package.module`), and a spec names a user's own as `package.module:factory` or
`./file.py:factory`, relative to the spec.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from environments.plugins import ENVIRONMENTS, REWARDS, Listed, PluginKind, UnusablePlugin, nearest_name
from environments.user_code import (
    UserCodeError,
    ambiguity,
    import_user_code,
    is_user_code,
    raised,
    uncallable,
    without_function,
    wrong_name,
)
from orchestrator.errors import SpecError
from orchestrator.option_types import described, options_of
from policies.plugins import INTERVENTIONS, PARTS, SAMPLERS

# In the order in which `evergreen methods` lists them.
KINDS = {
    kind.name: kind
    for kind in (
        PluginKind.of("orchestrator.bandits", "orchestrator.bandits.contracts:Bandit"),
        PluginKind.of("orchestrator.schedulers", "orchestrator.bandits.contracts:Bandit"),
        PluginKind.of("orchestrator.selections", "orchestrator.selections.contracts:Selection"),
        PluginKind.of("orchestrator.teachers", "orchestrator.teachers.contracts:Teacher"),
        PluginKind.of("orchestrator.stop_rules", "orchestrator.stop_rules.contracts:StopRule"),
        ENVIRONMENTS,
        REWARDS,
        SAMPLERS,
        INTERVENTIONS,
        PluginKind.of("orchestrator.measurements", "orchestrator.measurements.contracts:Measurement"),
    )
}
OBJECTIVES = "objectives"  # presets: listed and described as methods are, and compositions of parts
# Parameters of factories that no spec gives.
GIVEN = ("arms", "rng", "num_tasks", "numbers", "num_dims", "policy", "name", "environments", "held_out", "around")


@dataclass(frozen=True)
class Method:
    """One thing a spec can name."""

    kind: str
    name: str
    summary: str  # the first sentence of its docstring
    source: str  # the paper or "baseline"
    module: str
    family: str = ""  # of an objective: what it has in common with its neighbours in the list


def kinds() -> list[str]:
    """Name the kinds whose methods are listed together; the parts of objectives are listed when asked for by kind."""
    return [*KINDS, OBJECTIVES]


@cache
def listing(kind: str) -> tuple[Method, ...]:
    """All methods of a kind, sorted by name, ours and those of installed packages."""
    if kind == OBJECTIVES:
        from policies.objectives.presets import PRESETS, family_of

        return tuple(
            Method(
                kind,
                name,
                preset.about if preset.verified else f"{preset.about} [experimental]",
                preset.source,
                "policies.objectives.presets",
                family_of(name),
            )
            for name, preset in PRESETS.items()
        )
    return tuple(_method(kind, one) for one in (KINDS | PARTS)[kind].listing().values())


def unusable(kind: str) -> list[str]:
    """Say of each plug-in of an installed package that cannot be read why it is not listed."""
    return [] if kind == OBJECTIVES else list((KINDS | PARTS)[kind].unusable().values())


def _method(kind: str, one: Listed) -> Method:
    return Method(kind, one.name, _summary(one.docstring), one.source, one.module)


def find(kind: str, name: str) -> Method:
    """Find the method of this name, or say which there are and which is nearest. A user's own is imported."""
    if is_user_code(name) and kind != OBJECTIVES:
        made = factory(name)
        module = sys.modules[made.__module__]
        text = inspect.cleandoc(made.__doc__ or module.__doc__ or "")
        return Method(kind, name, _summary(text), str(vars(module).get("SOURCE", "")), module.__name__)
    if kind != OBJECTIVES:
        try:
            if (one := (KINDS | PARTS)[kind].listed(name)) is not None:
                return _method(kind, one)
        except UnusablePlugin as wrong:
            raise SpecError(str(wrong)) from wrong
    methods = {method.name: method for method in listing(kind)}
    if name not in methods:
        if (lacking := without_function(name)) is not None:
            raise SpecError(lacking)
        raise SpecError(f"{name!r} is not one of the {kind}: {', '.join(methods)}{nearest(name, methods)}")
    return methods[name]


def nearest(word: str, known: Any) -> str:
    """Propose the known word that looks most like this one, as the end of a sentence."""
    close = nearest_name(word, known)
    return "" if close is None else f". Did you mean {close!r}?"


def config_class(kind: str, name: str) -> type[BaseModel]:
    """The pydantic options of a method; a user's own takes any."""
    if not is_user_code(name):
        config: type[BaseModel] = load(find(kind, name)).Config
        return config
    from orchestrator.user_options import options_class

    if (wrong := wrong_name(name)) is not None:
        raise SpecError(wrong)
    return options_class(kind)


def require_installed(kind: str, config: BaseModel) -> None:
    """Have a method say, before anything else is built, that what it needs is not installed here; most need nothing."""
    name = type_of(config)
    if not is_user_code(name) and (check := vars(load(find(kind, name))).get("require_installed")) is not None:
        check()


def require_kind(kind: str, *words: str) -> None:
    """Refuse a kind that is not there; `words` could have been meant too."""
    known = [*kinds(), *PARTS, *words]
    if kind not in [*known, *KINDS]:
        raise SpecError(
            f"{kind!r} is not a kind of method; there are: {', '.join(kinds())}; and of parts of an objective: "
            f"{', '.join(PARTS)}{nearest(kind, known)}"
        )


def describe(method: Method) -> dict[str, Any]:
    """Tell all there is to say about a method: its docstring, and its options with their defaults."""
    if method.kind == OBJECTIVES:
        from policies.objectives.description import story

        text, options = story(method.name), _preset_options(method.name)
    elif is_user_code(method.name) and method.kind not in PARTS:
        made = factory(method.name)
        text = inspect.cleandoc(made.__doc__ or load(method).__doc__ or "")
        options = {
            name: {"type": "any", "default": "required" if one.default is one.empty else one.default, "meaning": ""}
            for name, one in inspect.signature(made).parameters.items()
            if name not in GIVEN and one.kind is not one.VAR_KEYWORD
        }
    else:
        module = load(method)
        text = (module.__doc__ or "").strip()
        options = options_of(module.Config.model_json_schema())
        options.pop("type", None)
    return {
        "kind": method.kind,
        "name": method.name,
        "source": method.source,
        "text": text,
        "options": options,
    }


def _preset_options(preset: str) -> dict[str, dict[str, Any]]:
    """Describe a preset's fields and the options of its parts, every one with the value it has there."""
    from policies.objectives.config import ObjectiveConfig
    from policies.objectives.registry import load as load_part

    config = ObjectiveConfig.model_validate(preset)
    fields = dict(ObjectiveConfig.model_json_schema()["properties"])
    for part in config.parts():
        fields |= load_part(*part).Config.model_json_schema().get("properties", {})
    values = config.model_dump(mode="json") | {"by": {}}  # which is written only where it says something
    return {key: described(fields[key], value) for key, value in values.items()}


def load(method: Method) -> ModuleType:
    """Import a method's module."""
    kind = (KINDS | PARTS).get(method.kind)
    if kind is None or is_user_code(method.name):
        return importlib.import_module(method.module)
    try:
        return kind.load(method.name)
    except UnusablePlugin as wrong:
        raise SpecError(str(wrong)) from wrong


def search_in(folder: str | None) -> None:
    """Let `package.module:factory` be found in a user's folder: last, so that it never hides a package."""
    for place in (str(Path.cwd()), folder):
        if place is not None and place not in sys.path:
            sys.path.append(place)


def factory(name: str, folder: str | None = None) -> Callable[..., Any]:
    """Import a user's own factory; a file is relative to the folder."""
    if (wrong := wrong_name(name)) is not None:
        raise SpecError(wrong)
    if (doubt := ambiguity(name, folder)) is not None:
        raise SpecError(f"{name!r}: {doubt}")
    try:
        module, attribute = import_user_code(name, folder)
        made: Callable[..., Any] = getattr(module, attribute)
    except (ImportError, AttributeError) as error:
        raise SpecError(f"cannot import {name!r}: {error}. Is its folder the current one, or installed?") from error
    except UserCodeError as error:
        raise SpecError(f"{name.rpartition(':')[0]!r} cannot be imported: {error}") from error
    return made


def type_of(config: BaseModel) -> str:
    """The name by which a spec calls the method that this config is for."""
    return str(config.type)  # type: ignore[attr-defined]


def create(kind: str, config: BaseModel, **arguments: Any) -> Any:
    """Make the object that a config describes. A factory of the user's own is called only if it can be one."""
    from orchestrator.user_options import UserOptions

    if not isinstance(config, UserOptions):
        return load(find(kind, type_of(config))).create(config, **arguments)
    refuse_uncallable(kind, config, *arguments)
    path, contract = config.type, KINDS[kind].contract_class()
    try:
        made = factory(path, config.folder)(**arguments, **config.options)
    except (ValueError, KeyboardInterrupt):
        raise  # the former refuses its options, in words
    except BaseException as error:
        raise SpecError(f"{path} raised {raised(error)}; mend it, or its options") from error
    if not isinstance(made, contract):
        what = f"{contract.__module__}.{contract.__name__}"
        raise SpecError(f"{path} makes a {type(made).__name__}, not a {kind.removesuffix('s')}: see `{what}`")
    return made


def refuse_uncallable(kind: str, config: BaseModel, *arguments: str) -> None:
    """Refuse a factory of the user's own that cannot be called with arguments of these names, without calling it."""
    from orchestrator.user_options import UserOptions

    if not isinstance(config, UserOptions):
        return
    named = dict.fromkeys(arguments)
    made = factory(config.type, config.folder)
    wrong = uncallable(made, KINDS[kind].contract_class(), (), {**config.options, **named})
    if wrong is not None:
        given = ", ".join([*(f"{name}=..." for name in arguments), "**options"])
        called = f"{config.type.rpartition(':')[2]}({given})"
        raise SpecError(f"{config.type} cannot be called as {called}: {wrong}")


def _summary(docstring: str) -> str:
    return docstring.split("\n\n")[0].replace("\n", " ")
