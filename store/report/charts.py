"""Pictures as numbers for a template or another drawer: lines, shares, bars, forests, heat maps. No markup here.

Text and dots are placed in percent of the plot, so that they keep their size whatever its width; paths live in a
box of 1000 by 1000 that is stretched to the plot (`preserveAspectRatio="none"`, strokes not scaled). Colours are
classes of `report.css`: c1 to c8 for names, k1 to k6 for the ordered lines of a panel, c0 and k0 for grey.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from store.metrics import Metric
from store.sentences import num, number

TALL, LOW = 260, 150  # pixels, as in report.css
NUM_COLOURS = 8  # of names; beyond it the rest is grey
NUM_RAMP = 6  # lines of a panel that have a colour; the rest is grey
SHADES = 20  # of a heat map
BOX = 1000  # of the paths, both ways
GAP = 0.05  # of the width: a longer hole in a series is left open
LABEL = 14  # pixels from one label to the next
MAX_DOTS = 200  # a chart; beyond it lines alone, where there are any

Xy = tuple[float, float | None]
Measured = tuple[float, float, float | None, str]  # step, value, standard error, title


@dataclass(frozen=True)
class Scale:
    """Maps values to shares of the plot."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Return where a value lies, 0 at the low end, 1 at the high one."""
        return (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5

    def percent(self, value: float) -> float:
        """Return where a value lies in percent, inside the plot."""
        return 100 * min(1.0, max(0.0, self.share(value)))


@dataclass(frozen=True)
class Tick:
    """A label on an axis."""

    at: float  # percent, from the left or from the top
    label: str


@dataclass(frozen=True)
class Dot:
    """A measured point; `low` and `high` are the ends of its error bar."""

    x: float
    y: float
    title: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """A series as it is drawn."""

    name: str
    css: str  # a class that gives it its colour
    path: str
    dots: Sequence[Dot] = ()
    label: str | None = None  # at its end; None: it has no name of its own
    label_y: float = 0.0
    area: str = ""  # the path of the range around it


@dataclass(frozen=True)
class Band:
    """A stage behind the lines, or a part of a bar; in percent."""

    x: float
    width: float
    css: str
    title: str
    label: str = ""  # of a stage its number, where there is room
    name: str = ""  # its environment, where there is room for all names
    is_dense: bool = False  # a number that only a wide plot has room for


@dataclass(frozen=True)
class Chart:
    """A chart of lines, or of areas over each other."""

    title: str
    about: str  # for those who cannot see it
    css: str  # its height
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    bands: Sequence[Band]
    lines: Sequence[Line]
    is_stacked: bool = False


@dataclass(frozen=True)
class Series:
    """What is to be drawn: values over steps, measured points, or both."""

    name: str
    css: str
    points: Sequence[Xy] = ()
    measured: Sequence[Measured] = ()
    is_named: bool = True
    has_value: bool = True  # beside its name, where it ends
    digits: int = 2  # of that value
    gap: float = GAP
    ranges: Sequence[tuple[float, float, float]] = ()  # step, least, most: drawn as an area behind the line


@dataclass(frozen=True)
class Frame:
    """What the lines of a chart are drawn in."""

    x: Scale
    y: Scale
    height: int  # pixels: how far labels must be apart depends on it
    bands: Sequence[Band] = ()
    unit: str = "steps"  # of x


@dataclass(frozen=True)
class Bar:
    """An amount, and how it divides."""

    label: str
    name: str
    total: float
    segments: Sequence[Band]


@dataclass(frozen=True)
class Forest:
    """A row of a forest plot: seeds, a mark and an interval, in percent of its width."""

    dots: Sequence[tuple[float, str]]  # place, and what it is
    mark: float | None
    low: float | None
    high: float | None
    zero: float | None
    about: str


@dataclass(frozen=True)
class Spark:
    """A line so small that it stands in a row: where it ends is a dot, in percent, and stands beside it in words."""

    path: str
    others: str  # the lines that it is the mean of; empty where it is one itself
    x: float
    y: float
    ends: Sequence[str]  # the first and the last value as text, or the only one
    about: str


@dataclass(frozen=True)
class HeatCell:
    """A cell of a heat map."""

    text: str
    css: str
    title: str
    margin: str | None = None  # half of the interval, and how many seeds if not all


@dataclass(frozen=True)
class HeatRow:
    """After which stage; its cells by environment."""

    label: str
    name: str  # the stage's environment
    cells: Sequence[HeatCell]


@dataclass(frozen=True)
class HeatMap:
    """A matrix: after stage i, on environment j."""

    title: str
    css: str
    columns: Sequence[str]
    rows: Sequence[HeatRow]
    note: str | None


def palette(names: Sequence[str], ranked: Sequence[str]) -> dict[str, str]:
    """Give each name a colour; with more of them than colours, the first of `ranked`."""
    coloured = [name for name in names if name in ranked[:NUM_COLOURS]]
    return {name: f"c{coloured.index(name) + 1}" if name in coloured else "c0" for name in names}


def ramp(names: Sequence[str], moved: Mapping[str, float]) -> dict[str, str]:
    """Colour a panel's lines along one ramp, in their order; with many, only those that moved most."""
    most = sorted(names, key=lambda name: moved[name], reverse=True)[:NUM_RAMP]
    chosen = [name for name in names if name in most]
    last = max(1, len(chosen) - 1)
    colours = {name: f"k{1 + round(i * (NUM_RAMP - 1) / last)}" for i, name in enumerate(chosen)}
    return {name: colours.get(name, "k0") for name in names}


def shade(share: float) -> str:
    """Return the class of a heat map's cell: h0 for nothing or less, h20 for all."""
    return f"h{round(SHADES * min(1.0, max(0.0, share)))}"


def line_chart(title: str, about: str, series: Sequence[Series], frame: Frame, css: str) -> Chart:
    """Place everything; `css` is the class that gives the plot its height."""
    x, y = frame.x, frame.y
    with_dots = sum(len(one.measured) for one in series if one.is_named) <= MAX_DOTS

    def dot(step: float, value: float, error: float | None, text: str) -> Dot:
        ends = () if error is None else (100 - y.percent(value - error), 100 - y.percent(value + error))
        return Dot(100 * x.share(step), 100 - y.percent(value), text, *ends)

    lines, ends = [], {}
    for i, one in enumerate(series):
        dots = tuple(dot(*measured) for measured in one.measured if (with_dots or not one.points) and one.is_named)
        steps, least, most = ([range_[end] for range_ in one.ranges] for end in range(3))
        area = _area(steps, least, most, frame)
        lines.append(Line(one.name, one.css, path(one.points, x, y, one.gap), dots, area=area))
        known = [value for _, value in one.points if value is not None]
        if one.is_named and (one.measured or known):
            last = one.measured[-1][1] if one.measured else known[-1]
            ends[i] = last, last
    return _chart(title, about, css, frame, series, lines, ends)


def probe_chart(name: str, of: Metric, series: Sequence[Series]) -> Chart:
    """Draw what copies of the policy learn over their steps; of a loss, falling is learning."""
    values = [value for one in series for _, value in one.points if value is not None]
    values += [end for one in series for _, *ends in one.ranges for end in ends]
    y = Scale(_nice_low(values), nice_top(values, 0.01, 1.0 if of.unit == "fraction" else math.inf))
    x = Scale(0, max(step for one in series for step, _ in one.points))
    title = f"{name}: {'loss, falling' if of.direction < 0 else 'score, rising'} is learning"
    ends = "; ".join(f"{one.name} {number(one.points[0][1])} to {number(one.points[-1][1])}" for one in series)
    return line_chart(
        title, f"The probe {title}, over the steps of the copy. {ends}.", series, Frame(x, y, TALL), "tall"
    )


def stacked_chart(title: str, about: str, series: Sequence[Series], frame: Frame, css: str) -> Chart:
    """Lay shares over each other, the first at the bottom; all series have their points at the same steps."""
    floors = [0.0] * max((len(one.points) for one in series), default=0)
    lines, ends = [], {}
    for i, one in enumerate(series):
        tops = [floor + (value or 0.0) for floor, (_, value) in zip(floors, one.points, strict=True)]
        lines.append(Line(one.name, one.css, _area([step for step, _ in one.points], floors, tops, frame)))
        if one.is_named and tops:
            ends[i] = (tops[-1] - floors[-1], (tops[-1] + floors[-1]) / 2)
        floors = tops
    return _chart(title, about, css, frame, series, lines, ends, is_stacked=True)


def _chart(
    title: str, about: str, css: str, frame: Frame, series: Sequence[Series], lines: Sequence[Line],
    ends: Mapping[int, tuple[float, float]], is_stacked: bool = False,
) -> Chart:  # fmt: skip
    """Add axes, and labels at the right, none over another; `ends`: a line's last value, and where it is."""
    places = spread([100 - frame.y.percent(at) for _, at in ends.values()], 100 * LABEL / frame.height, 2, 98)
    labelled = list(lines)
    for (i, (value, _)), place in zip(ends.items(), places, strict=True):
        label = number(value, series[i].digits) if series[i].has_value else ""
        labelled[i] = replace(lines[i], label=label, label_y=place)
    steps = [value for value in ticks(frame.x.low, frame.x.high, 5) if value == round(value)]
    x_ticks = [Tick(100 * frame.x.share(value), f"{value:,.0f}") for value in steps]
    x_ticks[-1:] = [replace(last, label=f"{last.label} {frame.unit}") for last in x_ticks[-1:]]
    y_ticks = [
        Tick(100 - 100 * frame.y.share(v), f"{v:g}".replace("0.", ".", 1) if 0 < abs(v) < 1 else f"{v:g}")
        for v in ticks(frame.y.low, frame.y.high, 5)
    ]
    return Chart(title, about, css, x_ticks, y_ticks, frame.bands, labelled, is_stacked)


def _area(steps: Sequence[float], floors: Sequence[float], tops: Sequence[float], frame: Frame) -> str:
    """Write a closed outline: along the tops, and back along the floors."""
    there = [*zip(steps, tops, strict=True), *reversed(list(zip(steps, floors, strict=True)))]
    places = [f"{BOX * frame.x.share(x):.0f} {BOX * (1 - frame.y.share(y)):.0f}" for x, y in there]
    return f"M{' '.join(places)}Z" if places else ""


def path(points: Sequence[Xy], x: Scale, y: Scale, gap: float = GAP) -> str:
    """Write a polyline; a missing value or a hole wider than `gap` interrupts it, a lone point is a dot."""
    runs: list[list[str]] = []
    last = None
    for step, value in points:
        share = x.share(step)
        if value is None:
            last = None
            continue
        if last is None or share - last > gap:
            runs.append([])
        runs[-1].append(f"{BOX * share:.0f} {BOX * (1 - y.share(value)):.0f}")
        last = share
    return "".join(f"M{' '.join(run)}{'' if len(run) > 1 else 'h0'}" for run in runs)


def spark(
    of: Sequence[Mapping[int, float | None]], mean: Mapping[int, float | None], num_stages: int, y: Scale,
    ends: Sequence[str], what: str,
) -> Spark | None:  # fmt: skip
    """Draw what was measured after each stage, up to the last one planned; None where nothing was."""
    known = [(stage, value) for stage, value in mean.items() if value is not None]
    if not known:
        return None
    x = Scale(0, max([num_stages, *mean]))
    others = "".join(path(list(one.items()), x, y, math.inf) for one in of) if len(of) > 1 else ""
    last, value = known[-1]
    about = f"{what}: {' to '.join(ends)} after {num(last, 'stage')}"
    return Spark(path(known, x, y, math.inf), others, 100 * x.share(last), 100 - y.percent(value), ends, about)


def bar(label: str, name: str, parts: Sequence[tuple[float, str, str]]) -> Bar:
    """Lay parts (amount, class, title) one after the other."""
    total, x = sum(amount for amount, _, _ in parts), 0.0
    segments = []
    for amount, css, title in parts:
        segments.append(Band(x, 100 * amount / total, css, title))
        x += segments[-1].width
    return Bar(label, name, total, segments)


def forest(
    dots: Sequence[tuple[float, str]], mark: float | None, ends: tuple[float, float] | None, scale: Scale,
    about: str, has_zero: bool = False,
) -> Forest:  # fmt: skip
    """Place a row of a forest plot: dots with their titles, a mark, and the ends of its interval."""
    low, high = (None, None) if ends is None else map(scale.percent, ends)
    return Forest(
        [(scale.percent(value), title) for value, title in dots],
        None if mark is None else scale.percent(mark),
        low,
        high,
        scale.percent(0.0) if has_zero or scale.low < 0 else None,
        f"{about}; {'; '.join(title for _, title in dots)}",
    )


def scale_around_zero(values: Iterable[float]) -> Scale:
    """Make a scale that begins or ends at 0, or holds it, with round ends."""
    listed = [*values, 0.0]
    high, low = max(listed), min(listed)
    return Scale(-nice_top([-low], 1e-3) if low < 0 else 0.0, nice_top([high], 1e-3) if high > 0 else 0.0)


def ticks(low: float, high: float, about: int) -> list[float]:
    """Choose round values from low to high, roughly `about` of them: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def nice_top(values: Iterable[float], least: float, most: float = math.inf) -> float:
    """Return a round end of an axis that starts at 0 and holds all values."""
    top = max([*values, least])
    if top >= most:
        return most
    power = 10.0 ** math.floor(math.log10(top))
    return min(most, next(power * f for f in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if power * f >= top))


def _nice_low(values: Sequence[float]) -> float:
    """Return 0, or a round value below all of them where they are far from 0 and near each other."""
    least, (first, *others) = min(values), ticks(min(values), max(values), 5)
    if least < max(values) / 2 or not others:
        return 0.0
    return first if first <= least else 2 * first - others[0]


def spread(wanted: Sequence[float], apart: float, low: float, high: float) -> list[float]:
    """Move places as little as a simple rule can so that neighbours are `apart`, all between low and high."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    apart = min(apart, (high - low) / max(1, len(wanted) - 1))
    placed = [0.0] * len(wanted)
    floor = low
    for i in order:
        placed[i] = max(wanted[i], floor)
        floor = placed[i] + apart
    ceiling = high
    for i in reversed(order):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - apart
    return placed
