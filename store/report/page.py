"""The page: every section's facts put into one HTML text that needs nothing else, runs nothing and loads nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from store import rollout_summary, sentences
from store.carryover import ratio
from store.metrics import metric
from store.report import (
    carryover_charts,
    events,
    learning_curves,
    sample_budget,
    samples,
    selection_charts,
    setup,
    templates,
)
from store.report.charts import Scale, nice_top
from store.report.report_data import ReportData


def render(material: ReportData) -> str:
    """Write the page."""
    facts = {"written_at": datetime.now(UTC), "m": material, **_context(material)}
    return templates.page(templates.OURS, "page.html.j2", ("report.css",), facts)


def _context(material: ReportData) -> dict[str, Any]:
    story = material.story
    return {
        "when": learning_curves.when,
        "arm_name": sentences.arm_name,
        "story": story,
        "standing": sentences.how_it_stands(story),
        "sentences": dict(
            zip(("Learnt", "Entropy", "Choice", "Signal"), sentences.in_words(story), strict=True)
        ),
        "share_taught": sentences.share_taught,
        "lost": sentences.what_is_lost(story),
        "beside": sentences.beside_the_baseline(story),
        "went_wrong": sentences.what_went_wrong(story),
        "glance": _glance(material),
        "levels": learning_curves.levels(material),
        "held_out": learning_curves.held_out(material),
        "in_training": learning_curves.in_training(material),
        "category_panels": learning_curves.category_panels(material),
        "entropy": learning_curves.entropy(material),
        "stage_rows": selection_charts.stage_rows(material),
        "scheduler_panel": selection_charts.scheduler_panel(material),
        "bandit_panels": selection_charts.bandit_panels(material),
        "heats": carryover_charts.heats(material),
        "summaries": carryover_charts.summaries(material),
        "laws": carryover_charts.laws(material),
        "stage_bars": sample_budget.stage_bars(material),
        "environment_bars": sample_budget.environment_bars(material),
        "by_category": sample_budget.by_category(material),
        "played_rows": rollout_summary.batch_rows(story["played"]),
        "played_columns": list(rollout_summary.environment_columns(story["played"]).values()),
        "played_environments": rollout_summary.environment_rows(story["played"]),
        "examples": samples.examples(material),
        "events": events.events(material),
        "parts": setup.objective_parts(material),
        "options": setup.objective_options(material),
        "versions": setup.versions(material),
        "outline": setup.spec_outline(material),
    }


def _glance(material: ReportData) -> dict[str, Any]:
    """The first table: where every environment began and ended, with the places of both on a common scale."""
    facts = material.story["environments"]
    values = [value for of in facts.values() for value in (of["accuracy_start"], of["accuracy_end"])]
    scale = Scale(0, nice_top([value for value in values if value is not None], 0.1, 1.0))
    floor = metric("entropy_token").ratio_floor or 0.0
    rows = [
        {
            "name": name,
            **of,
            "left": ratio(of["entropy_end"], of["entropy_start"], floor),
            **{
                at: None if of[f"accuracy_{at}"] is None else 100 * scale.share(of[f"accuracy_{at}"])
                for at in ("start", "end")
            },
        }
        for name, of in facts.items()
    ]
    return {"rows": rows, "top": scale.high}
