"""Who chose: the stages as the scheduler picked them, and every bandit's probabilities over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from store.records import EVERYTHING
from store.report.charts import Chart, Scale, Series, stacked_chart
from store.report.learning_curves import LOW, TALL, frame_of_steps, ramp
from store.report.report_data import ReportData
from store.sentences import number

GREY = ("c0", "k0")  # of arms that are shown together


@dataclass(frozen=True)
class StageRow:
    """A stage, by whose choice it was, and what came of it."""

    stage: int
    environment: str | None
    css: str
    num_steps: int | None  # done; None while it is open
    planned_steps: int
    replay: float
    probability: float | None
    signal: float | None
    stop_reason: str | None


def stage_rows(material: ReportData) -> list[StageRow]:
    """List the stages with the scheduler's probability and reward."""
    picks = {pick.stage: pick for pick in material.stage_picks}
    rows = []
    for stage in material.story["stages"]:
        pick, end = picks.get(stage["stage"]), stage["end_step"]
        rows.append(
            StageRow(
                stage["stage"],
                stage["environment"],
                material.colours.get(stage["environment"] or "", "c0"),
                None if end is None else end - stage["start_step"],
                stage["num_steps"],
                stage["replay"],
                pick.probability if pick else None,
                pick.signal if pick else None,
                stage["stop_reason"],
            )
        )
    return rows


def scheduler_panel(material: ReportData) -> Chart | None:
    """The scheduler's probabilities over environments, if it left anything to chance."""
    arms = [arm for arm in material.story["arms"] if arm["is_scheduler"]]
    if all(arm[f"probability_{end}"] in (0.0, 1.0) for arm in arms for end in ("min", "max")):
        return None
    colours = {arm["arm"]: material.colours.get(arm["arm"], "c0") for arm in arms}
    return _panel(material, EVERYTHING, arms, colours, f"scheduler {material.story['scheduler']}")


def bandit_panels(material: ReportData) -> list[Chart]:
    """One small chart a bandit: an environment's over its categories, or the one over everything."""
    charts, places = [], _places(material)
    arms = [arm for arm in material.story["arms"] if not arm["is_scheduler"]]
    there = {arm["bandit"] for arm in arms}
    for bandit in [name for name in (EVERYTHING, *material.environments) if name in there]:
        own = [arm for arm in arms if arm["bandit"] == bandit]
        own.sort(key=lambda arm: places.get((arm["bandit"], arm["arm"]), len(places)))
        moved = {arm["arm"]: float(arm["probability_max"] - arm["probability_min"]) for arm in own}
        title = "all categories" if bandit == EVERYTHING else bandit
        charts.append(_panel(material, bandit, own, ramp(list(moved), moved), title))
    return charts


def _places(material: ReportData) -> dict[tuple[str, str], int]:
    """Where every arm's category stands in the spec; the ledger sorts arms by name."""
    places: dict[tuple[str, str], int] = {}
    for place, cell in enumerate(material.accuracy):
        if cell.environment is not None and cell.category is not None:
            places.setdefault((cell.environment, cell.category), place)
            places.setdefault((EVERYTHING, f"{cell.environment}/{cell.category}"), place)
    return places


def _panel(
    material: ReportData,
    bandit: str,
    arms: Sequence[Mapping[str, Any]],
    colours: Mapping[str, str],
    title: str,
) -> Chart:
    own = [point for point in material.arms if point.bandit == bandit]
    steps = sorted({point.step for point in own})
    shares = {(point.arm, point.step): point.probability for point in own}
    named = [arm for arm, css in colours.items() if css not in GREY]
    series = [Series(arm, colours[arm], [(s, shares.get((arm, s), 0.0)) for s in steps]) for arm in named]
    if others := [arm for arm in colours if arm not in named]:
        together = [(s, sum(shares.get((arm, s), 0.0) for arm in others)) for s in steps]
        series.append(Series(f"{len(others)} more", GREY[1], together))
    ends = "; ".join(
        f"{arm['arm']} {number(arm['probability_start'])} to {number(arm['probability_end'])}"
        for arm in arms[:12]
    )
    about = f"Probabilities of {title} over the steps. {ends}."
    is_everything = bandit == EVERYTHING and not any(arm["is_scheduler"] for arm in arms)
    css, height = ("tall", TALL) if is_everything else ("low", LOW)
    return stacked_chart(title, about, series, frame_of_steps(material, Scale(0, 1), height), css)
