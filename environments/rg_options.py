"""Options of reasoning_gym's data sets as a spec gives them: by name, by level, or as ranges that make a box.

`levels: 4` takes the levels of the data set's own curriculum. A level sets the options that the curriculum moves; where
it gives them as a range, a level reaches from the easiest value to its own (the library's default), so that tasks of a
level may be as easy as those below it. `parameters: {min_value + max_value: [1, 90]}` makes a box: a dimension may set
several options to the same value, their names joined by "+".
"""

from __future__ import annotations

import difflib
import io
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stdout
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np

from environments.boxes import Box, Values
from environments.contracts import EnvironmentFault

LEVEL = "level"  # the key that holds a category's level, beside the options
OURS = ("trainable", "parameters", LEVEL)  # keys of a category that are no options of the data set
JOIN = "+"
MOST_PARAMETERS = 6  # so that every corner can be tried
REFUSALS = (AssertionError, TypeError, ValueError)  # what a data set raises at options

# These lay out all tasks when they are built, or refuse an index beyond their size (0.1.25, all 104 looked at).
LAID_OUT = frozenset({"acre", "gsm_symbolic", "list_functions", "word_ladder"})


def library() -> ModuleType:
    """Import `reasoning_gym.factory`; raises EnvironmentFault if it is not installed."""
    try:
        with undisturbed(0):  # something that it imports draws from `random`
            import reasoning_gym.factory
    except ModuleNotFoundError as error:
        raise EnvironmentFault(
            f"environments of type reasoning_gym need the package reasoning-gym ({error});"
            " install it with: pip install 'evergreen-rl[reasoning-gym]'"
        ) from error
    return reasoning_gym.factory  # type: ignore[no-any-return]


@contextmanager
def undisturbed(seed: int) -> Iterator[None]:
    """Lend the library the global generators, seeded, and take them back; keep its prints and files to itself.

    So a task is a function of its index here too. Costs .1 ms and more, hence only where it is needed.
    """
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


def level_options(library: ModuleType, dataset: str, levels: int | list[int]) -> dict[str, dict[str, Any]]:
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


def _of_level(library: ModuleType, dataset: str, level: int) -> dict[str, Any]:
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


# --- ranges ----------------------------------------------------------------------------------------------


def _options_of(name: str) -> list[str]:
    """List the options that a dimension sets."""
    return [part.strip() for part in name.split(JOIN)]


def spread(values: Values) -> Values:
    """Give every option the value of its dimension."""
    return {option: value for name, value in values.items() for option in _options_of(name)}


def values_text(values: Values) -> str:
    """Write the values of a box's parameters for people."""
    return ", ".join(f"{name} = {value:g}" for name, value in values.items())


def _box_of(ranges: Any, is_real: Callable[[str], bool]) -> Box:
    """Make the box of some ranges, in their order; a dimension is whole where both ends are and no option is real."""
    if not isinstance(ranges, Mapping) or not 0 < len(ranges) <= MOST_PARAMETERS:
        raise ValueError(
            f"parameters names 1 to {MOST_PARAMETERS} options with their ranges, like {{max_value: [10, 90]}},"
            f" not {ranges!r}"
        )
    for name, ends in ranges.items():
        is_range = isinstance(ends, list | tuple) and len(ends) == 2
        if not is_range or not all(
            isinstance(end, int | float) and not isinstance(end, bool) for end in ends
        ):
            raise ValueError(f"{name}: expected a range [least, most], two numbers, found {ends!r}")
    named = [option for name in ranges for option in _options_of(name)]
    twice = sorted({option for option in named if named.count(option) > 1})
    if twice:
        raise ValueError(f"the option {twice[0]!r} has two ranges; keep one")
    return Box(
        names=tuple(ranges),
        low=tuple(ends[0] for ends in ranges.values()),
        high=tuple(ends[1] for ends in ranges.values()),
        whole=tuple(
            all(isinstance(end, int) for end in ends) and not any(map(is_real, _options_of(name)))
            for name, ends in ranges.items()
        ),
    )


def box_of_category(dataset: str, category: str, options: Mapping[str, Any]) -> Box:
    """Make the box of a category's ranges.

    Raises ValueError if the ranges cannot be used, or this data set can have none like them.
    """
    if dataset in LAID_OUT:
        raise ValueError(
            f"category {category!r}: {dataset} lays out all its tasks when it is built, and a box would do that for"
            " every value; give `categories` instead of `parameters`"
        )
    try:
        box = _box_of(options["parameters"], lambda option: _kind(dataset, option) is float)
    except ValueError as error:
        raise ValueError(f"category {category!r}: {error}") from error
    if "size" in options:
        raise ValueError(f"category {category!r}: a box never ends; leave out its size")
    for option in (option for name in box.names for option in _options_of(name)):
        _check_known(dataset, category, option)
        if option in options:
            raise ValueError(f"category {category!r}: {option} has a value and a range; keep one of them")
        if option in ("seed", "size") or _kind(dataset, option) is None:
            raise ValueError(
                f"category {category!r}: {option} is no number that {dataset} asks its questions by, so it can have no"
                " range; give `categories` with its values"
            )
    for name, whole in zip(box.names, box.whole, strict=True):
        if not whole and any(_kind(dataset, option) is int for option in _options_of(name)):
            fault = f"{name} takes whole numbers; write the range without a point"
            raise ValueError(f"category {category!r}: {fault}")
    return box


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
    """Check the options of a category, and every corner where they make a box.

    Raises ValueError if the data set does not have an option, or refuses a value; the message names the category.
    """
    if not isinstance(options.get("trainable", True), bool):
        raise ValueError(f"category {category!r}: trainable is true or false, not {options['trainable']!r}")
    level = options.get(LEVEL, 0)
    if isinstance(level, bool) or not isinstance(level, int | float):
        raise ValueError(f"category {category!r}: level is a number, not {level!r}")
    own = of_the_data_set(options)
    for option in own:
        _check_known(dataset, category, option)
    if "parameters" not in options:
        try:
            return _try(dataset, own)
        except REFUSALS as error:
            raise ValueError(f"category {category!r}: {dataset} refuses its options: {error}") from error
    box = box_of_category(dataset, category, options)
    for cell in box.corners():
        corner = spread(box.values(cell))
        try:
            _try(dataset, {**own, **corner})
        except REFUSALS as error:
            raise ValueError(
                f"category {category!r}: {dataset} refuses the corner {values_text(corner)} of its parameters: {error};"
                " narrow a range, set what depends on it to fit all of it, or join names by '+' to keep them equal"
            ) from error


def _check_known(dataset: str, category: str, option: str) -> None:
    known = sorted(library().DATASETS[dataset][1].__dataclass_fields__)
    if option not in known:
        near = difflib.get_close_matches(option, known, n=1)
        hint = f"did you mean {near[0]}? It has" if near else "it has"
        hint += f": {', '.join(known)}"
        raise ValueError(f"category {category!r}: {dataset} has no option {option!r}; {hint}")


def _try(dataset: str, options: Mapping[str, Any]) -> None:
    """Have the data set check its options; two of them (0.1.25) check none."""
    made = library().DATASETS[dataset][1](**options)
    if hasattr(made, "validate"):
        made.validate()
