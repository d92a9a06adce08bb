"""The data dictionary beside exported tables: for a person, and for a program."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from store.carryover import OUTCOMES, SWITCHES
from store.export.tables import Table
from store.files import write_text
from store.metrics import METRICS
from store.sentences import num

MARKDOWN, JSON = "DICTIONARY.md", "dictionary.json"


def write_dictionary(
    folder: Path, tables: Sequence[Table], runs: Sequence[str], num_rows: Mapping[str, int]
) -> None:
    """Write what every table, column and metric means."""
    facts = {
        "format": 1,
        "runs": list(runs),
        "tables": {
            table.name: {
                "meaning": table.meaning,
                "row": table.row,
                "num_rows": num_rows[table.name],
                "columns": [asdict(column) for column in table.columns],
            }
            for table in tables
        },
        "carry_over": {one.name: one.meaning for one in (*OUTCOMES, *SWITCHES)},
        "metrics": {
            metric.name: {"unit": metric.unit, "direction": metric.direction, "meaning": metric.meaning}
            for metric in METRICS.values()
        },
    }
    write_text(folder / JSON, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / MARKDOWN, "\n".join(_markdown(facts)) + "\n")


def _markdown(facts: Mapping[str, Any]) -> list[str]:
    lines = [
        "# Data dictionary",
        "",
        f"{num(len(facts['runs']), 'run')}, a table a file, a row an observation. `run` is in every table;",
        "`step`, `slot`, `after_stage` and `task_key` join them. A null is an empty cell in CSV, without quotes.",
        "Types: `time` is ISO-8601 text in UTC, `json` is one JSON value as text.",
    ]
    for name, table in facts["tables"].items():
        lines += [
            "",
            f"## {name}",
            "",
            f"{table['meaning']} A row: {table['row']}. {table['num_rows']:,} rows.",
        ]
        lines += ["", "| column | type | unit | may be null | meaning |", "|---|---|---|---|---|"]
        lines += [
            f"| `{c['name']}` | {c['kind']} | {c['unit']} | {'yes' if c['nullable'] else ''} | {c['meaning']} |"
            for c in table["columns"]
        ]
    lines += ["", "## Numbers of carry-over", "", "| name | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in facts["carry_over"].items()]
    lines += ["", "## Metrics", "", "| metric | unit | better | meaning |", "|---|---|---|---|"]
    better = {1: "higher", 0: "", -1: "lower"}
    lines += [
        f"| `{name}` | {metric['unit']} | {better[metric['direction']]} | {metric['meaning']} |"
        for name, metric in facts["metrics"].items()
    ]
    return lines
