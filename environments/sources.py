"""Where an environment comes from: a name in the spec, a type, options. Plain data that any process can build from.

A type is a file of this folder, of an installed package (entry points `evergreen.environments`), or a function of the
user's own, `package.module:factory` or `./file.py:factory`, in a file beside the spec.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from environments import registry
from environments.contracts import (
    LONGEST_CATEGORY,
    MOST_TASKS,
    TOO_MANY,
    Category,
    Environment,
    EnvironmentFault,
    RemoteEnvironment,
)
from environments.display import shortened
from environments.futures import Waiting
from environments.options import Options
from environments.plugins import ENVIRONMENTS
from environments.slices.options import KEY, read_options
from environments.surroundings import forks_ended
from environments.user_code import code_digest, is_user_code, raised, uncallable, unknown_options

CALLING = "factory(name, **options) and returns an Environment"


@dataclass(frozen=True)
class EnvironmentSource:
    """The recipe of one environment; crosses process borders in place of the environment itself."""

    name: str  # in the spec
    type: str  # a file of this folder, or "package.module:factory", "./file.py:factory"
    options: Mapping[str, Any] = field(default_factory=dict)  # what the spec says beside the type
    search_path: str | None = None  # the spec's folder; appended to the path, never put before ours
    kept_slices: str | None = None  # the file in which a run keeps its slices, if it has begun
    episodes: Mapping[str, Any] = field(default_factory=dict)  # what the spec says of its episodes; no factory sees it

    def create(self, tell: Callable[[str], None] | None = None, *, is_patient: bool = True) -> Environment:
        """Build the environment; `tell` hears how far opening its data is, and what keeps who asks for tasks waiting.

        `is_patient`: tasks of servers that are away are waited for long, as by who would lose what is under way.
        Raises EnvironmentFault if the type is not there, its factory cannot be used, or what it made is no environment,
        pydantic.ValidationError if a built-in type refuses the options.
        """
        made = self.build()
        if isinstance(made, RemoteEnvironment):
            made.is_needed = is_patient
            if tell is not None:
                made.meanwhile = Waiting([made], tell)
        try:
            if tell is not None:
                made.open(tell)
            categories: list[object] = list(made.categories)
        except (EnvironmentFault, KeyboardInterrupt):
            raise
        except BaseException as error:  # foreign code may raise anything
            what = "opening it or asking for its categories"
            raise self._fault(f"{what} raised {raised(error)}; mend it, or the options") from error
        if getattr(made, "name", None) != self.name:
            raise self._fault("set its attribute name to the name the factory is given")
        if not isinstance(getattr(made, "version", None), str):
            raise self._fault("set its attribute version to a string, for example '1'")
        names = [category.name for category in categories if isinstance(category, Category)]
        if not names or len(set(names)) < len(categories):
            wanted = "expected at least one category, each name once, as Category objects"
            raise self._fault(f"{wanted}; found {names or categories}")
        asked, own = self.episodes.get("max_tokens"), made.max_tokens
        if None not in (asked, own) and asked != own:
            said = f"its own `max_tokens` is {own}, and {asked} under `episodes`"
            which = (
                "leave one out" if "max_tokens" in self.options else "leave out the latter, the type needs the former"
            )
            raise self._fault(f"{said}, of which one would not hold: {which}")
        return made

    @property
    def code_digest(self) -> str | None:
        """A digest of the file of its factory, once that was imported; None: its type is a built-in one."""
        return code_digest([self.type], self.search_path) if is_user_code(self.type) else None

    def build(self) -> Environment:
        """Build the environment to score with and no more: nothing is asked of it, so it need not open its data.

        Raises as `create` does, as far as building it shows.
        """
        if KEY not in self.options:
            return self._build()
        from environments.slices.environment import SlicedEnvironment, SlicedRemoteEnvironment

        own = {name: value for name, value in self.options.items() if name != KEY}
        kept = None if self.kept_slices is None else Path(self.kept_slices)
        inside = replace(self, options=own)._build()
        options = read_options(self.options[KEY])
        if isinstance(inside, RemoteEnvironment):
            return SlicedRemoteEnvironment(inside, options, self.search_path, kept)
        return SlicedEnvironment(inside, options, self.search_path, kept)

    def _build(self) -> Environment:
        config = validate(self.type, self.options)
        with forks_ended():
            made = self._from_factory() if config is None else self._from_type(config)
        if not isinstance(made, Environment):
            raise self._fault(f"the factory returned {type(made).__name__}, not an environments.Environment")
        return made

    def _fault(self, words: str) -> EnvironmentFault:
        return EnvironmentFault(f"environment {self.name}: {words}")

    def _from_type(self, config: Options) -> object:
        try:
            return registry.module_of(ENVIRONMENTS, self.type).create(self.name, config.within(self.search_path))
        except (EnvironmentFault, ValidationError, KeyboardInterrupt):
            raise
        except BaseException as error:  # a class or a game that it looks at may raise anything
            raise self._fault(f"making it raised {raised(error)}; mend what it names, or the options") from error

    def _from_factory(self) -> object:
        factory = registry.function_of(ENVIRONMENTS, self.type, self.search_path, CALLING)
        if (wrong := uncallable(factory, Environment, (self.name,), self.options)) is not None:
            called = f"{self.type} is called as factory(name, **options)"
            options = sorted(unknown_options(factory, self.options) or self.options)
            raise self._fault(f"{called} and cannot take the options {options}: {wrong}")
        if self.episodes and "episodes" in inspect.signature(factory).parameters:
            said = f"{self.type} has a parameter `episodes`, which is a word of the spec that no factory is given"
            raise self._fault(f"{said}: call that parameter something else")
        try:
            return factory(self.name, **self.options)
        except (EnvironmentFault, KeyboardInterrupt):
            raise
        except BaseException as error:  # foreign code; whoever wrote it can do something about it
            raise self._fault(f"{self.type} raised {raised(error)}; mend it, or the options") from error


def categories_fault(environment: Environment) -> str | None:
    """Say what is wrong with an environment's categories, if something is."""
    categories: object = environment.categories
    if not isinstance(categories, Sequence):
        return f"its categories must be a list or a tuple, found a {type(categories).__name__}"
    for category in environment.categories:
        try:
            fault = category_fault(category) or size_fault(environment.size(category.name))
        except (EnvironmentFault, KeyboardInterrupt):
            raise
        except BaseException as error:  # foreign code
            fault = f"asking for its size raised {raised(error)}"
        if fault is not None:
            return f"category {shortened(ascii(category.name))}: {fault}"
    return None


