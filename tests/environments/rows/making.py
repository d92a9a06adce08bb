"""Small files of rows, and environments made from them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from environments import Environment, EnvironmentSource

Row = Mapping[str, Any]


def sums(n: int, start: int = 0) -> list[dict[str, Any]]:
    """Rows as many data sets have them: question, answer, and something nested to tell them apart by."""
    return [
        {"question": f"What is {i} + 1?", "answer": str(i + 1), "meta": {"level": i % 2 + 1}}
        for i in range(start, start + n)
    ]


def write_jsonl(path: Path, rows: Iterable[Any]) -> Path:
    """One row a line; a text stands as it is, so that a line may be broken."""
    lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass"))
    return path


def write_csv(path: Path, rows: list[Row]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(path: Path, rows: list[Any], **options: Any) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def make(folder: Path, **options: Any) -> Environment:
    """An environment of rows beside a spec in this folder; by default questions and the reward `exact`."""
    given = {"train": "train.jsonl", "reward": "exact", "prompt": "question", **options}
    if "template" in given:
        del given["prompt"]
    return EnvironmentSource("rows", "rows", given, str(folder)).create()


def made(folder: Path, rows: Iterable[Any], **options: Any) -> Environment:
    """The same, from these rows."""
    write_jsonl(folder / "train.jsonl", rows)
    return make(folder, **options)


def questions(environment: Environment, category: str = "all") -> list[str]:
    return [
        environment.task(category, index).messages[-1]["content"] for index in range(environment.size(category) or 0)
    ]
