"""Accuracy and entropy over the steps: which lines, in which frame, on which stages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from store.carryover import difference
from store.ledger.queries.base import Answers
from store.ledger.query_rows import BoundaryRow, CellRow, MetricRow, by_key
from store.report import charts
from store.report.report_data import ReportData
from store.sampling import is_plain, sampling_in_words
from store.sentences import as_of, num, number, when

DESCRIBED = 12  # lines in the description for those who cannot see a chart
CHARACTER = 6.3  # pixels, of a stage's label
NARROW = 230  # pixels of a plot on a telephone
HALF, WHOLE = 340, 800  # pixels of a plot that are sure where its stages may have names, as in report.css

Row = TypeVar("Row", CellRow, MetricRow)
Ends = Mapping[str, tuple[float | None, float | None]]  # by line: its first and its last value


def held_out(data: ReportData) -> charts.Chart:
    """Accuracy on held-out tasks, by environment."""
    between = by_key(_wholes(data.between("pass_1")), lambda row: row.environment or "")
    series = _of_cells(data, _by_environment(data.accuracy), data.colours, between)
    if twin := data.twin:
        points = {name: _points(twin.boundaries, own) for name, own in _by_environment(twin.accuracy).items()}
        series += _dashed(data, points, math.inf)
    series += _levels(data, [(name, name, None) for name in data.colours], data.colours)
    about = _about("Held-out accuracy", _ends(data, "accuracy"), data)
    frame = _accuracy_frame(data, charts.TALL, HALF)
    return charts.line_chart("On held-out tasks", about, series, frame, "tall")


def in_training(data: ReportData) -> charts.Chart:
    """Accuracy of the training samples, by environment, on the same scale."""
    series = _of_curves(data, data.curves, "accuracy")
    ends = {one.name: (one.points[0][1], one.points[-1][1]) for one in series}
    if data.twin:
        own = _of_curves(data, data.twin.curves, "accuracy")
        series += _dashed(data, {one.name: one.points for one in own}, _gap(data))
    about = _about("Accuracy of training samples", ends, data)
    return charts.line_chart("In training", about, series, _accuracy_frame(data, charts.TALL, HALF), "tall")


def entropy(data: ReportData) -> charts.Chart:
    """Token entropy in training as lines, on held-out tasks as points, by environment; untrained ones have no line."""
    cells = _by_environment(data.entropy)
    between = _few(by_key(_wholes(data.between("entropy_token")), lambda row: row.environment or ""))
    measured = {name: _measured(data, own, name, between.get(name, ())) for name, own in cells.items()}
    trained = {one.name: one for one in _of_curves(data, data.curves, "entropy_token")}
    series = [
        replace(
            trained.get(name, charts.Series(name, css, is_named=css != "c0")),
            measured=measured.get(name, []),
            has_value=True,
        )
        for name, css in data.colours.items()
        if name in trained or name in measured
    ]
    if data.twin:
        own = _of_curves(data, data.twin.curves, "entropy_token")
        series += _dashed(data, {one.name: one.points for one in own}, _gap(data))
    values = [value for one in series for _, value in one.points if value is not None]
    values += [cell.value for cell in data.entropy if cell.value is not None]
    values += [row.value for row in data.between("entropy_token") if row.value is not None]
    y = charts.Scale(0, charts.nice_top(values, 0.1))
    frame = charts.Frame(_x(data), y, charts.TALL, bands(data, WHOLE))
    about = _about("Held-out token entropy", _ends(data, "entropy"), data)
    return charts.line_chart("Nats a token", about, series, frame, "tall wide")


def what_entropy_is_of(data: ReportData) -> str:
    """Say what lines and points of the chart of entropy are: of the same distribution, or of two."""
    each = f", each point averages {num(data.curve_width, 'step')}" if data.curve_width > 1 else ""
    where = f"on held-out tasks, at boundaries{' and in evaluations inside stages' if data.evaluations else ''}"
    collapse = "it gives one answer and can learn no other."
    twin = data.twin
    dotted = f" Dotted, in the same colours: {twin.name} in training" if twin else ""
    if twin and twin.samplings != data.samplings:
        dotted += f", drawn at {sampling_in_words(twin.samplings)}"
    dotted += "." if dotted else ""
    if is_plain(data.samplings):
        return (
            f"Lines: mean entropy of the policy at the tokens it wrote in training{each}. Points: the same {where}."
            f"{dotted} Below .05 a policy has collapsed: {collapse}"
        )
    return (
        "Lines: mean entropy, at the tokens written in training, of what they were drawn from: the policy at "
        f"{sampling_in_words(data.samplings)}{each}. Points: that of the policy itself, at temperature 1, {where}. "
        f"Lines and points differ without any training.{dotted} Where points are below .05 a policy has collapsed: "
        f"{collapse}"
    )


def learning_rate(data: ReportData) -> charts.Chart | None:
    """The learning rate over the steps as a share of the spec's; None where it does not fall."""
    most = (data.spec.get("learner") or {}).get("lr")
    if not data.rates or not most:
        return None
    points = [(row.step, None if row.value is None else row.value / most) for row in data.rates]
    series = [charts.Series("learning rate", "c0", points, is_named=False, gap=math.inf)]
    frame = frame_of_steps(data, charts.Scale(0, 1), charts.LOW)
    return charts.line_chart(f"Share of {most:g}", f"The learning rate as a share of {most:g}.", series, frame, "low")


