"""What the store bears: values a second, runs in a list, steps in a report. One command:

    python -m benchmarks.store                      # all parts; or: writing, listing, report
    python -m benchmarks.store report --steps 100000 --groups 8

Goals: 20,000 values a second where every step is a transaction of its own; 1,000 runs of 200 steps listed in under 1 s,
by the queries of `evergreen ls`; the report of a run of 10,000 steps in under 5 s, of 100,000 in under 15 s.

All is on SQLite in a temporary folder, written as a run writes it. What is repeated is told by its least time, beside
it the CPU time of this process: neighbours lengthen the first more than the second. Long runs and many runs are copies
of what was written step by step, made inside the database, since only reading them is measured.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from store import report
from store.courses import courses
from store.ledger import Ledger, RunHandle
from store.ledger import tables as t
from store.ledger.history import copy_history
from store.records import (
    ArmRecord,
    BoundaryRecord,
    CategoryRecord,
    CellRecord,
    EnvironmentRecord,
    GroupRecord,
    HoldoutRecord,
    MetricRecord,
    PickRecord,
    RunRecord,
    StageRecord,
    StepRecord,
)

ENVIRONMENTS = ("book", "numbers", "words")
CATEGORIES = ("a", "b", "c", "d")
SAMPLES = 8  # of a group
WHOLE = ("reward", "accuracy", "signal", "loss", "grad_norm", "lr", "entropy_token", "response_len", "kl_ref")
TIMES = ("seconds_draw", "seconds_play", "seconds_score", "seconds_update", "seconds_other")
OF_EACH = ("reward", "accuracy", "signal", "entropy_token", "zero_var_groups")


@dataclass(frozen=True)
class Timing:
    """The least of several times, in seconds, by the clock and of this process alone."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:.2f} s ({self.cpu:.2f} s of CPU)"


def timed(work: Callable[[], object], times: int) -> Timing:
    """Do something several times."""
    found = []
    for _ in range(times):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        found.append((time.perf_counter() - wall, time.process_time() - cpu))
    return Timing(min(wall for wall, _ in found), min(cpu for _, cpu in found))


# --- a run as runs are -----------------------------------------------------------------------------------


def begin(ledger: Ledger, name: str) -> RunHandle:
    """Start a run of three environments with four categories each."""
    environments = [
        EnvironmentRecord(e, "rows", "1", False, {}, [CategoryRecord(c, True, {}) for c in CATEGORIES])
        for e in ENVIRONMENTS
    ]
    spec = {
        "name": name,
        "environments": {e: {"type": "rows"} for e in ENVIRONMENTS},
        "objective": {"preset": "repo_r", "reward": "correct"},
        "curriculum": {"stages": 8, "stage": {"steps": 25}},
    }
    run = ledger.start_run(RunRecord(f"uid {name}", name, 0, "tiny", "repo_r", "sequence", "sec", spec, environments))
    arms = [(environment, category) for environment in ENVIRONMENTS for category in CATEGORIES]
    ledger.record_holdouts(run, [HoldoutRecord(*arm, "anchor", " ".join(arm), 64) for arm in arms])
    return run


def step_of(number: int, stage: int, stage_step: int, groups: int) -> StepRecord:
    """Make a step on a stage's environment: 39 values, and the groups with their picks."""
    environment = ENVIRONMENTS[stage % len(ENVIRONMENTS)]
    slots = [(slot, CATEGORIES[slot % len(CATEGORIES)]) for slot in range(groups)]
    return StepRecord(
        number,
        stage,
        stage_step,
        seconds=0.25,
        num_tokens=64 * groups,
        num_samples=SAMPLES * groups,
        picks=[PickRecord(slot, "category", "main", environment, of, 0.25, 0.1) for slot, of in slots],
        groups=[_group(number, slot, environment, of) for slot, of in slots],
        metrics=list(_metrics(number, environment)),
        arms=[ArmRecord(environment, of, 0.25, 0.1, number) for of in CATEGORIES],
    )


