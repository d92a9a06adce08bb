"""What the curriculum chose: stages, every bandit's probabilities over the steps, and where the samples went."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from store.records import EVERYTHING
from store.report.charts import LOW, TALL, Bar, Chart, Scale, Series, bar, ramp, stacked_chart
from store.report.learning_curves import frame_of_steps
from store.report.report_data import ReportData
from store.sentences import number

Arms = Sequence[Mapping[str, Any]]

GREY = ("c0", "k0")  # of arms that are shown together


def stage_rows(data: ReportData) -> list[dict[str, Any]]:
    """List the stages with the scheduler's probability and reward; `steps_done` is None while one is open."""
    picks = {pick.stage: pick for pick in data.stage_picks}
    rows = []
    for stage in data.facts["stages"]:
        pick, end = picks.get(stage["stage"]), stage["end_step"]
        steps_done = None if end is None else end - stage["start_step"]
        row = {**stage, "css": data.colours.get(stage["environment"] or "", "c0"), "steps_done": steps_done}
        chosen = (pick.probability, pick.signal) if pick else (None, None)
        rows.append(row | dict(zip(("probability", "signal"), chosen, strict=True)))
    return rows


def scheduler_panel(data: ReportData) -> Chart | None:
    """The probabilities that each stage's environment was picked with, if anything was left to chance.

    Recorded with the pick. The arms' states inside a stage are those of the next pick.
    """
    drawn = {e["data"]["stage"]: e["data"]["probabilities"] for e in data.facts["events"] if _is_stage_pick(e)}
    if all(share in (0.0, 1.0) for own in drawn.values() for share in own.values()):
        return None
    ends = [
        (step, drawn.get(stage["stage"], {}))
        for stage in data.facts["stages"]
        for step in (stage["start_step"], data.steps[1] if stage["end_step"] is None else stage["end_step"])
    ]
    found = {name for own in drawn.values() for name in own}
    names = [name for name in data.environments if name in found]
    shares = {name: [(step, own.get(name, 0.0)) for step, own in ends] for name in names}
    colours = {name: data.colours[name] for name in names}
    title = f"Probability of each stage's pick, {data.facts['scheduler']}"
    about = [f"stage {stage}: " + ", ".join(f"{n} {number(p)}" for n, p in own.items()) for stage, own in drawn.items()]
    frame = frame_of_steps(data, Scale(0, 1), LOW)
    return stacked_chart(title, f"{title}. {'; '.join(about[:12])}.", _laid_over(shares, colours), frame, "low")


def _is_stage_pick(event: Mapping[str, Any]) -> bool:
    return "stage" in event["data"] and "probabilities" in event["data"]


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


def _panel(data: ReportData, bandit: str, arms: Arms, colours: Mapping[str, str], title: str) -> Chart:
    """Averages over bins of steps, and at the end what each arm's probability is there."""
    own = [point for point in data.arms if point.bandit == bandit]
    steps = sorted({point.step for point in own})
    known = {(point.arm, point.step): point.probability for point in own}
    last = {arm["arm"]: arm["probability_end"] for arm in arms}
    shares = {arm: [*((s, known.get((arm, s), 0.0)) for s in steps), (data.steps[1], last[arm])] for arm in colours}
    ends = "; ".join(
        f"{arm['arm']} {number(arm['probability_start'])} to {number(arm['probability_end'])}" for arm in arms[:12]
    )
    about = f"Probabilities of {title} over the steps. {ends}."
    css, height = ("tall", TALL) if bandit == EVERYTHING else ("low", LOW)
    frame = frame_of_steps(data, Scale(0, 1), height)
    return stacked_chart(title, about, _laid_over(shares, colours), frame, css)


def _laid_over(shares: Mapping[str, Sequence[tuple[float, float]]], colours: Mapping[str, str]) -> list[Series]:
    """A series an arm, of shares at the same steps; those in grey are one."""
    series = [Series(arm, colours[arm], own) for arm, own in shares.items() if colours[arm] not in GREY]
    if others := [own for arm, own in shares.items() if colours[arm] in GREY]:
        together = [(points[0][0], sum(share for _, share in points)) for points in zip(*others, strict=True)]
        series.append(Series(f"{len(others)} more", GREY[1], together))
    return series


def _counts(data: ReportData, *by: str) -> dict[Any, Counter[str]]:
    """Training samples by these columns of the allocation: all, those replayed, scored and correct."""
    counts: dict[Any, Counter[str]] = defaultdict(Counter)
    for row in data.facts["allocation"]:
        num_samples = {"total": row["num_samples"], row["role"]: row["num_samples"]}
        scored = {"num_scored": row["num_scored"], "num_correct": row["num_correct"]}
        counts[tuple(row[column] for column in by)].update({**num_samples, **scored})
    return counts


def by_category(data: ReportData) -> list[dict[str, Any]]:
    """Sum every category up, over all stages; its accuracy is of the samples that were scored."""
    return [
        {
            "key": key,
            "total": of["total"],
            "replay": of["replay"],
            "num_scored": of["num_scored"],
            "accuracy": of["num_correct"] / of["num_scored"] if of["num_scored"] else None,
        }
        for key, of in _counts(data, "environment", "category").items()
    ]


def stage_bars(data: ReportData) -> list[Bar]:
    """One bar a stage, divided by environment; replay is paler."""
    stages = {stage["stage"]: stage["environment"] or "all" for stage in data.facts["stages"]}
    counts = _counts(data, "stage", "environment")
    bars = []
    for own in dict.fromkeys([*stages, *(stage for stage, _ in counts)]):
        parts = [
            (of[role], f"{data.colours.get(name, 'c0')} {role}", f"{name}, {role}: {of[role]:,} samples")
            for role in ("main", "replay")
            for (stage, name), of in counts.items()
            if stage == own and of[role]
        ]
        bars.append(bar(str(own), stages.get(own, ""), parts))
    return bars


def environment_bars(data: ReportData) -> list[Bar]:
    """One bar an environment, divided by category."""
    bars, counts = [], _counts(data, "environment", "category")
    for name in data.environments:
        own = {category: of["total"] for (environment, category), of in counts.items() if environment == name}
        total, colours = sum(own.values()), ramp(list(own), own)
        parts = [
            (count, colours[category], f"{category}: {count:,} samples, {count / total:.0%}")
            for category, count in own.items()
        ]
        bars.append(bar("", name, parts))
    return bars
