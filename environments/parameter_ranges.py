"""Ranges of options as a spec gives them, and the box they make: `parameters: {min_value + max_value: [1, 90]}`.

A dimension may set several options to the same value: their names joined by "+".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from environments.boxes import Box, Values

JOIN = "+"
MOST_PARAMETERS = 6  # so that every corner can be tried


def options_of(name: str) -> list[str]:
    """List the options that a dimension sets."""
    return [part.strip() for part in name.split(JOIN)]


def box_of(ranges: Any, is_real: Callable[[str], bool]) -> Box:
    """Make the box of some ranges, in their order.

    Args:
        ranges: option name, or several joined by "+": [least, most], both taken.
        is_real: says of an option that it takes any number; another is whole where both ends are.

    Raises:
        ValueError: what is there is no map of ranges, sets an option twice, or has a range that cannot be used.
    """
    if not isinstance(ranges, Mapping) or not 0 < len(ranges) <= MOST_PARAMETERS:
        raise ValueError(
            f"parameters names 1 to {MOST_PARAMETERS} options with their ranges, like {{max_value: [10, 90]}},"
            f" not {ranges!r}"
        )
    for name, ends in ranges.items():
        if not (isinstance(ends, list | tuple) and len(ends) == 2 and all(map(_is_number, ends))):
            raise ValueError(f"{name}: expected a range [least, most], two numbers, found {ends!r}")
    named = [option for name in ranges for option in options_of(name)]
    twice = sorted({option for option in named if named.count(option) > 1})
    if twice:
        raise ValueError(f"the option {twice[0]!r} has two ranges; keep one")
    return Box(
        names=tuple(ranges),
        low=tuple(ends[0] for ends in ranges.values()),
        high=tuple(ends[1] for ends in ranges.values()),
        whole=tuple(
            all(isinstance(end, int) for end in ends) and not any(map(is_real, options_of(name)))
            for name, ends in ranges.items()
        ),
    )


def spread(values: Values) -> Values:
    """Give every option the value of its dimension."""
    return {option: value for name, value in values.items() for option in options_of(name)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
