"""Pictures: a comparison drawn by matplotlib without a display, and a replay as an HTML page in the look of a report.

A comparison shows performance over the steps with its band, and whose arms got the slots. Colours are those of Okabe
and Ito, which people who confuse red and green can tell apart; beyond seven, lines differ in dash. The page has no
script and loads no other file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.simulation.estimates import FEWEST_STEPS, Estimate, Estimates
from orchestrator.simulation.ranking import Ranking, value_of
from orchestrator.simulation.replay import SAYS, Replay
from store.files import write_bytes
from store.records import EVERYTHING
from store.report import templates
from store.report.charts import (
    LOW,
    TALL,
    Bar,
    Chart,
    Frame,
    Measured,
    Scale,
    Series,
    Xy,
    bar,
    line_chart,
    nice_top,
    palette,
)
from store.sentences import num, number, short

FORMATS = (".png", ".svg", ".pdf")
INK, SOFT, RULE = "#1d2023", "#5b626b", "#e2dfd6"
LINES = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)))
GROUPS = (
    "#cfe3f2",
    "#86b8dd",
    "#3d86bf",
    "#0b4a7f",
    "#D55E00",
    "#8b9097",
)  # light to dark by level, then the traps
PLAIN_GROUPS = ("#0072B2", "#E69F00", "#009E73")  # of kinds without an order
LONGEST = 34  # characters of a policy's name
DIGITS = 3
LOGGED = "logged"  # the name of the run's own bandit
STYLE: dict[str, Any] = {
    "font.size": 9,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": SOFT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # a name is text, never a formula
    "svg.hashsalt": "evergreen",  # the same picture, the same file
}


def draw(ranking: Ranking, path: Path) -> None:
    """Draw a comparison into a file; its suffix says the format. Raises OSError."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    world, num_seeds = ranking.world, len(ranking.seeds)
    band = ", band: 95 %" if num_seeds > 1 else ""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, max(4.2, 1.6 + 0.34 * len(ranking.rows))), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        _draw_lines(left, curves(ranking), world.curve, f"{world.step}s", ranking.setting.num_steps)
        _draw_bars(right, shares(ranking), "share of the slots")
        title = f"Simulated world {world.letter}, {world.name}: {num(num_seeds, 'seed')}{band}"
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, weight="bold")
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
        picture = BytesIO()
        figure.savefig(picture, format=path.suffix[1:].lower(), dpi=160, metadata=metadata)
    write_bytes(path, picture.getvalue())


def curves(ranking: Ranking) -> list[Series]:
    """One line a policy: its mean over the seeds, and its 95 % t-interval as a range, none with one seed."""
    series = []
    for place, row in enumerate(ranking.rows):
        label = row.entrant.label
        curves_of = np.array([trial.curve for trial in ranking.trials[label]])
        columns = [value_of(column) for column in curves_of.T]
        steps = np.linspace(0, ranking.setting.num_steps, len(columns) + 1)[1:].tolist()
        points = [(step, one.mean) for step, one in zip(steps, columns, strict=True)]
        halves = [one.half or 0.0 for one in columns]
        ranges = [(step, mean - half, mean + half) for (step, mean), half in zip(points, halves, strict=True)]
        series.append(Series(short(label, LONGEST), LINES[place % len(LINES)], points, ranges=ranges))
    return series


def shares(ranking: Ranking) -> list[Bar]:
    """One bar a policy, in the order of the table: its slots by group of arms."""
    bars = []
    for row in ranking.rows:
        label = row.entrant.label
        share = np.mean([trial.shares.mean(axis=0) for trial in ranking.trials[label]], axis=0).tolist()
        colours = PLAIN_GROUPS if len(share) <= len(PLAIN_GROUPS) else GROUPS
        parts = list(zip(share, colours, ranking.world.arm_groups, strict=False))  # there may be more colours
        bars.append(bar("", short(label, LONGEST), parts))
    return bars


def _draw_lines(axes: Any, series: Sequence[Series], title: str, unit: str, num_steps: int) -> None:
    for place, one in enumerate(series):
        (x, mean), (_, low, high) = zip(*one.points, strict=True), zip(*one.ranges, strict=True)
        dash = DASHES[place // len(LINES) % len(DASHES)]
        axes.fill_between(x, low, high, color=one.css, alpha=0.15, linewidth=0)
        axes.plot(x, mean, color=one.css, linestyle=dash, linewidth=1.6, label=one.name)
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(unit)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_xlim(0, num_steps)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8.5, loc="best", handlelength=2.6)


