"""The page: every section's facts put into one HTML text that needs nothing else, runs nothing and loads nothing.

Two walls keep what tasks and models wrote from being more than text: the template escapes every value, and the
page's own policy (Content-Security-Policy) allows one style sheet, by its hash, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from store import words
from store.carryover import ratio
from store.metrics import metric
from store.report import carry, choosing, incidents, lines, samples, setup, spending
from store.report.charts import Scale, nice_top
from store.report.material import Material
from store.report.text import printed

PANELS = 12  # small charts of a kind, before the rest is folded


def render(material: Material) -> str:
    """Write the page."""
    return _template().render(
        style=_style(), policy=_policy(), written_at=datetime.now(UTC), m=material, **_context(material)
    )


def _context(material: Material) -> dict[str, Any]:
    story = material.story
    return {
        "story": story,
        "standing": words.how_it_stands(story),
        "sentences": dict(zip(("Learnt", "Entropy", "Choice"), words.in_words(story), strict=True)),
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
        "stage_bars": spending.stage_bars(material),
        "environment_bars": spending.environment_bars(material),
        "by_category": spending.by_category(material),
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


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("store.report", "."),
        autoescape=True,
        finalize=printed,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": words.number,
        "signed": words.signed,
        "share": lambda value: "\u2013" if value is None else f"{value:.0%}",
        "thousands": lambda value: f"{value:,}",
        "short": words.short,
        "drawn": Markup,  # a path of `charts`: numbers alone, and as long as it must be
        "at": lambda value: f"{value:.2f}%",
        "duration": words.duration,
    }
    environment.globals |= {
        "num": words.num,
        "panels": PANELS,
        "when": lines.when,
        "arm_name": words.arm_name,
    }
    return environment.get_template("page.html.j2")


@cache
def _style() -> Markup:
    environment = _template().environment
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, "report.css")[0])  # our own file


@cache
def _policy() -> str:
    """What the page may do: nothing but its own style sheet, recognised by its hash."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
