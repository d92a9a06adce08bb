"""A replay as one HTML page, in the look of a run's report: no script, nothing loaded, no other file."""

from __future__ import annotations

import math
from collections.abc import Sequence

from orchestrator.simulation.estimates import FEWEST_STEPS, Estimate, Estimates
from orchestrator.simulation.replay_results import SAYS, BanditReplay, Replay, Window
from store.records import EVERYTHING
from store.report import templates
from store.report.charts import Chart, Frame, Scale, Series, line_chart, nice_top
from store.sentences import number

TALL, LOW = 260, 150  # pixels, as in report.css
NUM_COLOURS = 8  # of bandits; the run's own is the first, those beyond it are grey
DIGITS = 3


def render(replay: Replay) -> str:
    """Write the page: what was earned over the steps, and every arm's probability."""
    names = ["logged", *(target.label for target in replay.targets)]
    colours = [f"c{i}" if i <= NUM_COLOURS else "c0" for i in range(1, len(names) + 1)]
    unreliable = [target.label for target in replay.targets if not target.overall.is_reliable]
    facts = {
        "replay": replay,
        "says": SAYS,
        "earned": _earned(replay, names, colours),
        "picked": [
            _picked(replay, names, colours, row, arm.arm)
            for row, bandit in enumerate(replay.targets[0].bandits)
            for arm in bandit.arms
        ],
        "unreliable": unreliable,
        "fewest": FEWEST_STEPS,
    }
    return templates.page("orchestrator.simulation", "replay.html.j2", ("report.css",), facts)


def _earned(replay: Replay, names: Sequence[str], colours: Sequence[str]) -> Chart:
    """What every bandit earns in each window, with its interval: SNIPS, the run's own mean beside it."""
    first = replay.targets[0].windows
    series = [Series(names[0], colours[0], *_line(first, "own", names[0]), gap=math.inf)]
    for target, name, css in zip(replay.targets, names[1:], colours[1:], strict=True):
        series.append(Series(name, css, *_line(target.windows, "snips", name), gap=math.inf))
    tops = [value + (error or 0.0) for one in series for _, value, error, _ in one.measured]
    frame = Frame(_steps(replay), Scale(0, nice_top(tops, 0.01)), TALL)
    about = f"Earned over the steps. {_ends(series, DIGITS)}"
    return line_chart("Earned, mean over the picks", about, series, frame, "tall")


def _line(
    windows: Sequence[tuple[int, int, Estimates | None]], kind: str, name: str
) -> tuple[list[tuple[float, float | None]], list[tuple[float, float, float | None, str]]]:
    points: list[tuple[float, float | None]] = []
    measured: list[tuple[float, float, float | None, str]] = []
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


def _picked(replay: Replay, names: Sequence[str], colours: Sequence[str], row: int, arm: str) -> Chart:
    """One arm's probability over the steps: logged, and every other bandit's."""
    bandits: list[BanditReplay] = [target.bandits[row] for target in replay.targets]
    logged = [(_middle(one), _of(one, arm, "logged_share")) for one in bandits[0].windows]
    series = [Series(names[0], colours[0], logged, gap=math.inf)]
    for bandit, name, css in zip(bandits, names[1:], colours[1:], strict=True):
        points = [(_middle(one), _of(one, arm, "share")) for one in bandit.windows]
        series.append(Series(name, css, points, gap=math.inf))
    title = arm if bandits[0].bandit == EVERYTHING else f"{bandits[0].bandit}.{arm}"
    about = f"Probability of {title} over the steps. {_ends(series, 2)}"
    return line_chart(title, about, series, Frame(_steps(replay), Scale(0, 1), LOW), "low")


def _of(window: Window, arm: str, key: str) -> float | None:
    return next((getattr(one, key) for one in window.arms if one.arm == arm), None)


def _middle(window: Window) -> float:
    return (window.first + window.last) / 2


def _ends(series: Sequence[Series], digits: int) -> str:
    """Say where the lines end, for those who cannot see them."""
    last = [(one.name, one.points[-1][1] if one.points else None) for one in series]
    return "; ".join(f"{name} ends at {number(value, digits)}" for name, value in last) + "."


def _steps(replay: Replay) -> Scale:
    windows = replay.targets[0].windows
    return Scale(windows[0][0], windows[-1][1])
