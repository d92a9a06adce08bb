"""A comparison as one HTML page, in the look of a run's report: no script, nothing loaded, no other file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from store.comparison import heat_maps, sentences
from store.comparison.curves import Curves, Drawn, PlotArea, draw
from store.comparison.result import Comparison
from store.comparison.statistics import Interval
from store.ledger.queries import Reading
from store.report import templates
from store.report.charts import GAP, Band, Chart, Frame, Scale, Series, line_chart, nice_top
from store.sentences import num, number

TALL = 260  # pixels, as in report.css
NUM_COLOURS = 8  # of settings; beyond it the rest is grey
RANGES = 5  # settings whose seeds' ranges are drawn
OPEN = 3  # groups of matrices that are unfolded
SAID = 8  # verdicts at the top; the table has them all
STYLES = ("report.css", "comparison.css")

Measured = Mapping[str, Sequence[tuple[float, float, float | None, str]]]


@dataclass(frozen=True)
class Forest:
    """A row of a forest plot: seeds, a mark and an interval, in percent of its width."""

    dots: Sequence[tuple[float, str]]  # place, and what it is
    mark: float | None
    low: float | None
    high: float | None
    zero: float | None
    about: str


def render(reading: Reading, comparison: Comparison) -> str:
    """Write the page."""
    drawn = draw(reading, comparison)
    colours = _colours(comparison)
    told = sentences.sentences(comparison)
    facts = {
        "c": comparison,
        "words": sentences,
        "colours": colours,
        "sentences": [
            (colours[about[0]] if len(about) == 1 else "c0", sentence) for about, sentence in told[:SAID]
        ],
        "num_unsaid": max(0, len(told) - SAID),
        "num_runs": sum(len(setting.runs) for setting in comparison.settings),
        "settings": _settings(comparison),
        "pairs": _pairs(comparison),
        "heats": heat_maps,
        "charts": _charts(drawn, colours),
        "has_ranges": len(comparison.settings) <= RANGES,
        "num_colours": NUM_COLOURS,
        "open_groups": OPEN,
        "is_in_steps": drawn.axis.is_in_steps,
        "written_at": datetime.now(UTC),
    }
    return templates.page("store.comparison", "comparison.html.j2", STYLES, facts)


def _colours(comparison: Comparison) -> dict[str, str]:
    """Give each setting a colour; with more of them than colours, the baseline and those with the best scores."""
    labels = [setting.label for setting in comparison.settings]
    chosen = labels
    if len(labels) > NUM_COLOURS:
        means = {setting.label: setting.mean for setting in comparison.settings}
        best = sorted(means, key=lambda label: means[label], reverse=comparison.direction >= 0)
        chosen = list(dict.fromkeys([comparison.baseline or labels[0], *best]))[:NUM_COLOURS]
    numbered = {label: f"c{i}" for i, label in enumerate([n for n in labels if n in chosen], start=1)}
    return {label: numbered.get(label, "c0") for label in labels}


def _settings(comparison: Comparison) -> list[Forest]:
    """Every setting's scores on one scale: what its interquartile mean is of."""
    listed = [
        value for setting in comparison.settings for run in setting.runs for value in run.strata.values()
    ]
    scale = _scale(listed)
    return [
        _forest(
            [
                (value, f"seed {run.seed}, {stratum}: {number(value, sentences.DIGITS)}")
                for run in setting.runs
                for stratum, value in run.strata.items()
            ],
            setting.iqm,
            setting.iqm_interval,
            scale,
            f"{number(setting.iqm, sentences.DIGITS)}, interval {sentences.interval(setting.iqm_interval)}",
        )
        for setting in comparison.settings
    ]


def _pairs(comparison: Comparison) -> list[Forest]:
    """Every pair's differences on one scale that holds 0; quotients on one of logarithms that holds 1."""

    def place(value: float) -> float:
        return math.log(value) if comparison.is_ratio else value

    ends = [end for pair in comparison.pairs if (of := pair.interval) for end in (of.low, of.high)]
    seen = [*ends, *(d for pair in comparison.pairs for d in pair.differences)]
    scale = _scale([place(value) for value in seen])
    rows = []
    for pair in comparison.pairs:
        seeds = zip(pair.seeds, pair.differences, strict=True)
        told = [f"seed {seed}: {sentences.change(d, pair.is_ratio)}" for seed, d in seeds]
        of = pair.interval and Interval(place(pair.interval.low), place(pair.interval.high))
        interval = sentences.changes(pair.interval, pair.is_ratio)
        about = f"{sentences.change(pair.mean, pair.is_ratio)}, interval {interval}"
        rows.append(
            _forest(
                list(zip(map(place, pair.differences), told, strict=True)),
                None if pair.mean is None else place(pair.mean),
                of,
                scale,
                about,
                has_zero=True,
            )
        )
    return rows


