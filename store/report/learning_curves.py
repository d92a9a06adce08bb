"""Accuracy and entropy over the steps: which lines, in which frame, on which stages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from store.ledger.query_rows import CellRow, CurvePoint
from store.report.charts import GAP, Band, Chart, Frame, Scale, Series, Xy, line_chart, nice_top
from store.report.report_data import ReportData, Twin
from store.sentences import num, number

TALL, LOW = 260, 150  # pixels, as in report.css
NAMED_CATEGORIES = 6  # a panel; the rest is grey
SAID = 12  # lines told to those who cannot see a chart
CHARACTER = 6.3  # pixels, of a stage's label
HALF, WHOLE = 340, 800  # pixels of a plot that are sure where its stages may have names, as in report.css


@dataclass(frozen=True)
class Level:
    """How a category stands at the first and the last boundary."""

    environment: str
    category: str | None  # None: the environment as a whole
    start: float | None
    end: float | None
    stderr: float | None  # of the end
    change: float | None


def held_out(material: ReportData) -> Chart:
    """Accuracy on held-out tasks, by environment."""
    series = [
        Series(
            name,
            material.colours[name],
            _points(material, cells),
            _measured(material, cells, name),
            material.colours[name] != "c0",
            gap=math.inf,
        )
        for name, cells in _by_environment(material.accuracy).items()
    ]
    if twin := material.twin:
        of_twin = _by_environment(twin.accuracy)
        series += _dashed(material, {name: _points(twin, cells) for name, cells in of_twin.items()}, math.inf)
    return line_chart(
        "On held-out tasks",
        _about("Held-out accuracy", _ends(material, "accuracy"), material),
        series,
        _accuracy_frame(material, TALL, HALF),
        "tall",
    )


def in_training(material: ReportData) -> Chart:
    """Accuracy of the training samples, by environment, on the same scale."""
    series = _curves(material, material.curves, "accuracy")
    ends = {one.name: (one.points[0][1], one.points[-1][1]) for one in series}
    if material.twin:
        own = _curves(material, material.twin.curves, "accuracy")
        series += _dashed(material, {one.name: one.points for one in own}, _gap(material))
    return line_chart(
        "In training",
        _about("Accuracy of training samples", ends, material),
        series,
        _accuracy_frame(material, TALL, HALF),
        "tall",
    )


def entropy(material: ReportData) -> Chart:
    """Token entropy in training as lines, on held-out tasks as points, by environment."""
    measured = _by_environment(material.entropy)
    series = [
        replace(one, measured=_measured(material, measured.get(one.name, []), one.name), has_value=True)
        for one in _curves(material, material.curves, "entropy_token")
    ] or [
        Series(name, material.colours[name], (), _measured(material, cells, name))
        for name, cells in measured.items()
    ]
    values = [value for one in series for _, value in one.points if value is not None]
    values += [cell.value for cell in material.entropy if cell.value is not None]
    frame = Frame(_x(material), Scale(0, nice_top(values, 0.1)), TALL, bands(material, WHOLE))
    about = _about("Token entropy", _ends(material, "entropy"), material)
    return line_chart("Nats a token", about, series, frame, "tall wide")


def category_panels(material: ReportData) -> list[Chart]:
    """One small chart an environment: the held-out accuracy of its categories."""
    charts = []
    for name in material.environments:
        by_category: dict[str, list[CellRow]] = {}
        for cell in material.accuracy:
            if cell.environment == name and cell.category is not None:
                by_category.setdefault(cell.category, []).append(cell)
        if len(by_category) < 2:
            continue  # its only category is the environment itself, which has its line already
        moved = {category: _spread(cells) for category, cells in by_category.items()}
        colours = ramp(list(by_category), moved)
        series = [
            Series(
                c,
                colours[c],
                _points(material, cells),
                _measured(material, cells, c),
                colours[c] != "k0",
                gap=math.inf,
            )
            for c, cells in by_category.items()
        ]
        frame = _accuracy_frame(material, LOW, 0)
        ends = {c: (cells[0].value, cells[-1].value) for c, cells in by_category.items()}
        about = _about(f"Held-out accuracy of {name}", ends, material)
        charts.append(line_chart(name, about, series, frame, "low"))
    return charts


def levels(material: ReportData) -> list[Level]:
    """The table behind the charts: every environment and category, first and last boundary."""
    found: dict[tuple[str, str | None], list[CellRow]] = {}
    for cell in material.accuracy:
        if cell.environment is not None:
            found.setdefault((cell.environment, cell.category), []).append(cell)
    return [
        Level(
            *key,
            cells[0].value,
            cells[-1].value,
            cells[-1].stderr,
            None if cells[0].value is None or cells[-1].value is None else cells[-1].value - cells[0].value,
        )
        for key, cells in found.items()
    ]


def bands(material: ReportData, pixels: int) -> list[Band]:
    """The stages behind the lines, tinted by environment; numbered and named where `pixels` have room for it."""
    x, stages = _x(material), material.story["stages"]
    ends = [material.steps[1] if stage["end_step"] is None else stage["end_step"] for stage in stages]
    places = [(x.share(s["start_step"]), x.share(end)) for s, end in zip(stages, ends, strict=True)]
    every = max(1, -(-3 * CHARACTER * len(stages) // max(1, pixels)))  # not every number may have room
    are_named = all(
        CHARACTER * (len(stage["environment"] or "") + len(str(stage["stage"])) + 2) < (right - left) * pixels
        for stage, (left, right) in zip(stages, places, strict=True)
    )
    return [
        Band(
            100 * left,
            100 * max(0.0, right - left),
            material.colours.get(stage["environment"] or "", f"c0 odd{stage['stage'] % 2}"),
            _stage_in_words(stage, end),
            str(stage["stage"]) if pixels and stage["stage"] % every == 0 else "",
            (stage["environment"] or "") if are_named else "",
        )
        for stage, end, (left, right) in zip(stages, ends, places, strict=True)
    ]


def _stage_in_words(stage: Mapping[str, Any], end: int) -> str:
    on = f" on {stage['environment']}" if stage["environment"] else ""
    return f"Stage {stage['stage']}{on}: steps {stage['start_step'] + 1} to {end}"


def ramp(names: Sequence[str], moved: Mapping[str, float]) -> dict[str, str]:
    """Colour a panel's lines along one ramp, in their order; with many, only those that moved most."""
    most = sorted(names, key=lambda name: moved[name], reverse=True)[:NAMED_CATEGORIES]
    chosen = [name for name in names if name in most]
    last = max(1, len(chosen) - 1)
    colours = {name: f"k{1 + round(i * (NAMED_CATEGORIES - 1) / last)}" for i, name in enumerate(chosen)}
    return {name: colours.get(name, "k0") for name in names}


