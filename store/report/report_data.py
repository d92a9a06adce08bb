"""Everything the report is made of, asked of the ledger once. Series come thinned: the database averages in bins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from store import floors, run_summary
from store.kept import on_other_tasks
from store.ledger import Ledger
from store.ledger.queries import Reading
from store.ledger.query_rows import MetricRow
from store.metrics import INTERIM
from store.report.charts import palette
from store.run_summary import Facts

MAX_POINTS = 64  # of a line: a point of noise is no news
MAX_ARM_POINTS = 20_000  # of all arms together: a page of many arms stays small
CURVES = ("accuracy", "entropy_token")  # of training
SLOTS_READ = 4  # kept completions of a category, at most


class Twin:
    """The same run with other settings, as far as it has come, and as far as both measured the same held-out tasks."""

    def __init__(self, read: Reading, name: str, run: str, curve_width: int) -> None:
        self.name = name
        self.boundaries = read.boundaries(name)
        cells = read.matrix(name, "pass_1")
        places = {(cell.environment, cell.after_stage) for cell in cells if cell.environment is not None}
        others = on_other_tasks(read.task_sets(run), read.task_sets(name), places)
        self.accuracy = [cell for cell in cells if (cell.environment, cell.after_stage) not in others]
        self.curves = read.curves(name, CURVES, curve_width)
        self.samplings = read.samplings(name)


class ReportData:
    """A run as its ledger has it: `environments` in the order of the spec, `colours` of theirs as css classes.

    `curve_width` and `arm_width` are the steps averaged into a point; `samples` those of the first and last boundary.
    """

    def __init__(self, ledger: Ledger, folder: Path, name: str) -> None:
        read = ledger.reading
        self.facts: Facts = run_summary.facts(ledger, folder, name)
        self.spec, self.host = read.spec(name), read.host(name)
        self.floors = floors.read(folder)
        self.created_at = read.run(name).created_at
        measured = self.facts["environments"]
        self.environments = list(dict.fromkeys([*measured, *self.spec.get("environments", {})]))
        changes = {
            name: abs(float(measured[name]["accuracy_change"] or 0.0)) if name in measured else 0.0
            for name in self.environments
        }
        ranked = sorted(self.environments, key=lambda name: changes[name], reverse=True)
        self.colours = palette(self.environments, ranked)
        self.boundaries = read.boundaries(name)
        self.accuracy, self.entropy = read.matrices(name, ("pass_1", "entropy_token")).values()
        self.evaluations = _thinned(read.evaluations(name))
        schedule = (self.spec.get("learner") or {}).get("schedule") or {"type": "constant"}
        self.rates = [] if schedule["type"] == "constant" else _thinned(read.series(name, "lr"))
        num_steps, num_arms = self.facts["num_steps"], len(self.facts["arms"])
        self.curve_width = _width(num_steps, MAX_POINTS)
        self.curves = read.curves(name, CURVES, self.curve_width)
        self.samplings = read.samplings(name)
        self.arm_width = _width(num_steps, min(MAX_POINTS, MAX_ARM_POINTS // max(1, num_arms)))
        self.arms = read.arm_curves(name, self.arm_width)
        self.stage_picks = read.stage_picks(name)
        ends = sorted({boundary.after_stage for boundary in (*self.boundaries[:1], *self.boundaries[-1:])})
        self.samples = read.boundary_samples(name, ends, SLOTS_READ) if ends else []
        twin = read.baseline(name)
        self.twin = None if twin is None else Twin(read, twin, name, self.curve_width)

    def between(self, metric: str) -> list[MetricRow]:
        """What evaluations inside stages found of what boundaries call `metric`."""
        return [row for row in self.evaluations if row.metric == INTERIM + metric and row.value is not None]

    def trained(self, stage: int) -> str:
        """Name the environment that a stage trained: nothing before training, "all" in flat mode."""
        named = {row["stage"]: row["environment"] or "all" for row in self.facts["stages"]}
        return str(named.get(stage, ""))

    @property
    def steps(self) -> tuple[int, int]:
        """The steps done before the report begins, and those done by now."""
        starts = [boundary.step for boundary in self.boundaries]
        starts += [stage["start_step"] for stage in self.facts["stages"]]
        return min(starts, default=0), int(self.facts["num_steps"])


def _thinned(rows: Sequence[MetricRow]) -> list[MetricRow]:
    """Keep all rows of every so many of their steps."""
    steps = sorted({row.step for row in rows})
    kept = set(steps[:: max(1, -(-len(steps) // MAX_POINTS))])
    return [row for row in rows if row.step in kept]


def _width(num_steps: int, num_points: int) -> int:
    """How many steps to average into a point: so that the last point averages as many, or nearly."""
    least = max(1, -(-num_steps // num_points))
    return max(range(least, 2 * least + 1), key=lambda width: ((num_steps - 1) % width + 1) / width)
