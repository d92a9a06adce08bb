"""Checks of what an environment says of itself: version, flags, categories, sizes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from environments.checker.context import CheckContext
from environments.checker.findings import CategoryFacts, shown, told
from environments.contracts import Category

FAR = (10_000, 2**20, 2**30 + 2**20)  # streams of training tasks begin at an offset below 2^30


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


# Attribute: what it must be, and whether a value is that.
ATTRIBUTES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "closed": ("True or False", lambda value: isinstance(value, bool)),
    "scores_in_process": ("True or False", lambda value: isinstance(value, bool)),
    "max_tokens": (
        "None or a whole number of at least 1",
        lambda value: value is None or _is_count(value),
    ),
    "symbols": (
        "a tuple of strings",
        lambda value: isinstance(value, tuple) and all(isinstance(s, str) for s in value),
    ),
}


def check_attributes(bench: CheckContext) -> None:
    """Look at version and flags."""
    version = bench.environment.version
    if not version.strip() or not version.isprintable():
        bench.find("version", f"version must be printable and not empty, found {shown(version)}")
    bench.facts["version"] = version
    for name, (expected, is_right) in ATTRIBUTES.items():
        value = getattr(bench.environment, name)
        if not is_right(value):
            bench.find("attribute", f"{name} must be {expected}, found {shown(value)}")
    for name in ("closed", "scores_in_process"):
        bench.facts[name] = bool(getattr(bench.environment, name))


def check_categories(bench: CheckContext) -> None:
    """Look at every category, and whether there is something to train on."""
    categories = list(bench.environment.categories)
    for category in categories:
        fault = _category_fault(category)
        if fault:
            bench.find("category", fault, str(category.name))
        else:
            bench.categories.append(category)
    if [c.name for c in bench.environment.categories] != [c.name for c in categories]:
        bench.find("category-order", "asked twice, the categories come in another order")
    if not any(category.trainable for category in bench.categories):
        bench.find(
            "not-trainable", "every category is only held out: it will be evaluated and never trained on"
        )


def _category_fault(category: Category) -> str | None:
    if not isinstance(category.name, str) or not category.name.strip() or not category.name.isprintable():
        return f"its name must be a printable string with something in it, found {shown(category.name)}"
    if not isinstance(category.trainable, bool):
        return f"trainable must be True or False, found {shown(category.trainable)}"
    if not isinstance(category.parameters, Mapping):
        return f"parameters must be a map, found {shown(category.parameters)}"
    try:
        json.dumps(dict(category.parameters))
    except (TypeError, ValueError) as error:
        return f"parameters cannot be written as JSON ({told(error)})"
    return None


def check_sizes(bench: CheckContext) -> None:
    """Ask every category for its size, and for the tasks at its end."""
    for category in bench.categories:
        bench.at(f"the size of category {shown(category.name)}")
        size: object = bench.environment.size(category.name)
        if size is not None and not _is_count(size):
            bench.find("size", f"its size must be None or at least 1, found {shown(size)}", category.name)
            continue
        assert size is None or isinstance(size, int)
        bench.sizes[category.name] = size
        bench.counts[category.name] = CategoryFacts(category.name, category.trainable, size)
        for index in FAR if size is None else (size - 1,):
            _try(bench, category.name, index, size)


def _try(bench: CheckContext, category: str, index: int, size: int | None) -> None:
    said = "it is endless" if size is None else f"it has {size} tasks"
    bench.at(f"task {index} of category {shown(category)}")
    try:
        bench.environment.task(category, index)
    except BaseException as error:  # foreign code may raise anything
        bench.find("size-honest", f"says that {said}, but task {index} fails: {told(error)}", category, index)
