"""How our pages look and what they may do: one template environment, one style, no script, nothing loaded.

Two walls keep what tasks and models wrote from being more than text: the template escapes every value, and the
page's own policy (Content-Security-Policy) allows one style sheet, by its hash, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from store import sentences
from store.report.safe_text import printed

PANELS = 12  # small charts of a kind, before the rest is folded
OURS = "store.report"  # where the pieces are that all pages share


def page(package: str, template: str, styles: tuple[str, ...], facts: dict[str, Any]) -> str:
    """Write a page from a package's template; `styles` are style sheets of the package or of `store.report`."""
    style = _style(package, styles)
    return environment(package).get_template(template).render(style=style, policy=_policy(style), **facts)


@cache
def environment(package: str = OURS) -> Environment:
    """Make the templates of a package, beside ours, ready."""
    made = Environment(
        loader=ChoiceLoader([PackageLoader(name, ".") for name in dict.fromkeys([package, OURS])]),
        autoescape=True,
        finalize=printed,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": sentences.number,
        "signed": sentences.signed,
        "share": lambda value: "\u2013" if value is None else f"{value:.0%}",
        "percent": sentences.percent,
        "thousands": lambda value: f"{value:,}",
        "short": sentences.short,
        "drawn": Markup,  # a path of `charts`: numbers alone, and as long as it must be
        "at": lambda value: f"{value:.2f}%",
        "duration": sentences.duration,
    }
    made.globals |= {"num": sentences.num, "panels": PANELS}
    return made


@cache
def _style(package: str, files: tuple[str, ...]) -> Markup:
    loader = environment(package).loader
    assert loader is not None
    return Markup(
        "".join(loader.get_source(environment(package), name)[0] for name in files)
    )  # our own files


def _policy(style: Markup) -> str:
    """What the page may do: nothing but its own style sheet, recognised by its hash."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
