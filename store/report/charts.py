"""Charts as numbers for a template: places in percent, paths in thousandths. No markup, no colours here.

Text and dots are placed in percent of the plot, so that they keep their size whatever its width; paths live in a
box of 1000 by 1000 that is stretched to the plot (`preserveAspectRatio="none"`, strokes not scaled).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from store.sentences import number

BOX = 1000  # of the paths, both ways
GAP = 0.05  # of the width: a longer hole in a series is left open
LABEL = 14  # pixels from one label to the next
MAX_DOTS = 200  # a chart; beyond it lines alone

Xy = tuple[float, float | None]


@dataclass(frozen=True)
class Scale:
    """Maps values to shares of the plot."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Return where a value lies, 0 at the low end, 1 at the high one."""
        return (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5


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
    """A stage behind the lines."""

    x: float
    width: float
    css: str
    title: str
    label: str = ""  # its number, where there is room
    name: str = ""  # its environment, where there is room for all names


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
    """What is to be drawn: values over steps, measured points (step, value, standard error, title), or both."""

    name: str
    css: str
    points: Sequence[Xy] = ()
    measured: Sequence[tuple[float, float, float | None, str]] = ()
    is_named: bool = True
    has_value: bool = True  # beside its name, where it ends
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


def line_chart(title: str, about: str, series: Sequence[Series], frame: Frame, css: str) -> Chart:
    """Place everything; `css` is the class that gives the plot its height."""
    with_dots = sum(len(one.measured) for one in series if one.is_named) <= MAX_DOTS
    lines = [_line(one, frame, with_dots and one.is_named) for one in series]
    ends = {
        i: (value, value) for i, one in enumerate(series) if one.is_named and (value := _end(one)) is not None
    }
    lines = _labelled(lines, series, ends, frame)
    return Chart(title, about, css, _steps(frame), _values(frame.y), frame.bands, lines)


def stacked_chart(title: str, about: str, series: Sequence[Series], frame: Frame, css: str) -> Chart:
    """Lay shares over each other, the first at the bottom; all series have their points at the same steps."""
    floors = [0.0] * max((len(one.points) for one in series), default=0)
    lines, ends = [], {}
    for i, one in enumerate(series):
        tops = [floor + (value or 0.0) for floor, (_, value) in zip(floors, one.points, strict=True)]
        steps = [step for step, _ in one.points]
        lines.append(Line(one.name, one.css, _area(steps, floors, tops, frame)))
        if one.is_named and tops:
            ends[i] = (tops[-1] - floors[-1], (tops[-1] + floors[-1]) / 2)
        floors = tops
    labelled = _labelled(lines, series, ends, frame)
    return Chart(title, about, css, _steps(frame), _values(frame.y), frame.bands, labelled, True)


def _steps(frame: Frame) -> list[Tick]:
    """Label whole steps; the last label says what they are."""
    x = frame.x
    values = [value for value in ticks(x.low, x.high, 5) if value == round(value)]
    labels = [f"{value:,.0f}" for value in values]
    labels[-1:] = [f"{label} {frame.unit}" for label in labels[-1:]]
    return [Tick(100 * x.share(value), label) for value, label in zip(values, labels, strict=True)]


def _values(y: Scale) -> list[Tick]:
    return [Tick(100 - 100 * y.share(value), _tick_label(value)) for value in ticks(y.low, y.high, 5)]


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


def _line(series: Series, frame: Frame, with_dots: bool) -> Line:
    dots = [
        Dot(
            100 * frame.x.share(step),
            _down(frame, value),
            title,
            None if error is None else _down(frame, value - error),
            None if error is None else _down(frame, value + error),
        )
        for step, value, error, title in series.measured
    ]
    drawn = path(series.points, frame.x, frame.y, series.gap)
    steps, least, most = ([range_[i] for range_ in series.ranges] for i in range(3))
    area = _area(steps, least, most, frame)
    return Line(series.name, series.css, drawn, dots if with_dots else (), area=area)


def _area(steps: Sequence[float], floors: Sequence[float], tops: Sequence[float], frame: Frame) -> str:
    """Write a closed outline: along the tops, and back along the floors."""
    there = [*zip(steps, tops, strict=True), *reversed(list(zip(steps, floors, strict=True)))]
    places = [f"{BOX * frame.x.share(x):.0f} {BOX * (1 - frame.y.share(y)):.0f}" for x, y in there]
    return f"M{' '.join(places)}Z" if places else ""


def _labelled(
    lines: Sequence[Line], series: Sequence[Series], ends: Mapping[int, tuple[float, float]], frame: Frame
) -> list[Line]:
    """Give lines their labels at the right, none over another; `ends`: a line's last value, and where it is."""
    places = spread([_down(frame, at) for _, at in ends.values()], 100 * LABEL / frame.height, 2, 98)
    made = list(lines)
    for (i, (value, _)), place in zip(ends.items(), places, strict=True):
        line, text = lines[i], number(value) if series[i].has_value else ""
        made[i] = replace(line, label=text, label_y=place)
    return made


def _end(series: Series) -> float | None:
    """The value that a line ends with: the last measured one, else the last drawn."""
    if series.measured:
        return series.measured[-1][1]
    return next((value for _, value in reversed(series.points) if value is not None), None)


def _down(frame: Frame, value: float) -> float:
    """Place a value in percent from the top, inside the plot."""
    return 100 - 100 * min(1.0, max(0.0, frame.y.share(value)))


def _tick_label(value: float) -> str:
    return f"{value:g}".replace("0.", ".", 1) if 0 < abs(value) < 1 else f"{value:g}"