def _group(step: int, slot: int, environment: str, category: str) -> GroupRecord:
    correct = [(step + slot + sample) % 3 == 0 for sample in range(SAMPLES)]
    values = [float(one) for one in correct]
    reasons: list[str | None] = [None] * SAMPLES
    key, ends = f"{step:08}{slot:08}" * 4, ["stop"] * SAMPLES
    lists = (values, correct, reasons, [step] * SAMPLES, [8] * SAMPLES, ends)
    return GroupRecord(slot, environment, category, key, step, "main", *lists)


def _metrics(step: int, environment: str) -> Iterator[MetricRecord]:
    for name in (*WHOLE, *TIMES):
        yield MetricRecord(name, 1 / (1 + step % 97))
    for name in OF_EACH:
        for category in (None, *CATEGORIES):
            yield MetricRecord(name, 1 / (2 + step % 89), environment, category, 64)


def boundary(after_stage: int, step: int) -> BoundaryRecord:
    """Make a boundary: accuracy and entropy of all environments and categories."""
    cells = [
        CellRecord(environment, category, metric, (1 + after_stage % 7) / 10, 0.01, 64, 4)
        for environment in ENVIRONMENTS
        for category in (None, *CATEGORIES)
        for metric in ("pass_1", "pass_4", "entropy_token")
    ]
    return BoundaryRecord(after_stage, step, 1.0, {"temperature": 1.0}, cells, stop_reason="budget", signal=0.1)


def write_run(ledger: Ledger, name: str, stages: int, steps: int, groups: int) -> RunHandle:
    """Write a run, a transaction a step."""
    run = begin(ledger, name)
    ledger.record_boundary(run, boundary(0, 0))
    for stage in range(1, stages + 1):
        environment, start = ENVIRONMENTS[stage % len(ENVIRONMENTS)], (stage - 1) * steps
        pick = PickRecord(0, "scheduler", "main", environment, environment, 1.0)
        ledger.start_stage(run, StageRecord(stage, environment, start, steps, 0.0, pick))
        for step in range(1, steps + 1):
            ledger.record_step(run, step_of(start + step, stage, step, groups))
        ledger.record_boundary(run, boundary(stage, stage * steps))
    return run


# --- the parts -------------------------------------------------------------------------------------------


def writing(folder: Path, num_steps: int = 50, times: int = 20) -> None:
    """Steps of 100 values and nothing else, then whole steps of 32 groups."""
    with Ledger.open(f"sqlite:///{folder / 'writing.db'}") as ledger:
        run, done = begin(ledger, "values"), 0
        of_each = [(e, c) for e in ENVIRONMENTS for c in (None, *CATEGORIES)]
        keys = [(None, None), *of_each]
        names = [(name, *key) for name in (*OF_EACH, "response_len", "truncated_frac") for key in keys][:100]

        def values() -> None:
            nonlocal done
            for _ in range(num_steps):
                done += 1
                metrics = [MetricRecord(name, 1 / done, e, c) for name, e, c in names]
                ledger.record_step(run, StepRecord(done, 1, done, 0.1, 0, 0, [], [], [], metrics, [], []))

        def whole() -> None:
            nonlocal done
            for _ in range(num_steps):
                done += 1
                ledger.record_step(run, step_of(done, 1, done, 32))

        took = timed(values, times)
        rate, on_cpu = (num_steps * len(names) / one for one in (took.wall, took.cpu))
        print(f"writing: {len(names)} values a step in {1000 * took.wall / num_steps:.1f} ms", end=": ")
        print(f"{rate:,.0f} values a second, {on_cpu:,.0f} a second of CPU  goal 20,000")
        took = timed(whole, times)
        rows = 1 + 39 + 4 + 2 * 32
        print(f"  a whole step, 32 groups of {SAMPLES} and 39 values: {1000 * took.wall / num_steps:.1f} ms", end=" ")
        print(f"({1000 * took.cpu / num_steps:.1f} ms of CPU), {rows * num_steps / took.wall:,.0f} rows a second")


