"""The page: every section's facts put into one HTML text that needs nothing else, runs nothing and loads nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from store import run_summary, sentences
from store.carryover import ENTROPY_FLOOR, OUTCOMES, ratio
from store.ledger.query_rows import SampleRow, by_key
from store.report import learning_curves, plasticity, selection_charts, templates, transfer
from store.report.charts import HeatCell, HeatMap, HeatRow, Scale, nice_top, shade
from store.report.report_data import ReportData
from store.run_summary import OBJECTIVE_PARTS, Matrix, composed, scalar
from store.sentences import STEADY

EVENTS_LISTED = 200  # the newest ones
LONGEST = 200  # characters of a value in the spec
SHOWN = 6  # tasks of an environment, before and after
PALEST_ABOVE = 0.3  # shade of an entropy just above its start; twice the start is the darkest
LONGEST_REASON = 80  # characters of why a sample has no score


def render(data: ReportData) -> str:
    """Write the page."""
    facts = data.facts
    objective = data.spec.get("objective") or {}
    # those that a count already tells (skipped updates, unscorable samples of steps) are not listed
    events = [
        event
        for event in facts["events"]
        if event["kind"] != "skipped update" and not (event["kind"] == "unscorable" and event["after_stage"] is None)
    ]
    context = {
        "written_at": datetime.now(UTC),
        "m": data,
        "facts": facts,
        "curves": learning_curves,
        "choices": selection_charts,
        "plastic": plasticity,
        "transfer": transfer,
        "has_plasticity": plasticity.has_any(data),
        "summary": run_summary,
        "words": sentences,
        "sentences": {**sentences.in_words(facts), **sentences.what_carried(facts)},
        "glance": _first_table(facts["environments"], max(map(int, facts["matrices"]["pass_1"]), default=0)),
        "heat_maps": heat_maps(data),
        "summaries": summaries(data),
        "examples": examples(data),
        "events": events[-EVENTS_LISTED:],
        "num_older_events": max(0, len(events) - EVENTS_LISTED),
        "parts": composed(objective, data.spec.get("environments", ())),
        "options": [
            (key, scalar(value))
            for key, value in objective.items()
            if key not in (*OBJECTIVE_PARTS, "preset", "by") and value is not None
        ],
        "outline": _outline(data.spec, 0),
    }
    styles = ("report.css", "plasticity.css") if context["has_plasticity"] else ("report.css",)
    return templates.page(templates.SHARED, "page.html.j2", styles, context)


def _first_table(environments: Mapping[str, Any], newest: int) -> dict[str, Any]:
    """Where every environment began and ended, with the places of both on a common scale; `newest`: boundary."""
    values = [of[f"accuracy_{at}"] for of in environments.values() for at in ("start", "end")]
    scale = Scale(0, nice_top([value for value in values if value is not None], 0.1, 1.0))

    def place(accuracy: float | None) -> float | None:
        return None if accuracy is None else 100 * scale.share(accuracy)

    rows = [
        {
            "name": name,
            "as_of": sentences.as_of(of["end_stage"], newest),
            **of,
            "left": ratio(of["entropy_end"], of["entropy_start"], ENTROPY_FLOOR),
            "start": place(of["accuracy_start"]),
            "end": place(of["accuracy_end"]),
        }
        for name, of in environments.items()
    ]
    return {"rows": rows, "top": scale.high}


def _outline(value: Mapping[str, Any], depth: int) -> list[str]:
    lines = []
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            lines += [f"{'  ' * depth}{key}:", *_outline(inner, depth + 1)]
        else:
            lines.append(f"{'  ' * depth}{key}: {templates.clipped(scalar(inner), LONGEST)}")
    return lines


def summaries(data: ReportData) -> list[dict[str, Any]]:
    """The numbers of carry-over that are defined for this run, each with its meaning."""
    facts = data.facts
    values, partly = sentences.outcomes_as_text(facts["carry_over"], facts["missing"] is not None), facts["partly"]
    return [
        {"metric": one, "value": values[one.name], "of": sentences.how_much_of(partly, one.name)}
        for one in OUTCOMES
        if one.name in values
    ]


def heat_maps(data: ReportData) -> list[HeatMap]:
    """Both matrices: accuracy, and entropy beside its column's first value."""
    accuracy, entropy = (data.facts["matrices"][name] for name in ("pass_1", "entropy_token"))
    known = [value for row in accuracy.values() for value in row.values() if value is not None]
    top = nice_top(known, 0.1, 1.0)
    first = {name: v for i in sorted(entropy, key=int, reverse=True) for name, v in entropy[i].items()}

    def accuracy_share(name: str, value: float | None) -> float:
        return (value or 0.0) / top

    def entropy_share(name: str, value: float | None) -> float:
        return ratio(value, first.get(name), ENTROPY_FLOOR) or 0.0  # next to nothing at the start: no shade

    darkest, shares = f"darkest: {sentences.number(top)}", "shade: share of the column's first value"
    if any(entropy_share(name, v) > 1 + STEADY for row in entropy.values() for name, v in row.items()):
        shares += "; amber: above it, darkest at twice"
    return [
        _heat_map(data, accuracy, "Accuracy", "accuracy", darkest, accuracy_share),
        _heat_map(data, entropy, "Entropy, nats a token", "entropy", shares, entropy_share),
    ]


