"""What carries over: both matrices as heat maps, and the numbers that sum them up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from store.carryover import ratio
from store.metrics import metric
from store.outcomes import OUTCOMES, told
from store.report.charts import nice_top
from store.report.learning_curves import when
from store.report.report_data import ReportData
from store.run_story import Matrix
from store.sentences import number, signed

SHADES = 20  # of a heat map, as in report.css


@dataclass(frozen=True)
class Summary:
    """A number that sums a matrix up, and what it means."""

    abbreviation: str
    title: str
    value: str
    meaning: str


@dataclass(frozen=True)
class HeatCell:
    """A cell of a heat map."""

    text: str
    css: str
    title: str
    is_trained: bool


@dataclass(frozen=True)
class HeatRow:
    """After which stage; its cells by environment."""

    label: str
    name: str  # the stage's environment
    cells: Sequence[HeatCell]


@dataclass(frozen=True)
class Heat:
    """A matrix: after stage i, on environment j."""

    title: str
    css: str
    shade: str  # what the shade says
    columns: Sequence[str]
    rows: Sequence[HeatRow]


def summaries(material: ReportData) -> list[Summary]:
    """The numbers of carry-over that are defined for this run, each with its meaning."""
    written = told(material.story["carry_over"])
    return [
        Summary(one.abbreviation, one.title, written[one.name], one.meaning)
        for one in OUTCOMES
        if one.name in written
    ]


@dataclass(frozen=True)
class LawRow:
    """What an environment's entropy bought."""

    environment: str
    ceiling: str
    rise: str
    r_squared: str
    num_points: int


def laws(material: ReportData) -> list[LawRow]:
    """R = -a exp(H) + b by environment (arXiv 2505.22617), of runs in which nothing acts on entropy."""
    return [
        LawRow(name, number(law["ceiling"]), signed(law["rise"]), number(law["r_squared"]), law["num_points"])
        for name, law in material.story["laws"].items()
    ]


def heats(material: ReportData) -> list[Heat]:
    """Both matrices."""
    accuracy, entropy = (material.story["matrices"][name] for name in ("pass_1", "entropy_token"))
    values = [value for row in accuracy.values() for value in row.values() if value is not None]
    top = nice_top(values, 0.1, 1.0)
    by_value = {(i, j): (v or 0.0) / top for i, row in accuracy.items() for j, v in row.items()}
    return [
        _heat(material, accuracy, by_value, "Accuracy", "accuracy", f"darkest: {number(top)}"),
        _heat(
            material,
            entropy,
            _shares(entropy),
            "Entropy, nats a token",
            "entropy",
            "shade: share of the column's first value",
        ),
    ]


def _shares(matrix: Matrix) -> dict[tuple[str, str], float]:
    """Compare every value with its column's first; next to nothing at the start has no shade."""
    floor = metric("entropy_token").ratio_floor or 0.0
    first = {name: v for i in sorted(matrix, key=int, reverse=True) for name, v in matrix[i].items()}
    return {
        (i, j): ratio(value, first.get(j), floor) or 0.0
        for i, row in matrix.items()
        for j, value in row.items()
    }


def _heat(
    material: ReportData,
    matrix: Matrix,
    shares: Mapping[tuple[str, str], float],
    title: str,
    css: str,
    shade: str,
) -> Heat:
    columns = [name for name in material.environments if any(name in row for row in matrix.values())]
    stages = {str(stage["stage"]): stage["environment"] for stage in material.story["stages"]}
    rows = []
    for i in sorted(matrix, key=int):
        trained = stages.get(i)
        cells = [
            HeatCell(
                number(matrix[i].get(name)),
                f"h{round(SHADES * min(1.0, max(0.0, shares.get((i, name), 0.0))))}",
                f"{name} {when(int(i))}" + (", trained in it" if name == trained else ""),
                name == trained,
            )
            for name in columns
        ]
        rows.append(HeatRow("start" if i == "0" else i, "" if i == "0" else trained or "all", cells))
    return Heat(title, css, shade, columns, rows)
