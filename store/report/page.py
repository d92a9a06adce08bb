"""The page: every section's facts put into one HTML text that needs nothing else, runs nothing and loads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from store import rollout_summary, sentences
from store.carryover import ENTROPY_FLOOR, ratio
from store.report import carryover_charts, learning_curves, samples, selection_charts, templates
from store.report.charts import Scale, nice_top
from store.report.report_data import ReportData
from store.run_summary import OBJECTIVE_PARTS, composed, scalar

EVENTS_LISTED = 200  # the newest ones
LONGEST = 200  # characters of a value in the spec


def render(data: ReportData) -> str:
    """Write the page."""
    facts = data.facts
    objective = data.spec.get("objective") or {}
    # those that a count already tells (skipped updates, unscorable samples of steps) are not listed
    events = [
        event
        for event in facts["events"]
        if event["kind"] != "skipped update"
        and not (event["kind"] == "unscorable" and event["after_stage"] is None)
    ]
    context = {
        "written_at": datetime.now(UTC),
        "m": data,
        "facts": facts,
        "when": learning_curves.when,
        "arm_name": sentences.arm_name,
        "standing": sentences.how_it_stands(facts),
        "sentences": dict(
            zip(("Learnt", "Entropy", "Choice", "Signal"), sentences.in_words(facts), strict=True)
        ),
        "share_taught": sentences.share_taught,
        "lost": sentences.what_is_lost(facts),
        "beside": sentences.beside_the_baseline(facts),
        "went_wrong": sentences.what_went_wrong(facts),
        "glance": _first_table(facts["environments"]),
        "levels": learning_curves.levels(data),
        "held_out": learning_curves.held_out(data),
        "in_training": learning_curves.in_training(data),
        "category_panels": learning_curves.category_panels(data),
        "entropy": learning_curves.entropy(data),
        "stage_rows": selection_charts.stage_rows(data),
        "scheduler_panel": selection_charts.scheduler_panel(data),
        "bandit_panels": selection_charts.bandit_panels(data),
        "heat_maps": carryover_charts.heat_maps(data),
        "summaries": carryover_charts.summaries(data),
        "stage_bars": selection_charts.stage_bars(data),
        "environment_bars": selection_charts.environment_bars(data),
        "by_category": selection_charts.by_category(data),
        "played_rows": rollout_summary.batch_rows(facts["played"]),
        "played_columns": list(rollout_summary.environment_columns(facts["played"]).values()),
        "played_environments": rollout_summary.environment_rows(facts["played"]),
        "examples": samples.examples(data),
        "events": events[-EVENTS_LISTED:],
        "num_older_events": max(0, len(events) - EVENTS_LISTED),
        "parts": composed(objective),
        "options": [
            (key, scalar(value))
            for key, value in objective.items()
            if key not in (*OBJECTIVE_PARTS, "preset") and value is not None
        ],
        "outline": _outline(data.spec, 0),
    }
    return templates.page(templates.SHARED, "page.html.j2", ("report.css",), context)


def _first_table(environments: Mapping[str, Any]) -> dict[str, Any]:
    """Where every environment began and ended, with the places of both on a common scale."""
    values = [of[f"accuracy_{at}"] for of in environments.values() for at in ("start", "end")]
    scale = Scale(0, nice_top([value for value in values if value is not None], 0.1, 1.0))

    def place(accuracy: float | None) -> float | None:
        return None if accuracy is None else 100 * scale.share(accuracy)

    rows = [
        {
            "name": name,
            **of,
            "left": ratio(of["entropy_end"], of["entropy_start"], ENTROPY_FLOOR),
            "start": place(of["accuracy_start"]),
            "end": place(of["accuracy_end"]),
        }
        for name, of in environments.items()
    ]
    return {"rows": rows, "top": scale.high}


def _outline(value: Mapping[str, Any], depth: int) -> list[str]:
    """The resolved spec, as the lines of an indented outline."""
    lines = []
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            lines += [f"{'  ' * depth}{key}:", *_outline(inner, depth + 1)]
        else:
            lines.append(f"{'  ' * depth}{key}: {templates.clipped(scalar(inner), LONGEST)}")
    return lines