def listing(folder: Path, num_runs: int = 1000, times: int = 5) -> None:
    """Runs of 8 stages of 25 steps with 4 groups each."""
    with Ledger.open(f"sqlite:///{folder / 'listing.db'}") as ledger:
        first = write_run(ledger, "run-0", 8, 25, 4)
        for number in range(1, num_runs):
            copy = begin(ledger, f"run-{number}")
            with ledger.engine.begin() as connection:
                copy_history(connection, first.run_id, copy.run_id)
        size = (folder / "listing.db").stat().st_size / 1e6

        def look() -> None:
            assert len(courses(ledger.reading)) == num_runs
            ledger.reading.studies()

        print(f"listing: {num_runs:,} runs of 200 steps ({size:,.0f} MB): {timed(look, times)}  goal 1 s")


def report_of(folder: Path, num_steps: int, groups: int, times: int = 3) -> None:
    """A run of 40 stages; its first 400 steps are written, the others copies of them."""
    stages, goal = 40, {10_000: 5, 100_000: 15}.get(num_steps)
    path = folder / f"report-{num_steps}.db"
    with Ledger.open(f"sqlite:///{path}") as ledger:
        write_run(ledger, "long", stages, 10, groups)
    stretch(path, 10, num_steps // stages, stages)
    with Ledger.open(f"sqlite:///{path}") as ledger:
        own = folder / "long"
        own.mkdir(exist_ok=True)
        took = timed(lambda: report.write(ledger, own, "long"), times)
        size, page = path.stat().st_size / 1e6, (own / "report.html").stat().st_size / 1e3
        print(f"report: {num_steps:,} steps of {groups} groups ({size:,.0f} MB), {page:,.0f} kB: {took}", end="")
        print(f"  goal {goal} s" if goal else "", flush=True)
    path.unlink()


def stretch(path: Path, short: int, steps: int, stages: int) -> None:
    """Make every stage of `short` steps one of `steps`: its own again and again, moved on; boundaries follow."""
    assert steps % short == 0
    with closing(sqlite3.connect(path)) as database:
        for pragma in ("foreign_keys = OFF", "synchronous = OFF"):
            database.execute(f"PRAGMA {pragma}")
        database.execute("CREATE TEMP TABLE turn (n INTEGER PRIMARY KEY)")
        database.executemany("INSERT INTO turn VALUES (?)", [(n,) for n in range(steps // short)])
        moved = f"(old.step - 1) / {short} * {steps} + turn.n * {short} + (old.step - 1) % {short} + 1"
        new = {"step": moved, "stage_step": f"old.stage_step + turn.n * {short}"}
        for table in (t.step, t.step_metric, t.task_group, t.arm_state, t.pick):
            of_steps = "level <> 'scheduler'" if table is t.pick else "TRUE"
            columns = [column.name for column in table.c]
            chosen = ", ".join(new.get(name, f"old.{name}") for name in columns)
            database.execute(f"CREATE TEMP TABLE old AS SELECT * FROM {table.name} WHERE {of_steps}")
            database.execute(f"DELETE FROM {table.name} WHERE {of_steps}")
            into = f"INSERT INTO {table.name} ({', '.join(columns)})"
            database.execute(f"{into} SELECT {chosen} FROM old CROSS JOIN turn ORDER BY {moved}")
            database.execute("DROP TABLE old")
        database.execute(
            f"UPDATE stage SET num_steps = {steps}, start_step = (stage - 1) * {steps}, end_step = stage * {steps}"
        )
        database.execute(f"UPDATE boundary SET step = after_stage * {steps}")
        database.execute(f"UPDATE pick SET step = (stage - 1) * {steps} WHERE level = 'scheduler'")
        assert database.execute("SELECT COUNT(*) FROM step").fetchone() == (steps * stages,)
        database.commit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("writing", "listing", "report"))
    parser.add_argument("--steps", type=int, help="of the run whose report is made; default: 10,000 and 100,000")
    parser.add_argument("--groups", type=int, default=8, help="of each of its steps")
    parser.add_argument("--times", type=int, default=3, help="how often the report is made")
    options = parser.parse_args()
    print(f"{date.today()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if options.part in (None, "writing"):
            writing(Path(folder))
        if options.part in (None, "listing"):
            listing(Path(folder))
        if options.part in (None, "report"):
            for steps in [options.steps] if options.steps else [10_000, 100_000]:
                report_of(Path(folder), steps, options.groups, options.times)


if __name__ == "__main__":
    main()
