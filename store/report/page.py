"""The page: every section's facts put into one HTML text that needs nothing else, runs nothing and loads nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from store import played, words
from store.carryover import ratio
from store.metrics import metric
from store.report import carry, choosing, incidents, lines, look, samples, setup, spending
from store.report.charts import Scale, nice_top
from store.report.material import Material


def render(material: Material) -> str:
    """Write the page."""
    facts = {"written_at": datetime.now(UTC), "m": material, **_context(material)}
    return look.page(look.OURS, "page.html.j2", ("report.css",), facts)


def _context(material: Material) -> dict[str, Any]:
    story = material.story
    return {
        "when": lines.when,
        "arm_name": words.arm_name,
        "story": story,
        "standing": words.how_it_stands(story),
        "sentences": dict(zip(("Learnt", "Entropy", "Choice", "Signal"), words.in_words(story), strict=True)),
        "share_taught": words.share_taught,
        "lost": words.what_is_lost(story),
        "beside": words.beside_the_baseline(story),
        "went_wrong": words.what_went_wrong(story),
        "glance": _glance(material),
        "levels": lines.levels(material),
        "held_out": lines.held_out(material),
        "in_training": lines.in_training(material),
        "category_panels": lines.category_panels(material),
        "entropy": lines.entropy(material),
        "stage_rows": choosing.stage_rows(material),
        "scheduler_panel": choosing.scheduler_panel(material),
        "bandit_panels": choosing.bandit_panels(material),
        "heats": carry.heats(material),
        "summaries": carry.summaries(material),
        "laws": carry.laws(material),
        "stage_bars": spending.stage_bars(material),
        "environment_bars": spending.environment_bars(material),
        "by_category": spending.by_category(material),
        "played_rows": played.batch_rows(story["played"]),
        "played_columns": list(played.environment_columns(story["played"]).values()),
        "played_environments": played.environment_rows(story["played"]),
        "examples": samples.examples(material),
        "events": incidents.events(material),
        "parts": setup.objective_parts(material),
        "options": setup.objective_options(material),
        "versions": setup.versions(material),
        "outline": setup.spec_outline(material),
    }


def _glance(material: Material) -> dict[str, Any]:
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
