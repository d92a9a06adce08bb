"""A comparison as one HTML page, in the look of a run's report: no script, nothing loaded, no other file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise

from store.carryover import NOTHING_LEARNT, OUTCOMES
from store.comparison import sentences
from store.comparison.curves import Curves, ProbeCurves, SeedRange, SettingCurves, read_curves
from store.comparison.matrices import MeanCell, MeanMatrix
from store.comparison.result import Comparison
from store.ledger.queries import Reading
from store.metrics import metric as known_metric
from store.report import charts, templates
from store.sampling import sampling_in_words
from store.sentences import listed, num, number, probe_name, signed

RANGES = 5  # settings whose seeds' ranges are drawn
OPEN = 3  # groups of matrices that are unfolded
SENTENCES = 8  # verdicts at the top; the table has them all
STYLES = ("report.css", "comparison.css")
TITLES = {"pass_1": "Accuracy", "entropy_token": "Entropy, nats a token"}
CSS = {"pass_1": "accuracy", "entropy_token": "entropy"}


def render(reading: Reading, comparison: Comparison) -> str:
    """Write the page."""
    drawn = read_curves(reading, comparison)
    means = {setting.label: setting.mean for setting in comparison.settings}
    best = sorted(means, key=lambda label: means[label], reverse=comparison.direction >= 0)
    ranked = dict.fromkeys([comparison.baseline or next(iter(means)), *best])
    colours = charts.palette(list(means), list(ranked))
    verdicts = sentences.sentences(comparison)
    found = comparison.carry_over
    facts = {
        "c": comparison,
        "words": sentences,
        "colours": colours,
        "sentences": [
            (colours[about[0]] if len(about) == 1 else "c0", sentence) for about, sentence in verdicts[:SENTENCES]
        ],
        "num_unsaid": max(0, len(verdicts) - SENTENCES),
        "num_runs": sum(len(setting.runs) for setting in comparison.settings),
        "settings": _settings(comparison),
        "pairs": _pairs(comparison),
        "outcomes": [one for one in OUTCOMES if any(own[one.name].n for own in found.outcomes.values())],
        "outcome_cells": {
            setting.label: _outcome_cells(
                found.outcomes[setting.label], len(setting.runs), setting.label in found.with_gaps
            )
            for setting in comparison.settings
            if setting.label in found.outcomes
        },
        "means": _heat_maps(comparison, found.matrices),
        "differences": _heat_maps(comparison, found.differences),
        "charts": _charts(drawn, colours),
        "probes": [_probe_chart(probe, colours, len(drawn.held_out) <= RANGES) for probe in drawn.probes],
        "entropy_note": sentences.what_entropy_is_of(_samplings(reading, comparison)),
        "has_ranges": len(comparison.settings) <= RANGES,
        "num_colours": charts.NUM_COLOURS,
        "open_groups": OPEN,
        "is_in_steps": drawn.axis.is_in_steps,
        "written_at": datetime.now(UTC),
    }
    return templates.page("store.comparison", "comparison.html.j2", STYLES, facts)


def _samplings(reading: Reading, comparison: Comparison) -> dict[str, list[str]]:
    """How the runs of every setting drew samples, in words, by its name."""
    return {
        comparison.names[setting.label]: sorted({sampling_in_words(reading.samplings(run.run)) for run in setting.runs})
        for setting in comparison.settings
    }


def _settings(comparison: Comparison) -> list[charts.Forest]:
    """Every setting's scores on one scale: what its interquartile mean is of."""
    scores = {
        setting.label: [(run.seed, *score) for run in setting.runs for score in run.strata.items()]
        for setting in comparison.settings
    }
    scale = charts.scale_around_zero(value for own in scores.values() for _, _, value in own)
    rows = []
    for setting in comparison.settings:
        own = scores[setting.label]
        dots = [(score, f"seed {seed}, {of}: {number(score, sentences.DIGITS)}") for seed, of, score in own]
        of, iqm = setting.iqm_interval, number(setting.iqm, sentences.DIGITS)
        about = f"{iqm}, interval {sentences.interval(of)}"
        rows.append(charts.forest(dots, setting.iqm, None if of is None else (of.low, of.high), scale, about))
    return rows