def category_panels(data: ReportData) -> list[charts.Chart]:
    """One small chart an environment: the held-out accuracy of its categories."""
    panels = []
    for name in data.environments:
        cells = [cell for cell in data.accuracy if cell.environment == name and cell.category is not None]
        by_category = by_key(cells, lambda cell: cell.category or "")
        if len(by_category) < 2:
            continue  # its only category is the environment itself, which has its line already
        known = {c: [cell.value for cell in own if cell.value is not None] for c, own in by_category.items()}
        moved = {category: max(own) - min(own) if own else 0.0 for category, own in known.items()}
        inside = (row for row in data.between("pass_1") if row.environment == name and row.category is not None)
        between = by_key(inside, lambda row: row.category or "")
        colours = charts.ramp(list(by_category), moved)
        series = _of_cells(data, by_category, colours, between)
        series += _levels(data, [(category, name, category) for category in by_category], colours)
        ends = {category: (own[0].value, own[-1].value) for category, own in by_category.items()}
        about = _about(f"Held-out accuracy of {name}", ends, data)
        panels.append(charts.line_chart(name, about, series, _accuracy_frame(data, charts.LOW, 0), "low"))
    return panels


def levels(data: ReportData) -> list[dict[str, Any]]:
    """List every environment and category (None: all of it) as measured first and last: the charts' numbers.

    There is no last where no boundary measured it since the first.
    """
    newest = max((cell.after_stage for cell in data.accuracy), default=0)
    found = by_key(data.accuracy, lambda cell: (cell.environment, cell.category))
    rows = []
    for (environment, category), cells in found.items():
        if environment is None:
            continue
        first, last = cells[0], cells[-1]
        end, stderr = (None, None) if first is last and last.after_stage < newest else (last.value, last.stderr)
        row = {"environment": environment, "category": category, "as_of": as_of(last.after_stage, newest)}
        change = difference(first.value, end)
        rows.append({**row, "start": first.value, "end": end, "stderr": stderr, "change": change})
    return rows


