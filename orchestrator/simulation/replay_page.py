"""A replay as one HTML page, in the look of a run's report: no script, nothing loaded, no other file."""

from __future__ import annotations

import math
from collections.abc import Sequence

from orchestrator.simulation.estimates import FEWEST_STEPS, Estimate, Estimates
from orchestrator.simulation.replay_results import SAYS, Replay
from store.records import EVERYTHING
from store.report import templates
from store.report.charts import (
    LOW,
    TALL,
    Chart,
    Frame,
    Measured,
    Scale,
    Series,
    Xy,
    line_chart,
    nice_top,
    palette,
)
from store.sentences import number

DIGITS = 3
LOGGED = "logged"  # the name of the run's own bandit


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
    """What every bandit earns in each window, with its interval: SNIPS, the run's own mean beside it."""
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
    """A point a window that has an estimate of this kind, with its interval."""
    points: list[Xy] = []
    measured: list[Measured] = []
    for first, last, found in windows:
        estimate: Estimate | None = None if found is None else getattr(found, kind)
        if found is None or estimate is None:
            continue
        middle, value = (first + last) / 2, estimate.value
        half = None if estimate.high is None else estimate.high - value
        doubt = "" if found.is_reliable or kind == "own" else ", not to be relied on"
        points.append((middle, value))
        measured.append(
            (middle, value, half, f"{name}, steps {first} to {last}: {number(value, DIGITS)}{doubt}")
        )
    return points, measured


def _picked(replay: Replay, colours: dict[str, str], row: int, arm: str) -> Chart:
    """One arm's probability over the steps: logged, and every other bandit's."""
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