def _pairs(comparison: Comparison) -> list[charts.Forest]:
    """Every pair's differences on one scale that holds 0; quotients on one of logarithms that holds 1."""

    def place(value: float) -> float:
        return math.log(value) if comparison.is_ratio else value

    ends = [end for pair in comparison.pairs if (of := pair.interval) for end in (of.low, of.high)]
    seen = [*ends, *(d for pair in comparison.pairs for d in pair.differences)]
    scale = charts.scale_around_zero(map(place, seen))
    rows = []
    for pair in comparison.pairs:
        seeds = zip(pair.seeds, pair.differences, strict=True)
        dots = [(place(d), f"seed {seed}: {sentences.change(d, pair.is_ratio)}") for seed, d in seeds]
        mean, of = None if pair.mean is None else place(pair.mean), pair.interval
        interval = None if of is None else (place(of.low), place(of.high))
        ends_of = sentences.changes(of, pair.is_ratio)
        about = f"{sentences.change(pair.mean, pair.is_ratio)}, interval {ends_of}"
        rows.append(charts.forest(dots, mean, interval, scale, about, has_zero=True))
    return rows


def _heat_maps(comparison: Comparison, matrices: Sequence[MeanMatrix]) -> dict[str, list[charts.HeatMap]]:
    """The matrices of each setting, or of each pair; a shade means the same in all of them."""
    means: dict[str, list[float]] = {metric: [] for metric in TITLES}
    for matrix in matrices:
        cells = [cell for row in matrix.rows for cell in row.cells.values()]
        means[matrix.metric] += [abs(cell.mean) for cell in cells if cell.mean is not None]
    found: dict[str, list[charts.HeatMap]] = {}
    for matrix in matrices:
        names = [n for n in comparison.carry_over.environments if any(r.cells[n].n for r in matrix.rows)]
        if not names:
            continue
        top, is_change = charts.nice_top(means[matrix.metric], 1e-3), matrix.baseline is not None
        rows = []
        for row in matrix.rows:
            own = [(row.cells[name], f"{name}, {row.label}") for name in names]
            shown = [_mean_cell(cell, matrix.num_seeds, top, is_change, where) for cell, where in own]
            rows.append(charts.HeatRow(row.label, row.environment or "", shown))
        css = f"mean {CSS[matrix.metric]}{' change' if is_change else ''}"
        heat = charts.HeatMap(TITLES[matrix.metric], css, names, rows, sentences.parting(matrix, comparison.names))
        label = comparison.names[matrix.setting]
        label += f" minus {comparison.names[matrix.baseline]}" if matrix.baseline else ""
        found.setdefault(label, []).append(heat)
    return found


def _mean_cell(cell: MeanCell, num_seeds: int, top: float, is_change: bool, where: str) -> charts.HeatCell:
    if cell.mean is None:
        return charts.HeatCell("-", "h0", f"{where}: not measured", "")
    margin = "" if cell.interval is None else f"±{number((cell.interval.high - cell.interval.low) / 2)}"
    if cell.n < num_seeds:
        margin = f"{margin} of {cell.n}".strip()
    css = f"{charts.shade(abs(cell.mean) / top)} {'down' if cell.mean < 0 else 'up'}"
    text = signed(cell.mean) if is_change else number(cell.mean)
    return charts.HeatCell(text, css, _cell_in_words(cell, where, is_change), margin)


def _outcome_cells(numbers: Mapping[str, MeanCell], num_seeds: int, has_gaps: bool) -> dict[str, charts.HeatCell]:
    found = {}
    for one in OUTCOMES:
        cell, is_change = numbers[one.name], one.kind == "change"
        if cell.mean is None:
            nothing = one.name == "relative_forgetting" and numbers["forgetting"].n > 0 and not has_gaps
            written = (NOTHING_LEARNT if nothing else "-", "", f"{one.title}: defined in no run", "")
        else:
            text = signed(cell.mean) if is_change else number(cell.mean)
            of = f"of {cell.n}" if cell.n < num_seeds else ""
            written = (text, "", _cell_in_words(cell, one.title, is_change), of)
        found[one.name] = charts.HeatCell(*written)
    return found


