"""Text that tasks, models and environments wrote, made safe to look at. What is left is escaped by the template.

A page cannot hold some characters at all (NUL, half a surrogate pair), and others lie about what is there (escape
sequences, overrides of the reading direction): these are shown as visible marks.
"""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

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
    """What the template does to every value it prints: text is cut and made visible, nothing is a dash."""
    if value is None:
        return "\u2013"
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return visible(clipped(value, LONGEST))
