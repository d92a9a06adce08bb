"""Code that stands in the documents, to be run as it stands."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def code(document: str, heading: str) -> str:
    """Return the Python of a section: the first block under a heading of the second level."""
    text = (DOCS / document).read_text()
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found, f"{document} has no Python under {heading!r}"
    return found.group(1)
