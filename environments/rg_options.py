"""Options of reasoning_gym's data sets as a spec gives them: by name, by level, or as ranges that make a box.

`levels: 4` takes the levels of the data set's own curriculum; where that gives an option as a range, a level reaches
from the easiest value to its own (the library's default). `parameters: {min_value + max_value: [1, 90]}` makes a box: a
dimension may set several options to the same value, their names joined by "+".
"""

from __future__ import annotations

import difflib
import io
import random
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stdout
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from environments.boxes import Box, Values
from environments.contracts import import_extra

LEVEL = "level"  # the key that holds a category's level, beside the options
OURS = ("trainable", "parameters", LEVEL)  # keys of a category that are no options of the data set
JOIN = "+"
MOST_PARAMETERS = 6  # so that every corner can be tried
REFUSALS = (AssertionError, TypeError, ValueError)  # what a data set raises at options

# These lay out all tasks when they are built, or refuse an index beyond their size (0.1.25, all 104 looked at).
LAID_OUT = frozenset({"acre", "gsm_symbolic", "list_functions", "word_ladder"})


def library() -> Any:
    """Import `reasoning_gym.factory`; raises EnvironmentFault if it is not installed."""
    needs = "environments of type reasoning_gym need the package reasoning-gym"
    with undisturbed(0):  # something that it imports draws from `random`
        return import_extra("reasoning_gym.factory", needs, "'evergreen-rl[reasoning-gym]'")


@contextmanager
def undisturbed(seed: int) -> Iterator[None]:
    """Lend the library the global generators, seeded, and keep its prints and files to itself; costs .1 ms and more."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        with TemporaryDirectory() as folder, chdir(folder), redirect_stdout(io.StringIO()):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def of_the_data_set(options: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the keys of a category that are ours."""
    return {key: value for key, value in options.items() if key not in OURS}


# --- levels ----------------------------------------------------------------------------------------------


def level_options(library: Any, dataset: str, levels: int | list[int]) -> dict[str, dict[str, Any]]:
    """Options of each level by the name of its category, `level` among them; a number means that many, from 0.

    Raises ValueError if the data set has no levels, or not all of these; the message says what to do.
    """
    if not library.has_curriculum(dataset):
        raise ValueError(f"{dataset} has no levels of its own; write `categories` with the options of each")
    fields = library.create_curriculum(dataset).attributes.values()
    there = [_of_level(library, dataset, n) for n in range(max(len(field.levels) for field in fields))]
    if len(there) > 1 and there[-1] == there[-2]:  # as with ranges that end there
        there.pop()
    wanted = list(range(levels)) if isinstance(levels, int) else levels
    if not wanted or len(set(wanted)) < len(wanted) or not all(0 <= level < len(there) for level in wanted):
        raise ValueError(
            f"{dataset} has levels 0 to {len(there) - 1}: expected some of them, each once, or how many from 0, not"
            f" {levels!r}"
        )
    return {f"{LEVEL}-{level}": {**there[level], LEVEL: level} for level in wanted}


def _of_level(library: Any, dataset: str, level: int) -> dict[str, Any]:
    """Options that a level sets; one that has no such level is set to its last."""
    curriculum = library.create_curriculum(dataset)
    curriculum.set_global_level(level)
    made, places = curriculum.generate_configuration(), ("field_name", "lower_field_name", "upper_field_name")
    fields = curriculum.attributes.values()
    names = [getattr(field, place) for field in fields for place in places if hasattr(field, place)]
    return {name: getattr(made, name) for name in names}


# --- ranges ----------------------------------------------------------------------------------------------


def _options_of(name: str) -> list[str]:
    return [part.strip() for part in name.split(JOIN)]


def spread(values: Values) -> Values:
    """Give every option the value of its dimension."""
    return {option: value for name, value in values.items() for option in _options_of(name)}


def values_text(values: Values) -> str:
    """Write the values of a box's parameters for people."""
    return ", ".join(f"{name} = {value:g}" for name, value in values.items())