def _forest(
    dots: Sequence[tuple[float, str]],
    mark: float | None,
    of: Interval | None,
    scale: Scale,
    about: str,
    has_zero: bool = False,
) -> Forest:
    def at(value: float) -> float:
        return 100 * min(1.0, max(0.0, scale.share(value)))

    return Forest(
        [(at(value), title) for value, title in dots],
        None if mark is None else at(mark),
        at(of.low) if of else None,
        at(of.high) if of else None,
        at(0.0) if has_zero or scale.low < 0 else None,
        f"{about}; {'; '.join(t for _, t in dots)}",
    )


def _scale(values: Iterable[float]) -> Scale:
    """A scale that begins or ends at 0, or holds it, with round ends."""
    listed = [*values]
    high, low = max([*listed, 0.0]), min([*listed, 0.0])
    return Scale(-nice_top([-low], 1e-3) if low < 0 else 0.0, nice_top([high], 1e-3) if high > 0 else 0.0)


def _charts(drawn: Drawn, colours: Mapping[str, str]) -> list[Chart]:
    """Training, held-out tasks, entropy; what was never recorded has no chart."""
    training = _series(drawn.training, colours, drawn)
    held_out = [
        Series(
            name,
            colours[name],
            _line(places),
            _dots(name, places),
            colours[name] != "c0",
            gap=math.inf,
            ranges=_ranges(places, drawn),
        )
        for name, places in drawn.held_out.items()
        if places
    ]
    entropy = _series(drawn.entropy, colours, drawn, drawn.held_out_entropy)
    charts = [
        ("Training accuracy, of the environment being trained", training, 1.0, "tall wide"),
        ("Held-out accuracy, mean of the environments", held_out, 1.0, "tall"),
        ("Entropy, nats a token", entropy, math.inf, "tall"),
    ]
    return [_chart(*chart, drawn) for chart in charts if chart[1]]


def _chart(title: str, series: Sequence[Series], most: float, css: str, drawn: Drawn) -> Chart:
    tops = [most for one in series for _, _, most in one.ranges]
    tops += [value for one in series for _, value in one.points if value is not None]
    tops += [value for one in series for _, value, _, _ in one.measured]
    edges = drawn.axis.edges
    frame = Frame(
        Scale(edges[0], edges[-1]),
        Scale(0, nice_top(tops, 0.1, most)),
        TALL,
        _bands(drawn),
        "steps" if drawn.axis.is_in_steps else num(len(edges) - 1, "stage").split()[-1],
    )
    ends = [f"{one.name} ends at {number(_last(one))}" for one in series]
    return line_chart(title, f"{title}, a line a setting. {'; '.join(ends[:12])}.", series, frame, css)


def _series(
    curves: Curves, colours: Mapping[str, str], drawn: Drawn, measured: Curves | None = None
) -> list[Series]:
    edges = drawn.axis.edges
    num_places = max((len(places) for places in curves.values()), default=1)
    gap = max(GAP, 2.5 * (len(edges) - 1) * _widest(edges) / max(1, num_places))
    return [
        Series(
            name,
            colours[name],
            _line(places),
            _dots(name, (measured or {}).get(name, ())),
            colours[name] != "c0",
            gap=gap,
            ranges=_ranges(places, drawn),
        )
        for name, places in curves.items()
        if places
    ]


def _widest(edges: Sequence[float]) -> float:
    """The longest stage, as a share of the axis."""
    return max(b - a for a, b in pairwise(edges)) / (edges[-1] - edges[0])


def _line(places: Sequence[PlotArea]) -> list[tuple[float, float | None]]:
    return [(place.x, place.mean) for place in places]


def _ranges(places: Sequence[PlotArea], drawn: Drawn) -> list[tuple[float, float, float]]:
    """From the least to the most of the seeds; ranges of many settings would hide each other."""
    if len(drawn.held_out) > RANGES:
        return []
    return [(place.x, place.least, place.most) for place in places]


def _dots(name: str, places: Sequence[PlotArea]) -> list[tuple[float, float, float | None, str]]:
    return [
        (p.x, p.mean, None, f"{name}: {number(p.mean)}, seeds {number(p.least)} to {number(p.most)}")
        for p in places
    ]


def _last(series: Series) -> float | None:
    return series.points[-1][1] if series.points else None


def _bands(drawn: Drawn) -> list[Band]:
    """The stages behind the lines, every other one shaded."""
    edges, names = drawn.axis.edges, drawn.axis.names
    span = edges[-1] - edges[0]
    return [
        Band(
            100 * (edges[i] - edges[0]) / span,
            100 * (edges[i + 1] - edges[i]) / span,
            f"c0 odd{(i + 1) % 2}",
            f"Stage {i + 1}" + (f" on {name}" if name else ""),
            str(i + 1) if len(names) <= 20 else "",
        )
        for i, name in enumerate(names)
    ]
