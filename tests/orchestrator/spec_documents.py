"""What is made of the spec's model and kept: the reference in docs/spec.md, and docs/spec.schema.json for editors.

A field that is new or renamed, or whose default moves, shows in both. After a change that is meant, write them with

    python -m tests.orchestrator.spec_documents --write

The introduction of docs/spec.md, above the mark, is written by hand.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from environments.plugins import ENVIRONMENTS, REWARDS
from orchestrator import registry
from orchestrator.option_types import as_written
from orchestrator.spec.json_schema import spec_schema
from orchestrator.spec.reference import SpecSection, sections
from tests.documents import DOCS

PAGE, SCHEMA = DOCS / "spec.md", DOCS / "spec.schema.json"
MARK = "<!-- Below: python -m tests.orchestrator.spec_documents --write -->"
TITLES = {"": "name, seed, baseline"}
GUIDES = {  # where more is said
    "environments": ("environment.md", "rows.md", "rewards.md", "many_turns.md"),
    "curriculum": ("choosing.md",),
    "curriculum.scheduler": ("choosing.md",),
    "curriculum.bandit": ("choosing.md",),
    "objective": ("objectives.md",),
    "sampler": ("samplers.md",),
    "checkpoint": ("running.md",),
    "measure": ("extend.md",),
    "tracker": ("mlflow.md",),
    "ledger": ("ledger.md",),
    "resources": ("running.md",),
}


def documents() -> dict[Path, str]:
    """Write both anew, by the file that keeps them."""
    introduction = PAGE.read_text().partition(MARK)[0]
    schema = json.dumps(spec_schema(), indent=1, ensure_ascii=False)
    return {PAGE: f"{introduction}{MARK}\n\n{reference()}", SCHEMA: schema + "\n"}


def reference() -> str:
    """All sections: an index, then each with an example, its fields, and what can be named in it."""
    every = list(sections().values())
    index = [f"| [{_title(one)}](#{_anchor(one)}) | {one.summary or one.text} |" for one in every]
    lines = ["## All sections", "", "| section | what it says |", "|---|---|", *index, ""]
    for one in every:
        lines += _section(one)
        if one.kind == ENVIRONMENTS.name:
            lines += [line for type_ in registry.listing(one.kind) for line in _environment(type_)]
            lines += ["### The reward of rows", "", *_methods(REWARDS.name)]
    return "\n".join(lines).rstrip() + "\n"


def _section(one: SpecSection) -> Iterator[str]:
    yield from ("#" * (2 + min(one.path.count("."), 1)) + f" {_title(one)}", "", _linked(one.text), "")
    if one.example:
        yield from ("```yaml", one.example.rstrip(), "```", "")
    if one.kind and registry.listing(one.kind):
        yield from _methods(one.kind)
    if one.options:
        if one.default is not None:
            yield from (f"Options of `{one.default}`, which stands here by default:", "")
        yield from _table(one.options, one.path)
    if guides := GUIDES.get(one.path):
        yield from (f"More: {', '.join(f'[{guide}]({guide})' for guide in guides)}.", "")


def _methods(kind: str) -> Iterator[str]:
    yield from (f"| {kind} | what it is; options: `evergreen methods {kind} NAME` |", "|---|---|")
    yield from (f"| `{method.name}` | {_cell(method.summary)} |" for method in registry.listing(kind))
    yield ""


def _environment(method: registry.Method) -> Iterator[str]:
    told = registry.describe(method)
    yield from (f"### environments.NAME of type {method.name}", "", told["text"].partition("\n\n")[0], "")
    yield from _table(told["options"], "")


def _table(options: dict[str, dict[str, Any]], path: str) -> Iterator[str]:
    yield from ("| key | takes | default | meaning |", "|---|---|---|---|")
    for key, option in options.items():
        place = f"{path}.{key}".lstrip(".")
        name = f"[`{key}`](#{_anchor(sections()[place])})" if place in sections() else f"`{key}`"
        default = as_written(option["default"], shorten=True)
        written = default if option["default"] == "required" else f"`{default}`" if default else ""
        takes = "a section" if option["type"].startswith("section ") else option["type"]
        yield f"| {name} | {_cell(takes)} | {_cell(written)} | {_cell(option['meaning'])} |"
    yield ""


def _title(one: SpecSection) -> str:
    return TITLES.get(one.path, one.path)


def _anchor(one: SpecSection) -> str:
    """Name a heading as GitHub does."""
    return "".join(c for c in _title(one).lower().replace(" ", "-") if c.isalnum() or c in "-_")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _linked(text: str) -> str:
    """Make links of the guides that a text names."""
    return re.sub(r"\(docs/([a-z_]+\.md)\)", r"([\1](\1))", text)


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        raise SystemExit(__doc__)
    for path, text in documents().items():
        path.write_text(text)
        print(f"wrote {path}")