def _draw_bars(axes: Any, bars: Sequence[Bar], title: str) -> None:
    """Bars below each other; a share is written into its part where there is room."""
    for group, first in enumerate(bars[0].segments):
        segments = [one.segments[group] for one in bars]
        left, width = [one.x / 100 for one in segments], [one.width / 100 for one in segments]
        axes.barh(range(len(bars)), width, left=left, height=0.72, color=first.css, label=first.title)
        red, green, blue = (int(first.css[i : i + 2], 16) / 255 for i in (1, 3, 5))
        luminance = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
        ink = "white" if luminance < 0.35 else INK
        for place, (start, share) in enumerate(zip(left, width, strict=True)):
            if share >= 0.06:
                middle = start + share / 2
                axes.text(middle, place, f"{share:.0%}", ha="center", va="center", fontsize=7.5, color=ink)
    axes.set_yticks(range(len(bars)), [one.name for one in bars], color=INK)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xticks([])
    axes.legend(
        frameon=False,
        fontsize=8.5,
        ncols=6,
        loc="upper left",
        bbox_to_anchor=(0, -0.01),
        handlelength=1,
        columnspacing=1,
    )


def render(replay: Replay) -> str:
    """Write the page: what was earned over the steps, and every arm's probability."""
    names = [LOGGED, *(target.label for target in replay.targets)]
    colours = palette(names, names)  # the run's own is the first
    facts = {
        "replay": replay,
        "says": SAYS,
        "earned": _earned(replay, colours),
        "picked": [
            _picked(replay, colours, row, arm.arm)
            for row, bandit in enumerate(replay.targets[0].bandits)
            for arm in bandit.arms
        ],
        "unreliable": [target.label for target in replay.targets if not target.overall.is_reliable],
        "fewest": FEWEST_STEPS,
    }
    return templates.page("orchestrator.simulation", "replay.html.j2", ("report.css",), facts)


def _earned(replay: Replay, colours: dict[str, str]) -> Chart:
    logged = _line(replay.targets[0].windows, "own", LOGGED)
    series = [Series(LOGGED, colours[LOGGED], *logged, gap=math.inf)]
    for target in replay.targets:
        points, measured = _line(target.windows, "snips", target.label)
        series.append(Series(target.label, colours[target.label], points, measured, gap=math.inf))
    tops = [value + (error or 0.0) for one in series for _, value, error, _ in one.measured]
    frame = Frame(_steps(replay), Scale(0, nice_top(tops, 0.01)), TALL)
    about = f"Earned over the steps. {_ends(series, DIGITS)}"
    return line_chart("Earned, mean over the picks", about, series, frame, "tall")


def _line(
    windows: Sequence[tuple[int, int, Estimates | None]], kind: str, name: str
) -> tuple[list[Xy], list[Measured]]:
    points: list[Xy] = []
    measured: list[Measured] = []
    for first, last, found in windows:
        estimate: Estimate | None = None if found is None else getattr(found, kind)
        if found is None or estimate is None:
            continue
        middle, value = (first + last) / 2, estimate.value
        doubt = "" if found.is_reliable or kind == "own" else ", not to be relied on"
        points.append((middle, value))
        text = f"{name}, steps {first} to {last}: {number(value, DIGITS)}{doubt}"
        measured.append((middle, value, estimate.half, text))
    return points, measured


def _picked(replay: Replay, colours: dict[str, str], row: int, arm: str) -> Chart:
    bandits = [target.bandits[row] for target in replay.targets]
    series = []
    for name, bandit, key in (
        (LOGGED, bandits[0], "logged_share"),
        *((target.label, target.bandits[row], "share") for target in replay.targets),
    ):
        points = [
            (
                (window.first + window.last) / 2,
                next((getattr(one, key) for one in window.arms if one.arm == arm), None),
            )
            for window in bandit.windows
        ]
        series.append(Series(name, colours[name], points, gap=math.inf))
    title = arm if bandits[0].bandit == EVERYTHING else f"{bandits[0].bandit}.{arm}"
    about = f"Probability of {title} over the steps. {_ends(series, 2)}"
    return line_chart(title, about, series, Frame(_steps(replay), Scale(0, 1), LOW), "low")


def _ends(series: Sequence[Series], digits: int) -> str:
    """Say where the lines end, for those who cannot see them."""
    last = [(one.name, one.points[-1][1] if one.points else None) for one in series]
    return "; ".join(f"{name} ends at {number(value, digits)}" for name, value in last) + "."


def _steps(replay: Replay) -> Scale:
    windows = replay.targets[0].windows
    return Scale(windows[0][0], windows[-1][1])