def frame_of_steps(material: ReportData, y: Scale, height: int) -> Frame:
    """A frame over all steps, its stages shaded."""
    return Frame(_x(material), y, height, bands(material, 0))


def _curves(material: ReportData, curves: Sequence[CurvePoint], metric: str) -> list[Series]:
    points: dict[str, list[tuple[float, float | None]]] = {}
    for point in curves:
        if point.metric == metric:
            points.setdefault(point.environment, []).append((point.step, point.value))
    return [
        Series(
            name, css, points[name], (), css != "c0", has_value=False, gap=_gap(material)
        )  # its end is noise
        for name, css in material.colours.items()
        if name in points
    ]


def _gap(material: ReportData) -> float:
    low, high = material.steps
    return max(GAP, 2.5 * material.curve_width / max(1, high - low))


def _dashed(material: ReportData, points: Mapping[str, Sequence[Xy]], gap: float) -> list[Series]:
    """The twin's lines: in the colours of the run's own, dashed, without names."""
    return [
        Series(f"{name}, twin", f"{css} twin", points[name], (), False, gap=gap)
        for name, css in material.colours.items()
        if name in points
    ]


def _accuracy_frame(material: ReportData, height: int, pixels: int) -> Frame:
    """One scale for all charts of accuracy, so that they compare by eye."""
    values = [cell.value + (cell.stderr or 0.0) for cell in material.accuracy if cell.value is not None]
    values += [p.value for p in material.curves if p.metric == "accuracy" and p.value is not None]
    if twin := material.twin:
        values += [cell.value for cell in twin.accuracy if cell.value is not None]
        values += [point.value for point in twin.curves if point.value is not None]
    return Frame(_x(material), Scale(0, nice_top(values, 0.1, 1.0)), height, bands(material, pixels))


def _x(material: ReportData) -> Scale:
    low, high = material.steps
    return Scale(low, max(high, low + 1))


def _by_environment(cells: Sequence[CellRow]) -> dict[str, list[CellRow]]:
    found: dict[str, list[CellRow]] = {}
    for cell in cells:
        if cell.environment is not None and cell.category is None:
            found.setdefault(cell.environment, []).append(cell)
    return found


def _points(material: ReportData | Twin, cells: Sequence[CellRow]) -> list[tuple[float, float | None]]:
    steps = {boundary.after_stage: boundary.step for boundary in material.boundaries}
    return [(steps[cell.after_stage], cell.value) for cell in cells if cell.after_stage in steps]


def _measured(
    material: ReportData, cells: Sequence[CellRow], name: str
) -> list[tuple[float, float, float | None, str]]:
    """Every measured value at the step of its boundary, with a title that says it in words."""
    steps = {boundary.after_stage: boundary.step for boundary in material.boundaries}
    return [
        (
            steps[cell.after_stage],
            cell.value,
            cell.stderr,
            f"{name}, {when(cell.after_stage)}: {number(cell.value)}"
            + (f" \u00b1 {number(cell.stderr)}" if cell.stderr is not None else ""),
        )
        for cell in cells
        if cell.value is not None and cell.after_stage in steps
    ]


def when(after_stage: int) -> str:
    """Name a boundary."""
    return "before training" if after_stage == 0 else f"after stage {after_stage}"


def _spread(cells: Sequence[CellRow]) -> float:
    values = [cell.value for cell in cells if cell.value is not None]
    return max(values) - min(values) if values else 0.0


def _about(what: str, ends: Mapping[str, tuple[float | None, float | None]], material: ReportData) -> str:
    """Say a chart in a sentence for those who cannot see it."""
    listed = [f"{name} {number(start)} to {number(end)}" for name, (start, end) in ends.items()][:SAID]
    stages = num(len(material.story["stages"]), "stage")
    return f"{what} over the steps, {stages} shaded. {'; '.join(listed)}."


def _ends(material: ReportData, what: str) -> dict[str, tuple[float | None, float | None]]:
    facts = material.story["environments"].items()
    return {name: (of[f"{what}_start"], of[f"{what}_end"]) for name, of in facts}