def _cell_in_words(cell: MeanCell, what: str, is_change: bool) -> str:
    write, digits = signed if is_change else number, sentences.DIGITS
    about = f"{what}: {write(cell.mean, digits)}, {num(cell.n, 'seed')}"
    if cell.interval is None:
        return about
    return f"{about}, 95 % {write(cell.interval.low, digits)} to {write(cell.interval.high, digits)}"


def _charts(drawn: SettingCurves, colours: Mapping[str, str]) -> list[charts.Chart]:
    """Training, held-out tasks, entropy; what was never recorded has no chart."""
    edges = drawn.axis.edges
    x = charts.Scale(edges[0], edges[-1])
    longest = max(x.share(b) - x.share(a) for a, b in pairwise(edges))
    has_ranges = len(drawn.held_out) <= RANGES  # ranges of many settings would hide each other

    def dot(name: str, at: SeedRange) -> charts.Measured:
        seeds = f"{name}: {number(at.mean)}, seeds {number(at.least)} to {number(at.most)}"
        return at.x, at.mean, None, seeds

    def series(curves: Curves, measured: Curves, gap: float | None = None) -> list[charts.Series]:
        num_places = max((len(places) for places in curves.values()), default=1)
        gap = gap or max(charts.GAP, 2.5 * (len(edges) - 1) * longest / max(1, num_places))
        return [
            charts.Series(
                name,
                colours[name],
                [(place.x, place.mean) for place in places],
                [dot(name, place) for place in measured.get(name, ())],
                colours[name] != "c0",
                gap=gap,
                ranges=[(p.x, p.least, p.most) for p in places if has_ranges],
            )
            for name, places in curves.items()
            if places
        ]

    stages = enumerate(zip(drawn.axis.names, pairwise(edges), strict=True), start=1)
    bands = [  # every other stage is shaded
        charts.Band(
            *(100 * x.share(start), 100 * (x.share(end) - x.share(start)), f"c0 odd{stage % 2}"),
            f"Stage {stage}" + (f" on {name}" if name else ""),
            str(stage) if len(drawn.axis.names) <= 20 else "",
        )
        for stage, (name, (start, end)) in stages
    ]
    training, held_out = series(drawn.training, {}), series(drawn.held_out, drawn.held_out, math.inf)
    entropy = series(drawn.entropy, drawn.held_out_entropy)
    unit = "steps" if drawn.axis.is_in_steps else "stage" if len(edges) == 2 else "stages"
    shared, every = len(drawn.environments), drawn.num_environments
    mean = "the environments" if shared == every else f"{listed(drawn.environments)}, {shared} of {every} environments"
    made = []
    for title, of, most, css in (
        ("Training accuracy, of the environment being trained", training, 1.0, "tall wide"),
        (f"Held-out accuracy, mean of {mean}", held_out, 1.0, "tall"),
        ("Entropy, nats a token", entropy, math.inf, "tall"),
    ):
        tops = [most for one in of for _, _, most in one.ranges]
        tops += [value for one in of for _, value in one.points if value is not None]
        tops += [value for one in of for _, value, _, _ in one.measured]
        y = charts.Scale(0, charts.nice_top(tops, 0.1, most))
        frame = charts.Frame(x, y, charts.TALL, bands, unit)
        ends = [f"{one.name} ends at {number(_end(one))}" for one in of]
        about = f"{title}, a line a setting. {'; '.join(ends[:12])}."
        if of:
            made.append(charts.line_chart(title, about, of, frame, css))
    return made


def _end(line: charts.Series) -> float | None:
    """What is written at a line's end: the last on held-out tasks where there is one, as its label has it."""
    return line.measured[-1][1] if line.measured else line.points[-1][1]


def _probe_chart(probe: ProbeCurves, colours: Mapping[str, str], has_ranges: bool) -> charts.Chart:
    """A line a setting, and the base's."""
    lines = {"base": probe.base, **probe.now} if "base" not in probe.now else probe.now
    series = [
        charts.Series(
            name,
            colours.get(name, "c0 twin"),
            [(place.x, place.mean) for place in places],
            is_named=colours.get(name) != "c0",
            gap=math.inf,
            ranges=[(p.x, p.least, p.most) for p in places if has_ranges and name in colours],
        )
        for name, places in lines.items()
        if places
    ]
    what = {"kind": probe.kind, "task": probe.task}
    return charts.probe_chart(probe_name(what), known_metric(probe.metric), series)
