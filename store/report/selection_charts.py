"""What the curriculum chose: stages, every bandit's probabilities over the steps, and where the samples went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from store.records import EVERYTHING
from store.report.charts import LOW, TALL, Bar, Chart, Scale, Series, bar, ramp, stacked_chart
from store.report.learning_curves import frame_of_steps
from store.report.report_data import ReportData
from store.sentences import number

GREY = ("c0", "k0")  # of arms that are shown together


def stage_rows(data: ReportData) -> list[dict[str, Any]]:
    """List the stages with the scheduler's probability and reward; `steps_done` is None while one is open."""
    picks = {pick.stage: pick for pick in data.stage_picks}
    rows = []
    for stage in data.facts["stages"]:
        pick, end = picks.get(stage["stage"]), stage["end_step"]
        rows.append(
            {
                **stage,
                "css": data.colours.get(stage["environment"] or "", "c0"),
                "steps_done": None if end is None else end - stage["start_step"],
                "probability": pick.probability if pick else None,
                "signal": pick.signal if pick else None,
            }
        )
    return rows


def scheduler_panel(data: ReportData) -> Chart | None:
    """The scheduler's probabilities over environments, if it left anything to chance."""
    arms = [arm for arm in data.facts["arms"] if arm["is_scheduler"]]
    if all(arm[f"probability_{end}"] in (0.0, 1.0) for arm in arms for end in ("min", "max")):
        return None
    colours = {arm["arm"]: data.colours.get(arm["arm"], "c0") for arm in arms}
    return _panel(data, EVERYTHING, arms, colours, f"scheduler {data.facts['scheduler']}")


def bandit_panels(data: ReportData) -> list[Chart]:
    """One small chart a bandit: an environment's over its categories, or the one over everything."""
    places: dict[tuple[str, str], int] = {}  # of an arm's category in the spec; the ledger sorts arms by name
    for place, cell in enumerate(data.accuracy):
        if cell.environment is not None and cell.category is not None:
            places.setdefault((cell.environment, cell.category), place)
            places.setdefault((EVERYTHING, f"{cell.environment}/{cell.category}"), place)
    arms = [arm for arm in data.facts["arms"] if not arm["is_scheduler"]]
    charts = []
    for bandit in (EVERYTHING, *data.environments):
        own = [arm for arm in arms if arm["bandit"] == bandit]
        own.sort(key=lambda arm: places.get((arm["bandit"], arm["arm"]), len(places)))
        moved = {arm["arm"]: float(arm["probability_max"] - arm["probability_min"]) for arm in own}
        title = "all categories" if bandit == EVERYTHING else bandit
        if own:
            charts.append(_panel(data, bandit, own, ramp(list(moved), moved), title))
    return charts


def _panel(
    data: ReportData, bandit: str, arms: Sequence[Mapping[str, Any]], colours: Mapping[str, str], title: str
) -> Chart:
    own = [point for point in data.arms if point.bandit == bandit]
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
    return stacked_chart(title, about, series, frame_of_steps(data, Scale(0, 1), height), css)


@dataclass
class SampleCount:
    """Training samples of some rows of the allocation."""

    key: tuple[str, str] = field(default=("", ""))  # environment, category
    main: int = 0
    replay: int = 0
    num_scored: int = 0
    num_correct: int = 0

    @property
    def total(self) -> int:
        """Samples of both roles."""
        return self.main + self.replay

    @property
    def accuracy(self) -> float | None:
        """Share of scored samples that are correct."""
        return self.num_correct / self.num_scored if self.num_scored else None

    def add(self, row: Mapping[str, Any]) -> None:
        """Take a row in."""
        if row["role"] == "replay":
            self.replay += row["num_samples"]
        else:
            self.main += row["num_samples"]
        self.num_scored += row["num_scored"]
        self.num_correct += row["num_correct"]


def by_category(data: ReportData) -> list[SampleCount]:
    """Sum every category up, over all stages."""
    counts: dict[tuple[str, str], SampleCount] = {}
    for row in data.facts["allocation"]:
        key = (row["environment"], row["category"])
        counts.setdefault(key, SampleCount(key)).add(row)
    return list(counts.values())


def stage_bars(data: ReportData) -> list[Bar]:
    """One bar a stage, divided by environment; replay is paler."""
    stages = {stage["stage"]: stage["environment"] or "all" for stage in data.facts["stages"]}
    counts: dict[int, dict[str, SampleCount]] = {stage: {} for stage in stages}
    for row in data.facts["allocation"]:
        counts.setdefault(row["stage"], {}).setdefault(row["environment"], SampleCount()).add(row)
    bars = []
    for stage, of in counts.items():
        parts = [
            (count, f"{data.colours.get(name, 'c0')} {role}", f"{name}, {role}: {count:,} samples")
            for role in ("main", "replay")
            for name, one in of.items()
            if (count := getattr(one, role))
        ]
        bars.append(bar(str(stage), stages.get(stage, ""), parts))
    return bars


def environment_bars(data: ReportData) -> list[Bar]:
    """One bar an environment, divided by category."""
    bars, counts = [], by_category(data)
    for name in data.environments:
        own = {one.key[1]: one.total for one in counts if one.key[0] == name}
        total, colours = sum(own.values()), ramp(list(own), own)
        parts = [
            (count, colours[category], f"{category}: {count:,} samples, {count / total:.0%}")
            for category, count in own.items()
        ]
        bars.append(bar("", name, parts))
    return bars
