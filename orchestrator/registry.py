"""Finding methods: whatever a spec can name by `type` or `preset`.

A method is a file in the folder of its kind that defines `Config` and `create`; its name is the file's. Folders
are read as text, so listing imports nothing; a method is imported when a spec names it. Given packages add
theirs by entry points (`evergreen.bandits = name = package.module`), or a spec says `package.module:factory`.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ConfigDict

from orchestrator.errors import SpecError

FOLDERS = {
    "bandits": "orchestrator.bandits",
    "schedulers": "orchestrator.schedulers",
    "selections": "orchestrator.selections",
    "teachers": "orchestrator.teachers",
    "stop_rules": "orchestrator.stop_rules",
    "environments": "environments",
    "rewards": "environments.rewards",
    "samplers": "policies.samplers",
}
CONTRACTS = {  # what a factory of the user's own makes
    "bandits": "orchestrator.bandits.contracts:Bandit",
    "schedulers": "orchestrator.bandits.contracts:Bandit",
    "selections": "orchestrator.selections.contracts:Selection",
    "teachers": "orchestrator.teachers.contracts:Teacher",
    "stop_rules": "orchestrator.stop_rules.contracts:StopRule",
    "samplers": "policies.samplers.contracts:Sampler",
}
KINDS = [*FOLDERS, "objectives"]
# What objectives are made of: listed when asked for by kind. An objective's section names them (`policies.objectives`).
PARTS = {
    kind: f"policies.objectives.{kind}"
    for kind in (
        *("plans", "reward_maps", "estimators", "shapers"),
        *("mismatch_weights", "ratio_rules", "terms", "controllers"),
    )
}


@dataclass(frozen=True)
class Method:
    """One thing a spec can name."""

    kind: str
    name: str
    summary: str  # the first sentence of its docstring
    source: str  # the paper or "baseline"
    module: str
    family: str = ""  # of an objective: what it has in common with its neighbours in the list


class GivenOption(BaseModel):
    """A type and its options as plain data: of an environment, or of any `package.module:factory`."""

    model_config = ConfigDict(extra="allow", frozen=True)
    type: str

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the type."""
        return dict(self.model_extra or {})


@cache
def listing(kind: str) -> tuple[Method, ...]:
    """All methods of a kind, sorted by name, ours and those of installed packages."""
    if kind == "objectives":
        return _presets()
    found = {method.name: method for method in _folder(kind)}
    group, prefix = ("evergreen.objectives", f"{kind}.") if kind in PARTS else (f"evergreen.{kind}", "")
    for entry in entry_points(group=group):
        name = entry.name.removeprefix(prefix)
        method = _describe(kind, name, entry.value) if entry.name.startswith(prefix) else None
        if method is not None:
            found[name] = method
    return tuple(found[name] for name in sorted(found))


def find(kind: str, name: str) -> Method:
    """Find the method of this name, or say which there are and which is nearest."""
    methods = {method.name: method for method in listing(kind)}
    if name not in methods:
        raise SpecError(f"{name!r} is not one of the {kind}: {', '.join(methods)}{nearest(name, methods)}")
    return methods[name]


def nearest(word: str, known: Any) -> str:
    """Propose the known word that looks most like this one, as the end of a sentence."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f". Did you mean {close[0]!r}?" if close else ""


def config_class(kind: str, name: str) -> type[BaseModel]:
    """The pydantic options of a method; `package.module:factory` takes any."""
    if ":" in name:
        from environments.factories import wrong_name

        if (wrong := wrong_name(name)) is not None:
            raise SpecError(wrong)
        return GivenOption
    config: type[BaseModel] = load(find(kind, name)).Config
    return config


def require_installed(kind: str, config: BaseModel) -> None:
    """Have a method say, before anything else is built, that what it needs is not installed here; most need nothing."""
    name = type_of(config)
    check = None if ":" in name else getattr(load(find(kind, name)), "require_installed", None)
    if check is not None:
        check()


def require_kind(kind: str) -> None:
    """Refuse a kind that is not there."""
    known = [*KINDS, *PARTS]
    if kind not in known:
        raise SpecError(
            f"{kind!r} is not a kind of method; there are: {', '.join(KINDS)}; and of parts of an objective: "
            f"{', '.join(PARTS)}{nearest(kind, known)}"
        )


def describe(method: Method) -> dict[str, Any]:
    """Tell all there is to say about a method: its docstring, and its options with their defaults."""
    if method.kind == "objectives":
        from policies.objectives.description import story

        text, options = story(method.name), _resolved(method.name)
    else:
        module = load(method)
        text = (module.__doc__ or "").strip()
        options = _options(module.Config)
    return {
        "kind": method.kind,
        "name": method.name,
        "source": method.source,
        "text": text,
        "options": options,
    }


def _options(config: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """Describe the fields of a method's options."""
    schema = config.model_json_schema()
    required = schema.get("required", [])
    return {
        name: {
            "default": "required" if name in required else field.get("default"),
            "meaning": " ".join(field.get("description", "").split()),
        }
        for name, field in schema["properties"].items()
        if name != "type"
    }