def bands(data: ReportData, pixels: int) -> list[charts.Band]:
    """The stages behind the lines, tinted by environment; numbered and named where `pixels` have room for it."""
    x, stages = _x(data), data.facts["stages"]
    names = [stage["environment"] or "" for stage in stages]
    ends = [data.steps[1] if stage["end_step"] is None else stage["end_step"] for stage in stages]
    places = [(x.share(s["start_step"]), x.share(end)) for s, end in zip(stages, ends, strict=True)]
    # not every number may have room; in a wide chart on a narrow screen fewer have
    every, every_narrow = (max(1, -(-3 * CHARACTER * len(stages) // most)) for most in (max(1, pixels), NARROW))
    are_named = all(
        CHARACTER * (len(name) + len(str(stage["stage"])) + 2) < (right - left) * pixels
        for stage, name, (left, right) in zip(stages, names, places, strict=True)
    )
    return [
        charts.Band(
            100 * left,
            100 * max(0.0, right - left),
            data.colours.get(name, f"c0 odd{stage['stage'] % 2}"),
            f"Stage {stage['stage']}{f' on {name}' if name else ''}: steps {stage['start_step'] + 1} to {end}",
            str(stage["stage"]) if pixels and stage["stage"] % every == 0 else "",
            name if are_named else "",
            is_dense=stage["stage"] % every_narrow != 0,
        )
        for stage, name, end, (left, right) in zip(stages, names, ends, places, strict=True)
    ]


def frame_of_steps(data: ReportData, y: charts.Scale, height: int) -> charts.Frame:
    """A frame over all steps, its stages shaded."""
    return charts.Frame(_x(data), y, height, bands(data, 0))


def _of_cells(
    data: ReportData,
    cells: Mapping[str, Sequence[CellRow]],
    colours: Mapping[str, str],
    between: Mapping[str, Sequence[MetricRow]],
) -> list[charts.Series]:
    """A line a name through what was measured, at boundaries and between them; grey ones have no name of their own."""

    dotted = _few(between)

    def line(name: str, own: Sequence[CellRow]) -> charts.Series:
        inside = between.get(name, ())
        points = [*_points(data.boundaries, own), *((row.step, row.value) for row in inside)]
        points.sort(key=lambda point: point[0])
        dots = _measured(data, own, name, dotted.get(name, ()))
        return charts.Series(name, colours[name], points, dots, colours[name] not in ("c0", "k0"), gap=math.inf)

    return [line(name, own) for name, own in cells.items()]


def _of_curves(data: ReportData, curves: Answers, metric: str) -> list[charts.Series]:
    """A line an environment over the training steps; the value at its end is noise and not written."""
    own = by_key((point for point in curves if point.metric == metric), lambda point: point.environment)
    points = {name: [(point.step, point.value) for point in of] for name, of in own.items()}
    return [
        charts.Series(name, css, points[name], (), css != "c0", has_value=False, gap=_gap(data))
        for name, css in data.colours.items()
        if name in points
    ]


def _gap(data: ReportData) -> float:
    low, high = data.steps
    return max(charts.GAP, 2.5 * data.curve_width / max(1, high - low))


def _dashed(data: ReportData, points: Mapping[str, Sequence[charts.Xy]], gap: float) -> list[charts.Series]:
    """The twin's lines: in the colours of the run's own, dashed, without names."""
    return [
        charts.Series(f"{name}, twin", f"{css} twin", points[name], (), False, gap=gap)
        for name, css in data.colours.items()
        if name in points
    ]


def _levels(
    data: ReportData, lines: Sequence[tuple[str, str, str | None]], colours: Mapping[str, str]
) -> list[charts.Series]:
    """Level lines at floor and ceiling, for lines given by name, environment and category; grey ones have none."""
    low, high = data.steps
    return [
        charts.Series(
            f"{line}, {kind} ({level.policy})",
            f"{colours[line]} {kind}",
            [(low, rate), (high, rate)],
            (),
            False,
            gap=math.inf,
        )
        for kind, level in data.floors.items()
        for line, environment, category in lines
        if colours[line] not in ("c0", "k0") and (rate := level.of(environment, category)) is not None
    ]


def _accuracy_frame(data: ReportData, height: int, pixels: int) -> charts.Frame:
    """One scale for all charts of accuracy, so that they compare by eye."""
    values = [cell.value + (cell.stderr or 0.0) for cell in data.accuracy if cell.value is not None]
    values += [row.value for row in data.between("pass_1") if row.value is not None]
    values += [p.value for p in data.curves if p.metric == "accuracy" and p.value is not None]
    if twin := data.twin:
        values += [cell.value for cell in twin.accuracy if cell.value is not None]
        values += [p.value for p in twin.curves if p.metric == "accuracy" and p.value is not None]
    values += [rate for level in data.floors.values() for own in level.rates.values() for rate in own.values()]
    y = charts.Scale(0, charts.nice_top(values, 0.1, 1.0))
    return charts.Frame(_x(data), y, height, bands(data, pixels))


def _x(data: ReportData) -> charts.Scale:
    low, high = data.steps
    return charts.Scale(low, max(high, low + 1))


def _by_environment(cells: Sequence[CellRow]) -> dict[str, list[CellRow]]:
    return by_key(_wholes(cells), lambda cell: cell.environment or "")


def _wholes(rows: Sequence[Row]) -> list[Row]:
    """Those of environments as wholes."""
    return [row for row in rows if row.environment is not None and row.category is None]


def _points(boundaries: Sequence[BoundaryRow], cells: Sequence[CellRow]) -> list[charts.Xy]:
    steps = {boundary.after_stage: boundary.step for boundary in boundaries}
    return [(steps[cell.after_stage], cell.value) for cell in cells if cell.after_stage in steps]


def _few(between: Mapping[str, Sequence[MetricRow]]) -> Mapping[str, Sequence[MetricRow]]:
    """What is drawn as dots of it: nothing where there are many, so that those of boundaries stay."""
    return between if sum(map(len, between.values())) <= charts.MAX_DOTS // 2 else {}


def _measured(
    data: ReportData, cells: Sequence[CellRow], name: str, between: Sequence[MetricRow]
) -> list[charts.Measured]:
    """Every measured value at the step of its boundary, or inside a stage, with a title that says it in words."""
    steps = {boundary.after_stage: boundary.step for boundary in data.boundaries}
    found: list[charts.Measured] = []
    for cell in cells:
        if cell.value is not None and cell.after_stage in steps:
            title = f"{name}, {when(cell.after_stage)}: {number(cell.value)}"
            title += f" \u00b1 {number(cell.stderr)}" if cell.stderr is not None else ""
            found.append((steps[cell.after_stage], cell.value, cell.stderr, title))
    inside = [(row.step, row.value, None, f"{name}, step {row.step}: {number(row.value)}") for row in between]
    found += [(step, value, error, title) for step, value, error, title in inside if value is not None]
    return sorted(found, key=lambda one: one[0])


def _about(what: str, ends: Ends, data: ReportData) -> str:
    """Say a chart in a sentence for those who cannot see it."""
    listed = [f"{name} {number(start)} to {number(end)}" for name, (start, end) in ends.items()][:DESCRIBED]
    stages = num(len(data.facts["stages"]), "stage")
    return f"{what} over the steps, {stages} shaded. {'; '.join(listed)}."


def _ends(data: ReportData, what: str) -> Ends:
    facts = data.facts["environments"].items()
    return {name: (of[f"{what}_start"], of[f"{what}_end"]) for name, of in facts}