def box_of_category(dataset: str, options: Mapping[str, Any]) -> Box:
    """Make the box of a category's ranges, in their order; ValueError if they cannot be used, or not by this data set.

    A dimension is whole where both ends of its range are, and no option that it sets is real.
    """
    if dataset in LAID_OUT:
        raise ValueError(
            f"{dataset} lays out all its tasks when it is built, and a box would do that for"
            " every value; give `categories` instead of `parameters`"
        )
    ranges = options["parameters"]
    if not isinstance(ranges, Mapping) or not 0 < len(ranges) <= MOST_PARAMETERS:
        raise ValueError(
            f"parameters names 1 to {MOST_PARAMETERS} options with their ranges, like {{max_value: [10, 90]}},"
            f" not {ranges!r}"
        )
    for name, ends in ranges.items():
        if not isinstance(ends, list | tuple) or len(ends) != 2 or not all(map(_is_number, ends)):
            raise ValueError(f"{name}: expected a range [least, most], two numbers, found {ends!r}")
    named = [option for name in ranges for option in _options_of(name)]
    twice = sorted({option for option in named if named.count(option) > 1})
    if twice:
        raise ValueError(f"the option {twice[0]!r} has two ranges; keep one")
    kinds = {name: [_kind(dataset, option) for option in _options_of(name)] for name in ranges}
    low, high = zip(*ranges.values(), strict=True)
    whole = [float not in kinds[name] and {type(end) for end in ranges[name]} == {int} for name in ranges]
    box = Box(names=tuple(ranges), low=low, high=high, whole=tuple(whole))
    if "size" in options:
        raise ValueError("a box never ends; leave out its size")
    for option in named:
        _check_known(dataset, option)
        if option in options:
            raise ValueError(f"{option} has a value and a range; keep one of them")
        if option in ("seed", "size") or _kind(dataset, option) is None:
            raise ValueError(
                f"{option} is no number that {dataset} asks its questions by, so it can have no"
                " range; give `categories` with its values"
            )
    for name, is_whole in zip(box.names, box.whole, strict=True):
        if not is_whole and int in kinds[name]:
            raise ValueError(f"{name} takes whole numbers; write the range without a point")
    return box


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kind(dataset: str, option: str) -> type | None:
    """Say what numbers an option takes, by its declaration and default: int, float, or None: it takes none."""
    declared = library().DATASETS[dataset][1].__dataclass_fields__.get(option)
    if declared is None:
        return None
    if declared.type is float or isinstance(declared.default, float):
        return float
    return int if declared.type in (int, int | None) else None


# --- checks ----------------------------------------------------------------------------------------------


def check_options(dataset: str, category: str, options: Mapping[str, Any]) -> None:
    """Check the options of a category, and every corner where they make a box; ValueError names category and fault."""
    try:
        _check_options(dataset, options)
    except ValueError as error:
        raise ValueError(f"category {category!r}: {error}") from error


def _check_options(dataset: str, options: Mapping[str, Any]) -> None:
    if not isinstance(options.get("trainable", True), bool):
        raise ValueError(f"trainable is true or false, not {options['trainable']!r}")
    if not _is_number(level := options.get(LEVEL, 0)):
        raise ValueError(f"level is a number, not {level!r}")
    own = of_the_data_set(options)
    for option in own:
        _check_known(dataset, option)
    if "parameters" not in options:
        try:
            return _try(dataset, own)
        except REFUSALS as error:
            raise ValueError(f"{dataset} refuses its options: {error}") from error
    box = box_of_category(dataset, options)
    for cell in box.corners():
        corner = spread(box.values(cell))
        try:
            _try(dataset, {**own, **corner})
        except REFUSALS as error:
            raise ValueError(
                f"{dataset} refuses the corner {values_text(corner)} of its parameters: {error};"
                " narrow a range, set what depends on it to fit all of it, or join names by '+' to keep them equal"
            ) from error


def _check_known(dataset: str, option: str) -> None:
    known = sorted(library().DATASETS[dataset][1].__dataclass_fields__)
    if option not in known:
        near = difflib.get_close_matches(option, known, n=1)
        hint = f"did you mean {near[0]}? It has" if near else "it has"
        raise ValueError(f"{dataset} has no option {option!r}; {hint}: {', '.join(known)}")


def _try(dataset: str, options: Mapping[str, Any]) -> None:
    """Have the data set check its options; two of them (0.1.25) check none."""
    made = library().DATASETS[dataset][1](**options)
    if hasattr(made, "validate"):
        made.validate()
