"""What carries over: both matrices as heat maps, and the numbers that sum them up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from store.carryover import ENTROPY_FLOOR, OUTCOMES, ratio
from store.report.charts import HeatCell, HeatMap, HeatRow, nice_top, shade
from store.report.learning_curves import when
from store.report.report_data import ReportData
from store.sentences import number, outcomes_as_text


def summaries(data: ReportData) -> list[dict[str, Any]]:
    """The numbers of carry-over that are defined for this run, each with its meaning."""
    values = outcomes_as_text(data.facts["carry_over"])
    return [{"metric": one, "value": values[one.name]} for one in OUTCOMES if one.name in values]


def heat_maps(data: ReportData) -> list[HeatMap]:
    """Both matrices: accuracy, and entropy beside its column's first value."""
    accuracy, entropy = (data.facts["matrices"][name] for name in ("pass_1", "entropy_token"))
    values = [value for row in accuracy.values() for value in row.values() if value is not None]
    top = nice_top(values, 0.1, 1.0)
    first = {name: v for i in sorted(entropy, key=int, reverse=True) for name, v in entropy[i].items()}

    def entropy_share(name: str, value: float | None) -> float:
        return (
            ratio(value, first.get(name), ENTROPY_FLOOR) or 0.0
        )  # next to nothing at the start has no shade

    return [
        _heat_map(
            data, "pass_1", "Accuracy", "accuracy", f"darkest: {number(top)}", lambda _, v: (v or 0.0) / top
        ),
        _heat_map(
            data,
            "entropy_token",
            "Entropy, nats a token",
            "entropy",
            "shade: share of the column's first value",
            entropy_share,
        ),
    ]


def _heat_map(
    data: ReportData, metric: str, title: str, css: str, legend: str,
    share: Callable[[str, float | None], float],
) -> HeatMap:  # fmt: skip
    matrix = data.facts["matrices"][metric]
    columns = [name for name in data.environments if any(name in row for row in matrix.values())]
    stages = {str(stage["stage"]): stage["environment"] for stage in data.facts["stages"]}
    rows = []
    for i in sorted(matrix, key=int):
        trained, own = stages.get(i), matrix[i]
        cells = [
            HeatCell(
                number(own.get(name)),
                shade(share(name, own[name]) if name in own else 0.0)
                + (" trained" if name == trained else ""),
                f"{name} {when(int(i))}" + (", trained in it" if name == trained else ""),
            )
            for name in columns
        ]
        rows.append(HeatRow("start" if i == "0" else i, "" if i == "0" else trained or "all", cells))
    outlined = "Outlined: the environment that the stage trained; " if data.facts["scheduler"] else ""
    return HeatMap(title, css, columns, rows, f"{outlined}{legend}.")