def _heat_map(
    data: ReportData, matrix: Matrix, title: str, css: str, legend: str,
    share: Callable[[str, float | None], float],
) -> HeatMap:  # fmt: skip
    columns = [name for name in data.environments if any(name in row for row in matrix.values())]
    stages = {str(stage["stage"]): stage["environment"] for stage in data.facts["stages"]}

    def cell(i: str, name: str) -> HeatCell:
        value, is_trained = matrix[i].get(name), name == stages.get(i)
        of = share(name, value) if name in matrix[i] else 0.0
        is_above = of > 1 + STEADY
        tint = f"{shade(PALEST_ABOVE + (1 - PALEST_ABOVE) * (of - 1))} above" if is_above else shade(of)
        about = f"{name} {sentences.when(int(i))}" + (", trained in it" if is_trained else "")
        about += f", {of:.0%} of the first value" if is_above else ""
        return HeatCell(sentences.number(value), f"{tint} trained" if is_trained else tint, about)

    rows = [
        HeatRow(
            "start" if i == "0" else i,
            "" if i == "0" else stages.get(i) or "all",
            [cell(i, name) for name in columns],
        )
        for i in sorted(matrix, key=int)
    ]
    outlined = "Outlined: the environment that the stage trained; " if data.facts["scheduler"] else ""
    return HeatMap(title, css, columns, rows, f"{outlined}{legend}.")


# --- samples before and after: the first tasks of every category in order, which is settled before looking ---


@dataclass(frozen=True)
class Answer:
    """What the policy wrote, and how it was scored."""

    text: str
    verdict: str
    css: str


@dataclass(frozen=True)
class SamplePair:
    """One task, answered before and after."""

    category: str
    messages: Sequence[Mapping[str, Any]]
    before: Answer
    after: Answer | None  # None: there is no later boundary yet


def examples(data: ReportData) -> dict[str, list[SamplePair]]:
    """Choose and pair samples, by environment: the same number of every category; of many, evenly spaced ones."""
    first = data.boundaries[0].after_stage if data.boundaries else 0
    later = {_task(sample): _answer(sample) for sample in data.samples if sample.after_stage != first}
    found = {}
    for name in data.environments:
        own = (one for one in data.samples if one.environment == name and one.after_stage == first)
        by_category = by_key(own, lambda sample: sample.category)
        categories = list(by_category)
        if len(categories) > SHOWN:
            categories = [categories[i * len(categories) // SHOWN] for i in range(SHOWN)]
        each = max(1, SHOWN // max(1, len(categories)))
        pairs = [
            SamplePair(sample.category, sample.messages, _answer(sample), later.get(_task(sample)))
            for category in categories
            for sample in by_category[category][:each]
        ]
        if pairs and name in data.facts["environments"]:  # it may have been measured just now
            found[name] = pairs
    return found


def _task(sample: SampleRow) -> tuple[str, str, str, int]:
    return sample.environment, sample.category, sample.task_key, sample.sample


def _answer(sample: SampleRow) -> Answer:
    if sample.reason is not None:
        return Answer(sample.completion, f"not scored: {templates.clipped(sample.reason, LONGEST_REASON)}", "unscored")
    verdict = "correct" if sample.correct else "wrong"
    is_partial = sample.value not in (0.0, 1.0)
    text = f"{verdict}, value {sentences.number(sample.value)}" if is_partial else verdict
    return Answer(sample.completion, text, verdict)
