"""A study as its user writes it: a base spec, what varies, the seeds, and what will be compared.

What varies becomes settings: every combination, a list, or draws; each with a label and where it was written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product, zip_longest
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, field_validator, model_validator

from orchestrator import random_streams
from orchestrator.registry import nearest
from orchestrator.spec.document import Path_
from orchestrator.spec.echo import shown
from orchestrator.spec.fields import Section, refuse
from orchestrator.spec.model import slug
from orchestrator.spec.setting_labels import label_of
from store.comparison.scores import MEASURES
from store.run_summary import leaves

VARIATIONS = ("grid", "list", "random")
FIXED = {  # spec fields that no setting may change, and why
    "seed": "`seeds` of the study has it",
    "name": "the study names its runs",
    "ledger": "the runs of a study are in one ledger; the base spec may name it",
    "resources.threads": "every run of a study has one thread",
}
MOST_SEEDS = MOST_SETTINGS = 1000  # every setting is checked before the first run, and compared with every other
DIGITS = 4  # of a drawn number: its label then says exactly what ran
TRIES = 1000  # for a draw that no earlier one equals
Interval = tuple[float, float]


class Space(Section):
    """Where one field's values are drawn from: exactly one of these. Bounds are included."""

    uniform: Interval | None = Field(None, description="Any number between two, four digits of it.")
    log_uniform: Interval | None = Field(None, description="The same on a logarithmic scale; above 0.")
    integer: tuple[int, int] | None = Field(None, description="A whole number between two.")
    choice: list[Any] | None = Field(None, min_length=1, description="One of these, all alike.")

    @model_validator(mode="before")
    @classmethod
    def _is_a_map(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            raise refuse(f"a map like {{uniform: [0, 1]}} or {{choice: [a, b]}} is wanted, not {shown(raw)}")
        return raw

    @model_validator(mode="after")
    def _says_one_thing(self) -> Space:
        kinds = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(kinds) != 1:
            raise refuse(f"exactly one of {', '.join(type(self).model_fields)} is wanted")
        bounds = getattr(self, kinds[0])
        if kinds == ["choice"]:
            return self
        if not all(map(math.isfinite, bounds)) or bounds[0] > bounds[1]:
            raise refuse(f"{kinds[0]} wants its lower bound first, not [{bounds[0]:g}, {bounds[1]:g}]")
        if kinds == ["log_uniform"] and bounds[0] <= 0:
            raise refuse(f"log_uniform wants bounds above 0, not {bounds[0]:g}")
        return self


class RandomDraws(Section):
    """Settings drawn at random. More samples later: the first ones stay."""

    samples: int = Field(ge=1, le=MOST_SETTINGS, description="How many settings.")
    seed: int = Field(0, ge=0, description="Of the drawing; not of the runs.")
    space: dict[str, Space] = Field(min_length=1, description="Dotted spec field -> where its values are from.")


class Compare(Section):
    """What `evergreen compare STUDY` reads: said before the first run, so that it is no choice made afterwards."""

    metric: str = Field("accuracy", min_length=1, description="The score; others are exploratory.")
    last: int = Field(20, ge=1, description="Steps of a stage's end that training metrics are averaged over.")
    by: str | None = Field(None, description="Group runs by this spec field instead of by setting.")
    baseline: str | None = Field(None, description="The setting that others are compared with: its label.")
    environments: list[str] | None = Field(
        None, min_length=1, description="Those that count, in a held-out metric; null: all that every run has."
    )

    @field_validator("metric")
    @classmethod
    def _metric_is_known(cls, metric: str) -> str:
        if metric not in MEASURES:
            raise refuse(f"runs are compared by one of {', '.join(MEASURES)}{nearest(metric, MEASURES)}")
        return metric

    @model_validator(mode="after")
    def _environments_are_told_apart(self) -> Compare:
        if self.environments is not None and MEASURES[self.metric].stratum != "environment":
            apart = [name for name, one in MEASURES.items() if one.stratum == "environment"]
            raise refuse(f"{self.metric} is not of single environments, so `environments` needs {', '.join(apart)}")
        return self


def _numbered(raw: Any) -> Any:
    """Let a number n stand for the seeds 0 to n - 1."""
    if not isinstance(raw, int) or isinstance(raw, bool):
        return raw
    if raw > MOST_SEEDS:
        raise refuse(f"a study has at most {MOST_SEEDS:,} seeds, not {raw:,}")
    return list(range(raw))


class StudyFile(Section):
    """The whole file."""

    name: str = Field("study", description="Of the study; begins the names of its runs. Default: the file's.")
    spec: Any = Field(description="The base spec: a file beside this one, or a whole spec as a map.")
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], BeforeValidator(_numbered)] = Field(
        min_length=1,
        max_length=MOST_SEEDS,
        description="Every setting runs with each; a number n means 0 to n - 1.",
    )
    grid: dict[str, list[Any]] | None = Field(
        None, description="Dotted spec field -> its values; every combination is a setting."
    )
    listed: list[dict[str, Any]] | None = Field(
        None,
        alias="list",
        min_length=1,
        max_length=MOST_SETTINGS,
        description="Settings one by one, each with a `label` if it likes.",
    )
    random: RandomDraws | None = Field(None, description="Settings drawn at random.")
    workers: int | None = Field(None, ge=1, le=1024, description="Runs at a time; default: a core for each rank.")
    compare: Compare = Field(default_factory=Compare, description="What will be compared, said beforehand.")

    @field_validator("name")
    @classmethod
    def _name_is_a_slug(cls, name: str) -> str:
        return slug(name, "a study's name")

    @field_validator("spec")
    @classmethod
    def _spec_is_a_file_or_a_map(cls, spec: Any) -> Any:
        if not isinstance(spec, str | dict) or not spec:
            raise refuse(f"a spec file or a whole spec as a map is wanted, not {shown(spec)}")
        return spec

    @field_validator("seeds")
    @classmethod
    def _seeds_are_distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds):
            raise refuse("a seed stands there twice: the same run would count as two")
        return seeds

    @field_validator("grid")
    @classmethod
    def _grid_has_values(cls, grid: dict[str, list[Any]] | None) -> dict[str, list[Any]] | None:
        empty = [key for key, values in (grid or {}).items() if not values]
        if grid == {} or empty:
            raise refuse(f"{empty[0] if empty else 'it'} has no values: give a list, or leave it out")
        if (num := math.prod(map(len, (grid or {}).values()))) > MOST_SETTINGS:
            raise refuse(f"{num:,} settings, and a study has at most {MOST_SETTINGS:,}: name some in a `list`")
        return grid

    @model_validator(mode="after")
    def _varies_in_one_way(self) -> StudyFile:
        given = [name for name in VARIATIONS if getattr(self, "listed" if name == "list" else name) is not None]
        if len(given) > 1:
            raise refuse(f"{' and '.join(given)}: only one of {', '.join(VARIATIONS)} says what varies")
        return self