def category_fault(category: Category) -> str | None:
    """Say what is wrong with a category, if something is."""
    if not isinstance(category.name, str) or not category.name.strip() or not category.name.isprintable():
        return f"its name must be a printable string with something in it, found {shortened(ascii(category.name))}"
    if len(category.name) > LONGEST_CATEGORY:
        return f"its name is longer than {LONGEST_CATEGORY} characters"
    if not isinstance(category.trainable, bool):
        return f"trainable must be True or False, found {shortened(ascii(category.trainable))}"
    if not isinstance(category.parameters, Mapping):
        return f"parameters must be a map, found {shortened(ascii(category.parameters))}"
    try:
        json.dumps(dict(category.parameters))
    except (TypeError, ValueError) as error:
        return f"parameters cannot be written as JSON ({error})"
    return None


def size_fault(size: object) -> str | None:
    """Say what is wrong with a category's number of tasks, if something is."""
    if size is None or (isinstance(size, Integral) and not isinstance(size, bool) and int(size) >= 1):
        return None if size is None or int(size) <= MOST_TASKS else TOO_MANY
    return f"its size must be None or a whole number of at least 1, found {shortened(ascii(size))}"


def types() -> dict[str, str]:
    """List the built-in types with the first line of their docstrings, importing none of them."""
    return registry.types(ENVIRONMENTS)


def validate(type_: str, options: Mapping[str, Any]) -> Options | None:
    """Check the options of a built-in type; None for a user's factory, which checks its own.

    Raises EnvironmentFault if there is no such type or an extra is not installed, pydantic.ValidationError if an option
    is unknown or has a value that cannot be used.
    """
    if is_user_code(type_):
        return None
    return cast(Options, registry.module_of(ENVIRONMENTS, type_).Config.model_validate(dict(options)))
