"""The levels of a data set's own curriculum in reasoning_gym, each as a set of options: `levels: 4`.

A level sets the options that the curriculum moves; where it gives them as a range, a level reaches from the easiest
value to its own (the library's default), so that tasks of a level may be as easy as those below it.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

LEVEL = "level"  # the key that holds a category's level, beside the options


def level_name(level: int) -> str:
    """Name the category of a level."""
    return f"{LEVEL}-{level}"


def listed(levels: int | list[int]) -> list[int]:
    """List the levels that are meant: a number is that many, from 0."""
    return list(range(levels)) if isinstance(levels, int) else levels


def level_options(library: ModuleType, dataset: str, levels: int | list[int]) -> dict[str, dict[str, Any]]:
    """Options of each level by the name of its category, `level` among them.

    Args:
        library: `reasoning_gym.factory`.
        dataset: name of a data set.
        levels: as in a spec.

    Raises:
        ValueError: the data set has no levels, or not all of these; the message says what to do.
    """
    if not library.has_curriculum(dataset):
        raise ValueError(f"{dataset} has no levels of its own; write `categories` with the options of each")
    there, wanted = _all_levels(library, dataset), listed(levels)
    if not wanted or len(set(wanted)) < len(wanted) or not all(0 <= level < len(there) for level in wanted):
        raise ValueError(
            f"{dataset} has levels 0 to {len(there) - 1}: expected some of them, each once, or how many from 0, not"
            f" {levels!r}"
        )
    return {level_name(level): {**there[level], LEVEL: level} for level in wanted}


def _all_levels(library: ModuleType, dataset: str) -> list[dict[str, Any]]:
    """Options of every level; a last one that only repeats the one before, as ranges do that end there, is left out."""
    fields = library.create_curriculum(dataset).attributes.values()
    options = [
        _options(library, dataset, level) for level in range(max(len(field.levels) for field in fields))
    ]
    return options[:-1] if len(options) > 1 and options[-1] == options[-2] else options


def _options(library: ModuleType, dataset: str, level: int) -> dict[str, Any]:
    """Options that a level sets; one that has no such level is set to its last."""
    curriculum = library.create_curriculum(dataset)
    curriculum.set_global_level(level)
    made = curriculum.generate_configuration()
    names = [
        getattr(field, place)
        for field in curriculum.attributes.values()
        for place in ("field_name", "lower_field_name", "upper_field_name")
        if hasattr(field, place)
    ]
    return {name: getattr(made, name) for name in names}
