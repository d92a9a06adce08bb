"""Mean matrices and outcomes as the page shows them: what stands in a cell, and how dark it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from store.comparison import sentences
from store.comparison.matrices import MeanCell, MeanMatrix
from store.comparison.result import Comparison
from store.outcomes import NOTHING_LEARNT, OUTCOMES, CarryOverMetric
from store.report.carryover_charts import SHADES
from store.report.charts import nice_top
from store.sentences import num, number, signed

TITLES = {"pass_1": "Accuracy", "entropy_token": "Entropy, nats a token"}
CSS = {"pass_1": "accuracy", "entropy_token": "entropy"}


@dataclass(frozen=True)
class MeanHeatCell:
    """A cell of a heat map."""

    text: str
    margin: str  # half of the interval, and how many seeds if not all
    css: str
    title: str


@dataclass(frozen=True)
class MeanHeat:
    """A matrix: after stage i, on environment j."""

    title: str
    css: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, str, Sequence[MeanHeatCell]]]  # label, the stage's environment, cells
    note: str | None


@dataclass(frozen=True)
class HeatGroup:
    """The matrices of a setting, or of a pair."""

    label: str
    heats: Sequence[MeanHeat]


def means(comparison: Comparison) -> list[HeatGroup]:
    """Every setting's matrices; a shade means the same in all of them."""
    return _groups(comparison, comparison.carry_over.matrices)


def differences(comparison: Comparison) -> list[HeatGroup]:
    """Every pair's differences; a shade means the same in all of them."""
    return _groups(comparison, comparison.carry_over.differences)


def outcome_rows(
    comparison: Comparison,
) -> tuple[list[CarryOverMetric], list[tuple[str, list[MeanHeatCell]]]]:
    """The numbers of carry-over that some setting has, and each setting's."""
    found = comparison.carry_over.outcomes
    shown = [one for one in OUTCOMES if any(own[one.name].n for own in found.values())]
    num_seeds = {setting.label: len(setting.runs) for setting in comparison.settings}
    return shown, [
        (label, [_outcome(one, own, num_seeds[label]) for one in shown]) for label, own in found.items()
    ]


def _groups(comparison: Comparison, matrices: Sequence[MeanMatrix]) -> list[HeatGroup]:
    values = {
        metric: [c.mean for m in matrices if m.metric == metric for row in m.rows for c in row.cells.values()]
        for metric in TITLES
    }
    tops = {
        metric: nice_top([abs(value) for value in own if value is not None], 1e-3)
        for metric, own in values.items()
    }
    found: dict[tuple[str, str | None], list[MeanHeat]] = {}
    for matrix in matrices:
        names = [n for n in comparison.carry_over.environments if any(r.cells[n].n for r in matrix.rows)]
        if names:
            heat = _heat(matrix, names, tops[matrix.metric])
            found.setdefault((matrix.setting, matrix.baseline), []).append(heat)
    return [
        HeatGroup(setting + (f" minus {baseline}" if baseline else ""), heats)
        for (setting, baseline), heats in found.items()
    ]


def _heat(matrix: MeanMatrix, names: Sequence[str], top: float) -> MeanHeat:
    is_change = matrix.baseline is not None
    rows = [
        (
            row.label,
            row.environment or "",
            [
                _cell(row.cells[name], matrix.num_seeds, top, is_change, f"{name}, {row.label}")
                for name in names
            ],
        )
        for row in matrix.rows
    ]
    css = f"{CSS[matrix.metric]}{' change' if is_change else ''}"
    return MeanHeat(TITLES[matrix.metric], css, names, rows, sentences.parting(matrix))


def _cell(cell: MeanCell, num_seeds: int, top: float, is_change: bool, where: str) -> MeanHeatCell:
    if cell.mean is None:
        return MeanHeatCell("-", "", "h0", f"{where}: not measured")
    write = signed if is_change else number
    shade = f"h{round(SHADES * min(1.0, abs(cell.mean) / top))}"
    margin = ""
    about = f"{where}: {write(cell.mean, sentences.DIGITS)}, {num(cell.n, 'seed')}"
    if cell.interval is not None:
        margin = f"±{number((cell.interval.high - cell.interval.low) / 2)}"
        about += f", 95 % {write(cell.interval.low, sentences.DIGITS)} to {write(cell.interval.high, sentences.DIGITS)}"
    if cell.n < num_seeds:
        margin = f"{margin} of {cell.n}".strip()
    return MeanHeatCell(write(cell.mean), margin, f"{shade} {'down' if cell.mean < 0 else 'up'}", about)


def _outcome(of: CarryOverMetric, numbers: Mapping[str, MeanCell], num_seeds: int) -> MeanHeatCell:
    cell = numbers[of.name]
    if cell.mean is None:
        nothing = of.name == "relative_forgetting" and numbers["forgetting"].n > 0
        return MeanHeatCell(NOTHING_LEARNT if nothing else "-", "", "", f"{of.title}: defined in no run")
    write = signed if of.kind == "change" else number
    about = f"{of.title}: {write(cell.mean, sentences.DIGITS)}, {num(cell.n, 'seed')}"
    if cell.interval is not None:
        about += f", 95 % {write(cell.interval.low, sentences.DIGITS)} to {write(cell.interval.high, sentences.DIGITS)}"
    return MeanHeatCell(write(cell.mean), f"of {cell.n}" if cell.n < num_seeds else "", "", about)
