"""What a verb about environments is told: a spec, one environment of it, or one environment by its type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from environments import Environment, EnvironmentSource
from environments.checker.findings import error_text
from environments.user_code import without_function
from orchestrator.errors import UserError
from orchestrator.registry import listing, nearest
from orchestrator.scripted_play import ANY_SPEC, TurnBudget
from orchestrator.spec import Spec, load_spec
from orchestrator.spec.load import key_and_value

Target = Annotated[
    str,
    typer.Argument(
        metavar="SPEC",
        help="A spec file; or package.module:factory, ./file.py:factory, or a type's name.",
    ),
]
OnlyEnvironment = Annotated[str | None, typer.Argument(metavar="ENV", help="Only this environment of the spec.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A field of the spec; without a spec: an option, in YAML."),
]


@dataclass(frozen=True)
class Targets:
    """Environments to look at, none of them built."""

    sources: Sequence[EnvironmentSource]
    spec: Spec | None  # None: one environment by its type

    def turn_budget(self, environment: str) -> TurnBudget:
        """Say how many turns an episode of an environment has at most, and what it is worth then."""
        if self.spec is None:
            return ANY_SPEC
        options = self.spec.budgets.options(environment)
        return TurnBudget(options.max_turns, options.cut_off)


def find_targets(target: str, name: str | None, overrides: Sequence[str]) -> Targets:
    """Find out which environments are meant, building nothing. Raises UserError and SpecError."""
    types = [method.name for method in listing("environments")]
    if not Path(target).is_file() and (":" in target or target in types):
        if name is not None:
            raise UserError(f"{name!r}: an environment is named after a spec; {target} is one environment")
        place = target.partition(":")[0]
        called = Path(place).stem if "/" in place else place.rpartition(".")[2]
        return Targets([EnvironmentSource(called, target, options_of(overrides), str(Path.cwd()))], None)
    if (lacking := without_function(target)) is not None:
        raise UserError(lacking)
    spec = load_spec(Path(target), overrides)
    if name is not None and name not in spec.environments:
        known = ", ".join(spec.environments)
        raise UserError(f"{target} has no environment {name!r}; it has: {known}{nearest(name, spec.environments)}")
    sources = [
        section.source(called, spec.resources.search_path)
        for called, section in spec.environments.items()
        if name in (None, called)
    ]
    return Targets(sources, spec)


def built(sources: Sequence[EnvironmentSource], tell: Callable[[str], None]) -> dict[str, Environment]:
    """Build environments, by name. Raises UserError: a type refuses its options, which no spec has checked."""
    made = dict[str, Environment]()
    for one in sources:
        try:
            made[one.name] = one.create(tell)
        except ValidationError as refused:
            raise UserError(f"{one.type}: {error_text(refused)}") from refused
    return made


def options_of(overrides: Sequence[str]) -> dict[str, Any]:
    """Read options as `key=value`, values in YAML."""
    return dict(key_and_value(override, "lengths='[3, 4]'") for override in overrides)
