"""Sections of a spec whose further keys are the options of the methods that they name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from policies.objectives import registry
from policies.objectives.errors import ObjectiveError, unknown


class Section(BaseModel):
    """Fields name methods; every option of a named method (its `Config`) is a further key.

    So a new method brings its own keys, and a key that no named method has is refused.
    """

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @property
    def options(self) -> dict[str, Any]:
        """The options of all methods named here, by name; complete once the section is validated."""
        assert self.__pydantic_extra__ is not None, "further keys are allowed"
        return self.__pydantic_extra__

    def options_of(self, method: ModuleType) -> Any:
        """Make the `Config` of one method."""
        names = method.Config.model_fields
        return method.Config.model_validate({k: v for k, v in self.options.items() if k in names})

    def complete_options(self, named: Sequence[ModuleType], droppable: Mapping[str, Any]) -> None:
        """Check the further keys against the methods and fill in defaults.

        A key of no method is an error at that key, unless it is among the droppable ones (a preset's options for
        a part that the user replaced).
        """
        complete: dict[str, Any] = {}
        for method in named:
            complete |= self.options_of(method).model_dump()
        left = [k for k, v in self.options.items() if k not in complete and droppable.get(k, ...) != v]
        if left:
            words = {*type(self).model_fields, *complete}
            errors = [_unknown_key(key, words, self.options[key]) for key in left]
            raise ValidationError.from_exception_data(type(self).__name__, errors)
        self.options.clear()
        self.options.update(complete)


def one_of(what: str, names: Callable[[], Sequence[str]]) -> AfterValidator:
    """Validate a word against names that are looked up when it is read."""

    def check(word: str) -> str:
        if word not in names():
            raise ObjectiveError(unknown(what, word, names()))
        return word

    return AfterValidator(check)


def part_of(kind: registry.Kind) -> AfterValidator:
    """Validate the name of a part: one of ours or of an installed package, or a user's module."""
    what = kind.removesuffix("s").replace("_", " ")

    def check(word: str) -> str:
        if "." in word:
            registry.load(kind, word)
        elif word not in registry.names(kind):
            raise ObjectiveError(unknown(what, word, registry.names(kind)))
        return word

    return AfterValidator(check)


def in_a_row(value: Any) -> Any:
    """Read one thing as a list of one, and nothing as an empty one; a resolved section is left as it is."""
    if value is None or value == "none":
        return ()
    return [value] if isinstance(value, str | Mapping) else value


def _unknown_key(key: str, words: set[str], value: Any) -> InitErrorDetails:
    owners = [f"{kind}/{name}" for kind, name in registry.every() if key in registry.options(kind, name)]
    message = unknown("key", key, words)
    if owners:
        message = f"`{key}` is an option of {', '.join(owners)}, which is not part of this objective"
    error = PydanticCustomError("unknown_option", "{message}", {"message": message})
    return InitErrorDetails(type=error, loc=(key,), input=value)
