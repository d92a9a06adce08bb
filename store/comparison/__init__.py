"""Runs compared: which setting is better, by how much, and whether there are enough seeds to tell.

runs.py         finding and refusing runs, what makes a setting
scores.py       what runs can be compared on, settings over their seeds, pairs
matrices.py     means and differences of matrices     statistics.py  every formula, on plain numbers
result.py       all the facts                         sentences.py   the facts in words
curves.py  page.py   one HTML page
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from store.comparison.result import Comparison, ComparisonRequest, compare
from store.files import write_text
from store.ledger.queries import Reading

__all__ = ["Comparison", "ComparisonRequest", "compare", "facts", "file_name", "write"]

LONGEST_SLUG = 80  # characters of a file's name


def facts(comparison: Comparison) -> dict[str, Any]:
    """Tell a comparison to a program: plain data, the verdicts also in words."""
    from store.comparison import sentences

    plain = asdict(comparison)
    for pair, row in zip(comparison.pairs, plain["pairs"], strict=True):
        row["in_words"] = sentences.sentence(pair)
    return {**plain, "standing": sentences.how_registered(comparison)}


def file_name(name: str, metric: str | None = None) -> str:
    """Name the page of a comparison, where only its folder is given; `metric`: it is not by what its study registered.

    A name that a file's cannot tell from others, as one of other letters, has a hash with it.
    """
    slug = re.sub(r"[^a-z0-9_.]+", "-", name.lower()).strip("-")
    if len(slug) > LONGEST_SLUG or not name.isascii():
        slug = f"{slug[:LONGEST_SLUG]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".strip("-")
    return f"comparison-{slug}{'' if metric is None else f'-{metric}'}.html"


def write(reading: Reading, comparison: Comparison, path: Path) -> None:
    """Write a comparison as one HTML page; a reader sees the old page or the new one."""
    from store.comparison.page import render

    write_text(path, render(reading, comparison))
