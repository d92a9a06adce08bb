"""What is made of the declared numbers and kept: the list in docs/metrics.md.

A metric that is new, or whose words change, shows in it. After a change that is meant, write it with

    python -m tests.store.metric_documents --write

The introduction, above the mark, is written by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from store.carryover import OUTCOMES, SWITCHES
from store.metrics import FAMILIES, INTERIM, METRICS, Metric
from tests.documents import DOCS

PAGE = DOCS / "metrics.md"
MARK = "<!-- Below: python -m tests.store.metric_documents --write -->"
BETTER = {1: "higher", 0: "", -1: "lower"}


def document() -> str:
    """Write the page anew."""
    return f"{PAGE.read_text().partition(MARK)[0]}{MARK}\n\n{reference()}"


def reference() -> str:
    """All numbers: of steps, of boundaries, of stages and runs, and times."""
    known = [one for name, one in METRICS.items() if name not in FAMILIES]
    interim = [one for one in known if one.name.startswith(INTERIM)]
    lines = [
        *_section("In training", (one for one in known if one.group == "train")),
        *_section("At boundaries", (one for one in known if one.group == "measure" and one not in interim)),
        *_section("Inside stages", interim),
        *_section("Families: of each there are many", (METRICS[name] for name in FAMILIES)),
        *_carry_over(),
        *_section("Time", (one for one in known if one.group == "time")),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _section(title: str, metrics: Sequence[Metric] | Iterator[Metric]) -> Iterator[str]:
    yield from (f"## {title}", "", "| name | unit | better | what it is | what is unhealthy | floor of ratios |")
    yield "|---|---|---|---|---|---|"
    for one in metrics:
        name = f"{one.name}_..." if one.name in FAMILIES else one.name
        floor = "" if one.ratio_floor is None else f"{one.ratio_floor:g}"
        cells = (one.unit, BETTER[one.direction], one.meaning, one.unhealthy, floor)
        yield f"| `{name}` | {' | '.join(map(_cell, cells))} |"
    yield ""


def _carry_over() -> Iterator[str]:
    yield from ("## Of a run so far: carry-over", "", "| name | in MLflow | short | a | better | what it is |")
    yield "|---|---|---|---|---|---|"
    for one in OUTCOMES:
        words = (one.abbreviation, one.kind, BETTER[one.direction], one.meaning)
        yield f"| `{one.name}` | `{one.mlflow}` | {' | '.join(map(_cell, words))} |"
    yield from ("", "## Of a stage: what it did, and what it found", "", "| name | what it is |", "|---|---|")
    yield from (f"| `{one.name}` | {_cell(one.meaning)} |" for one in SWITCHES)
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        raise SystemExit(__doc__)
    PAGE.write_text(document())
    print(f"wrote {PAGE}")