def _resolved(preset: str) -> dict[str, dict[str, Any]]:
    """Describe a preset's fields and the options of its parts, every one with the value it has there."""
    from policies.objectives.config import ObjectiveConfig
    from policies.objectives.registry import load as load_part

    config = ObjectiveConfig.model_validate(preset)
    fields = dict(ObjectiveConfig.model_fields)
    for part in config.parts():
        fields |= load_part(*part).Config.model_fields
    return {
        key: {"default": value, "meaning": " ".join((fields[key].description or "").split())}
        for key, value in config.model_dump(mode="json").items()
    }


def load(method: Method) -> ModuleType:
    """Import a method's module."""
    return importlib.import_module(method.module)


def search_in(folder: str | None) -> None:
    """Let `package.module:factory` be found in a user's folder: last, so that it never hides a package."""
    for place in (str(Path.cwd()), folder):
        if place is not None and place not in sys.path:
            sys.path.append(place)


def factory(path: str) -> Callable[..., Any]:
    """Import `package.module:factory`, as outsiders name their methods."""
    from environments import EnvironmentFault
    from environments.factories import imported
    from environments.registry import ambiguity

    module_name, _, attribute = path.partition(":")
    if (doubt := ambiguity(module_name)) is not None:
        raise SpecError(f"{path!r}: {doubt}")
    try:
        made: Callable[..., Any] = getattr(imported(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise SpecError(
            f"cannot import {path!r}: {error}. Is its folder the current one, or installed?"
        ) from error
    except EnvironmentFault as fault:
        raise SpecError(str(fault)) from fault
    return made


def type_of(config: BaseModel) -> str:
    """The name by which a spec calls the method that this config is for."""
    return str(config.type)  # type: ignore[attr-defined]


def create(kind: str, config: BaseModel, **arguments: Any) -> Any:
    """Make the object that a config describes. A factory of the user's own is called only if it can be one."""
    if isinstance(config, GivenOption):
        return _made_by_factory(kind, config, arguments)
    return load(find(kind, type_of(config))).create(config, **arguments)


def _made_by_factory(kind: str, config: GivenOption, arguments: Mapping[str, Any]) -> Any:
    from environments.factories import raised

    refuse_uncallable(kind, config, *arguments)
    path, contract = config.type, _contract(kind)
    try:
        made = factory(path)(**arguments, **config.options)
    except ValueError:
        raise  # refuses its options, in words
    except (Exception, SystemExit) as error:
        raise SpecError(f"{path} raised {raised(error)}; mend it, or its options") from error
    if not isinstance(made, contract):
        what = f"{contract.__module__}.{contract.__name__}"
        raise SpecError(f"{path} makes a {type(made).__name__}, not a {kind.removesuffix('s')}: see `{what}`")
    return made


def refuse_uncallable(kind: str, config: BaseModel, *arguments: str) -> None:
    """Refuse a factory of the user's own that cannot be called with arguments of these names, without calling it."""
    from environments.factories import uncallable

    if not isinstance(config, GivenOption):
        return
    path, options = config.type, config.options
    named = dict.fromkeys(arguments)
    if (wrong := uncallable(factory(path), _contract(kind), (), {**options, **named})) is not None:
        called = f"{path.partition(':')[2]}({', '.join(f'{name}=...' for name in arguments)}, **options)"
        raise SpecError(f"{path} cannot be called as {called}: {wrong}")


def _contract(kind: str) -> type:
    """The class that everything of a kind is of."""
    module, name = CONTRACTS[kind].split(":")
    contract: type = getattr(importlib.import_module(module), name)
    return contract


def _presets() -> tuple[Method, ...]:
    from policies.objectives.presets import PRESETS, family_of

    return tuple(
        Method(
            "objectives",
            name,
            preset.about if preset.verified else f"{preset.about} [experimental]",
            preset.source,
            "policies.objectives.presets",
            family_of(name),
        )
        for name, preset in PRESETS.items()
    )


def _folder(kind: str) -> list[Method]:
    folder = {**FOLDERS, **PARTS}[kind]
    package = importlib.import_module(folder)
    methods = []
    for path in sorted(Path(package.__path__[0]).glob("*.py")):
        method = _describe(kind, path.stem, f"{folder}.{path.stem}", path)
        if method is not None:
            methods.append(method)
    return methods


def _describe(kind: str, name: str, module: str, path: Path | None = None) -> Method | None:
    """Read a file's docstring and SOURCE without importing it; None if it is no method."""
    if path is None:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            return None
        path = Path(spec.origin)
    tree = ast.parse(path.read_text())
    names = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    if not {"Config", "create"} <= names:
        return None
    summary = (ast.get_docstring(tree) or "").split("\n\n")[0].replace("\n", " ")
    return Method(kind, name, summary, _constant(tree, "SOURCE"), module)


def _constant(tree: ast.Module, name: str) -> str:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == name for t in node.targets
        ):
            return str(ast.literal_eval(node.value))
    return ""
