"""Page templates: one environment, one style, no script, nothing loaded; and text made safe to look at.

Three walls keep what tasks and models wrote from being more than text: characters that a page cannot hold (NUL, half
a surrogate pair) or that lie about what is there (escape sequences, overrides of the reading direction) become visible
marks; the template escapes every value; and the page's own policy (Content-Security-Policy) allows one style sheet, by
its hash, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from store import sentences
from store.labels import told_apart

PANELS = 12  # small charts of a kind, before the rest is folded
SHARED = "store.report"  # the package of what all pages share
LONGEST = 1000  # characters of anything that is printed: names too may be endless

_LEFT_ALONE = frozenset(map(ord, "\n\t"))
_BIDI = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))

# fmt: off
_VISIBLE: dict[int, str] = {
    **dict.fromkeys(range(0xD800, 0xE000), "\ufffd"),                            # half a surrogate pair
    **dict.fromkeys([*range(0x80, 0xA0), *range(0xFDD0, 0xFDF0)], "\ufffd"),     # C1 controls, noncharacters
    **{0x10000 * plane + end: "\ufffd" for plane in range(17) for end in (0xFFFE, 0xFFFF)},
    **{code: chr(0x2400 + code) for code in range(0x20) if code not in _LEFT_ALONE},  # C0 controls: their pictures
    0x7F: "\u2421",
    **{code: f"\u27e8U+{code:04X}\u27e9" for code in (*_BIDI, 0xFEFF, 0x200B)},  # invisible, and they mislead
}
# fmt: on


def visible(text: str) -> str:
    """Show every character that would be invisible, or that no page can hold."""
    if text.isascii() and text.isprintable():  # most texts, and ten times as fast
        return text
    return text.replace("\r\n", "\n").translate(_VISIBLE)


def clipped(text: str, limit: int) -> str:
    """Keep the beginning of a long text and say how much was left out."""
    left = len(text) - limit
    return text if left <= 0 else f"{text[:limit]}\u2026 ({left:,} characters more)"


def printed(value: Any) -> Any:
    """Prepare a value that a template prints: text is cut and made visible, nothing is a dash."""
    if value is None:
        return "\u2013"
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return visible(clipped(value, LONGEST))


def page(package: str, template: str, styles: tuple[str, ...], facts: dict[str, Any]) -> str:
    """Write a page from a package's template; `styles` are style sheets of the package or of `store.report`."""
    made = environment(package)
    assert made.loader is not None
    style = Markup("".join(made.loader.get_source(made, name)[0] for name in styles))  # files of the project
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return made.get_template(template).render(style=style, policy=policy, **facts)


@cache
def environment(package: str = SHARED) -> Environment:
    """Make the templates of a package, beside the shared ones, ready."""
    made = Environment(
        loader=ChoiceLoader([PackageLoader(name, ".") for name in dict.fromkeys([package, SHARED])]),
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
        "told_apart": told_apart,
        "clipped": clipped,
        "drawn": Markup,  # a path of `charts`: numbers alone, and as long as it must be
        "at": lambda value: f"{value:.2f}%",
        "duration": sentences.duration,
    }
    made.globals |= {"num": sentences.num, "panels": PANELS}
    return made
