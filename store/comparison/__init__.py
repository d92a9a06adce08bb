"""Runs compared: which setting is better, by how much, and whether there are enough seeds to tell.

measures.py     what runs can be compared on      settings.py    what makes a setting
runs.py         finding them, refusing what cannot be compared
scores.py       settings over their seeds         pairs.py       one test, one interval, one verdict
matrices.py     means and differences of matrices comparison.py  all the facts
statistics.py   every formula, on plain numbers   words.py       the facts as sentences
curves.py  heats.py  page.py   one HTML page
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from store.comparison.result import Comparison, ComparisonRequest, compare
from store.files import write_text
from store.ledger.queries import Reading

__all__ = ["Comparison", "ComparisonRequest", "compare", "facts", "write"]


def facts(comparison: Comparison) -> dict[str, Any]:
    """Tell a comparison to a program: plain data, the verdicts also in words."""
    from store.comparison import sentences

    told = asdict(comparison)
    for pair, plain in zip(comparison.pairs, told["pairs"], strict=True):
        plain["in_words"] = sentences.sentence(pair)
    return {**told, "standing": sentences.how_registered(comparison)}


def write(reading: Reading, comparison: Comparison, path: Path) -> None:
    """Write a comparison as one HTML page; a reader sees the old page or the new one."""
    from store.comparison.page import render

    write_text(path, render(reading, comparison))
