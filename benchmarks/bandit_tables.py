"""The published tables of bandits in simulated worlds, made again with ours: python -m benchmarks.bandit_tables

Every row of the curricula reference, section 8, with the options it was run with (bandit_tables.yaml), beside the
published numbers. A number is outside (marked !) if it is further from the published one than the table's tolerance,
and than the 95 % interval of a difference of the two means. Exit code 1 if any is, but for rows known to differ
(the data say why). A few minutes on two cores.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from orchestrator.simulation.candidates import make_named, pair_up
from orchestrator.simulation.ranking import RankedValue, TrialJob, run_all, value_of
from orchestrator.simulation.trials import Candidate, Trial, TrialSetting, World
from orchestrator.simulation.worlds import find_world

DATA = Path(__file__).with_suffix(".yaml")
SEEDS = 30


@dataclass(frozen=True)
class Published:
    """A published number."""

    mean: float
    half: float | None  # half its 95 % interval; None: not published

    @classmethod
    def read(cls, raw: float | Sequence[float]) -> Published:
        return cls(float(raw), None) if isinstance(raw, int | float) else cls(*map(float, raw))


@dataclass(frozen=True)
class Found:
    """One number of a row beside the published one."""

    ours: RankedValue
    published: Published
    tolerance: float

    @property
    def difference(self) -> float:
        return self.ours.mean - self.published.mean

    @property
    def is_outside(self) -> bool:
        ours = self.ours.half or 0.0
        theirs = ours if self.published.half is None else self.published.half
        # a published half width of 0 is one below the rounding
        return abs(self.difference) > max(self.tolerance, math.hypot(ours, theirs)) + 1e-9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"seeds 0 to N - 1; published: {SEEDS}")
    parser.add_argument("--table", action="append", help="only tables of this world, such as skills; repeatable")
    parser.add_argument("--workers", type=int, help="processes; default one a core")
    parser.add_argument("--markdown", type=Path, help="also write the tables to this file")
    given = parser.parse_args()
    if given.seeds < 2:
        parser.error("--seeds: an interval needs at least 2")
    tables = [table for table in read_tables() if not given.table or table["world"] in given.table]
    if not tables:
        parser.error(f"--table: there are {', '.join(table['world'] for table in read_tables())}")
    begun = time.perf_counter()
    found = compare(tables, range(given.seeds), given.workers)
    texts = [in_markdown(table, rows, given.seeds) for table, rows in zip(tables, found, strict=True)]
    print("\n\n".join(texts))
    outside, known, fitted, number = count(tables, found)
    print(f"\n{number} numbers, {outside} outside, {known} more in rows known to differ")
    print(f"{fitted} of them are in rows whose options were fitted to them")
    print(f"{time.perf_counter() - begun:.0f} s", file=sys.stderr)
    if given.markdown:
        given.markdown.write_text("\n\n".join(texts) + "\n")
    sys.exit(1 if outside else 0)


def read_tables() -> list[dict[str, Any]]:
    tables: list[dict[str, Any]] = yaml.safe_load(DATA.read_text())["tables"]
    return tables


def compare(
    tables: Sequence[Mapping[str, Any]], seeds: Sequence[int], num_workers: int | None
) -> list[list[dict[str, Found]]]:
    """Run every row of every table, and put it beside what was published: by table, row and metric."""
    rows = [(find_world(table["world"]), row) for table in tables for row in table["rows"]]
    jobs = [job for world, row in rows for job in jobs_of_row(world, row, seeds)]
    trials = iter(run_all(jobs, num_workers, tell))
    print(file=sys.stderr)
    return [[found_in(table, row, trials, len(seeds)) for row in table["rows"]] for table in tables]


def tell(done: int, of: int) -> None:
    if sys.stderr.isatty() or done == of:
        print(f"\r{done:,} of {of:,} trials", end="", file=sys.stderr, flush=True)


def count(
    tables: Sequence[Mapping[str, Any]], found: Sequence[Sequence[Mapping[str, Found]]]
) -> tuple[int, int, int, int]:
    """Numbers outside, outside in rows known to differ, in rows that were fitted, and all."""
    pairs = [
        (row, one)
        for table, rows in zip(tables, found, strict=True)
        for row, numbers in zip(table["rows"], rows, strict=True)
        for one in numbers.values()
    ]
    known = sum(one.is_outside for row, one in pairs if "differs" in row)
    outside = sum(one.is_outside for _, one in pairs) - known
    return outside, known, sum("fitted" in row for row, _ in pairs), len(pairs)


def jobs_of_row(world: World, row: Mapping[str, Any], seeds: Sequence[int]) -> list[TrialJob]:
    options = {key: row[key] for key in ("replay_share", "stage_signal") if key in row}
    setting = TrialSetting(world.num_steps, **options)
    return [TrialJob(world.name, entrant_of(row), seed, setting) for seed in seeds]


def entrant_of(row: Mapping[str, Any]) -> Candidate:
    where = f"{DATA.name}: {row['policy']}"
    bandit = make_named(row["bandit"], "bandit", where)
    schedulers = [make_named(row["scheduler"], "scheduler", where)] if "scheduler" in row else []
    return pair_up([bandit], schedulers)[0]


def found_in(
    table: Mapping[str, Any], row: Mapping[str, Any], trials: Iterator[Trial], num_seeds: int
) -> dict[str, Found]:
    own = [next(trials) for _ in range(num_seeds)]
    return {
        metric: Found(
            value_of(np.array([trial.numbers[metric] for trial in own])),
            published := Published.read(raw),
            allowed(table["tolerance"][metric], published.mean),
        )
        for metric, raw in row["published"].items()
    }


def allowed(tolerance: float | str, published: float) -> float:
    """A tolerance is a number, or a share of the published one such as `15 %`."""
    if isinstance(tolerance, str):
        return float(tolerance.removesuffix("%")) / 100 * published
    return tolerance


def in_markdown(table: Mapping[str, Any], rows: Sequence[Mapping[str, Found]], num_seeds: int) -> str:
    """A table: each metric as ours ± half a 95 % interval, the published one, and the difference."""
    metrics = {metric.name: metric for metric in find_world(table["world"]).metrics}
    shown = [name for name in metrics if name in table["tolerance"]]
    limits = ", ".join(f"{metrics[name].title} {table['tolerance'][name]}" for name in shown)
    head = ["policy", *(text for name in shown for text in (metrics[name].title, "published", "less"))]
    lines = [f"### {table['name']} (section {table['section']}), {num_seeds} seeds; tolerance {limits}", ""]
    lines += ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for row, found in zip(table["rows"], rows, strict=True):
        cells = [cell for name in shown for cell in cells_of(found.get(name), max(1, metrics[name].digits))]
        lines.append("| " + " | ".join([row["policy"].replace("|", "\\|"), *cells]) + " |")
    notes = [
        f"{row['policy']}: {how}{row[key]}."
        for row in table["rows"]
        for key, how in (("differs", ""), ("fitted", "options fitted to these numbers: "), ("note", ""))
        if key in row
    ]
    return "\n".join([*lines, *("\n" + note for note in notes)])


def cells_of(found: Found | None, digits: int) -> tuple[str, str, str]:
    if found is None:
        return "-", "-", "-"
    half = "" if found.published.half is None else f" ± {found.published.half:.{digits}f}"
    return (
        f"{found.ours.mean:.{digits}f} ± {found.ours.half:.{digits}f}",
        f"{found.published.mean:.{digits}f}{half}",
        f"{found.difference:+.{digits}f}" + (" !" if found.is_outside else ""),
    )


if __name__ == "__main__":
    main()