def refusal(field: str) -> str | None:
    """Say why a setting may not change a spec field; None: it may."""
    for fixed, why in FIXED.items():
        if field == fixed or field.startswith(f"{fixed}."):
            return f"{field}: no setting may change it: {why}"
    return None


def known_label(label: str, labels: list[str]) -> str | None:
    """Say that a label is none of the study's; None: it is one."""
    if label in labels:
        return None
    return f"there is no setting {shown(label)}; there are: {', '.join(labels)}{nearest(label, labels)}"


def is_plain(label: str) -> bool:
    """Whether a label is one printable line that a table has room for."""
    return bool(label.strip()) and label.isprintable() and len(label) <= 80 and not re.search(r"\s{2,}", label)


@dataclass(frozen=True)
class Variation:
    """A setting as written: what it gives which spec field, and where in the study's file that stands."""

    label: str
    values: Mapping[str, Any]  # dotted spec field -> value
    place: Path_  # in the file, of the fields


def expand(file: StudyFile) -> list[Variation]:
    """List a study's settings, in the order in which they are written."""
    found: list[tuple[dict[str, Any], Path_]] = [({}, ())]  # values, place
    labels: list[Any] = [None]
    if file.grid is not None:
        rows = product(*file.grid.values())
        found = [(dict(zip(file.grid, values, strict=True)), ("grid",)) for values in rows]
    elif file.listed is not None:
        labels = [one.get("label") for one in file.listed]
        own = [{key: value for key, value in one.items() if key != "label"} for one in file.listed]
        found = [(values, ("list", i)) for i, values in enumerate(own)]
    elif file.random is not None:
        found = [(values, ("random", "space")) for values in drawn(file.random)]
    among = {key for values, _ in found for key, _ in leaves(values)}
    return [
        Variation(label_of(values, among) if label is None else str(label), values, place)
        for (values, place), label in zip_longest(found, labels)
    ]


def drawn(random: RandomDraws) -> list[dict[str, Any]]:
    """Draw settings; every field has a stream of its own, so more samples leave the first ones as they are."""
    generators = {key: random_streams.generator(random.seed, "study", key) for key in random.space}
    found: list[dict[str, Any]] = []
    for _ in range(random.samples + TRIES):
        if len(found) == random.samples:
            break
        values = {key: draw(space, generators[key]) for key, space in random.space.items()}
        if values not in found:
            found.append(values)
    return found


def draw(space: Space, rng: np.random.Generator) -> Any:
    """Draw one value; numbers are rounded to four digits."""
    if space.choice is not None:
        return space.choice[int(rng.integers(len(space.choice)))]
    if space.integer is not None:
        return int(rng.integers(space.integer[0], space.integer[1], endpoint=True))
    if space.log_uniform is not None:
        bounds = space.log_uniform
        value = float(np.exp(rng.uniform(*np.log(bounds))))
    else:
        assert space.uniform is not None
        bounds = space.uniform
        value = float(rng.uniform(*bounds))
    return min(max(float(f"{value:.{DIGITS}g}"), bounds[0]), bounds[1])
