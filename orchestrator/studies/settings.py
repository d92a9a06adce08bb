"""From what varies to settings: every combination, a list, or draws; each with a label and where it was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, product
from typing import Any

import numpy as np

from orchestrator import random_streams
from orchestrator.spec.document import Path_
from orchestrator.spec.setting_labels import label_of, leaves
from orchestrator.studies.study_file import RandomDraws, Space, StudyFile

DIGITS = 4  # of a drawn number: its label then says exactly what ran
TRIES = 1000  # for a draw that no earlier one equals


@dataclass(frozen=True)
class Variation:
    """A setting as written: what it gives which spec field, and where in the study's file that stands."""

    label: str
    values: Mapping[str, Any]  # dotted spec field -> value
    places: Mapping[str, Path_]  # dotted spec field -> path in the file


def expand(file: StudyFile) -> list[Variation]:
    """List a study's settings, in the order in which they are written."""
    if file.grid is not None:
        return _labelled(_grid(file.grid))
    if file.listed is not None:
        return _labelled(_listed(file.listed), [one.get("label") for one in file.listed])
    if file.random is not None:
        return _labelled(_drawn(file.random))
    return _labelled([({}, {})])


Raw = tuple[dict[str, Any], dict[str, Path_]]  # values, places


def _grid(grid: Mapping[str, list[Any]]) -> list[Raw]:
    places: dict[str, Path_] = {key: ("grid", key) for key in grid}
    return [(dict(zip(grid, values, strict=True)), places) for values in product(*grid.values())]


def _listed(settings: list[dict[str, Any]]) -> list[Raw]:
    found: list[Raw] = []
    for index, one in enumerate(settings):
        values = {key: value for key, value in one.items() if key != "label"}
        found.append((values, {key: ("list", index, key) for key in values}))
    return found


def _drawn(random: RandomDraws) -> list[Raw]:
    """Draw settings; every field has a stream of its own, so more samples leave the first ones as they are."""
    generators = {key: random_streams.generator(random.seed, "study", key) for key in random.space}
    places: dict[str, Path_] = {key: ("random", "space", key) for key in random.space}
    found: list[Raw] = []
    tries = count()
    while len(found) < random.samples and next(tries) < random.samples + TRIES:
        values = {key: draw(space, generators[key]) for key, space in random.space.items()}
        if values not in [earlier for earlier, _ in found]:
            found.append((values, places))
    return found


def draw(space: Space, rng: np.random.Generator) -> Any:
    """Draw one value; numbers are rounded to four digits."""
    if space.choice is not None:
        return space.choice[int(rng.integers(len(space.choice)))]
    if space.integer is not None:
        return int(rng.integers(space.integer[0], space.integer[1], endpoint=True))
    if space.log_uniform is not None:
        low, high = np.log(space.log_uniform)
        return _rounded(float(np.exp(rng.uniform(low, high))), space.log_uniform)
    assert space.uniform is not None
    return _rounded(float(rng.uniform(*space.uniform)), space.uniform)


def _rounded(value: float, bounds: tuple[float, float]) -> float:
    return min(max(float(f"{value:.{DIGITS}g}"), bounds[0]), bounds[1])


def _labelled(settings: list[Raw], labels: list[str | None] | None = None) -> list[Variation]:
    among = {key for values, _ in settings for key in leaves(values)}
    own = labels or [None] * len(settings)
    return [
        Variation(str(label) if label is not None else label_of(values, among), values, places)
        for (values, places), label in zip(settings, own, strict=True)
    ]
