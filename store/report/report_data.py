"""Everything the report is made of, asked of the ledger once. Series come thinned: the database averages in bins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store import run_summary
from store.ledger import Ledger
from store.ledger.query_rows import ArmPoint, Boundary, Cell, CurvePoint, Sample, StagePick
from store.report.charts import palette
from store.run_summary import Facts

MAX_POINTS = 64  # of a line: a point of noise is no news
MAX_ARM_POINTS = 20_000  # of all arms together: a page of many arms stays small
SLOTS_READ = 4  # kept completions of a category, at most


@dataclass(frozen=True)
class Twin:
    """The same run with another bandit, as far as it has come."""

    name: str
    boundaries: Sequence[Boundary]
    accuracy: Sequence[Cell]
    curves: Sequence[CurvePoint]


@dataclass(frozen=True)
class ReportData:
    """A run as its ledger tells it."""

    facts: Facts
    spec: Mapping[str, Any]
    host: Mapping[str, Any]
    created_at: str
    environments: Sequence[str]  # in the order of the spec
    colours: Mapping[str, str]  # environment -> css class
    boundaries: Sequence[Boundary]
    accuracy: Sequence[Cell]
    entropy: Sequence[Cell]
    curves: Sequence[CurvePoint]
    curve_width: int  # steps averaged into a point
    arms: Sequence[ArmPoint]
    arm_width: int
    stage_picks: Sequence[StagePick]
    samples: Sequence[Sample]  # of the first and of the last boundary
    twin: Twin | None = None

    @property
    def last_boundary(self) -> Boundary | None:
        """The newest one, if it is not the first."""
        return self.boundaries[-1] if len(self.boundaries) > 1 else None

    @property
    def steps(self) -> tuple[int, int]:
        """The steps done before what is told here, and those done by now."""
        starts = [boundary.step for boundary in self.boundaries]
        starts += [stage["start_step"] for stage in self.facts["stages"]]
        return min(starts, default=0), int(self.facts["num_steps"])


def gather(ledger: Ledger, folder: Path, name: str) -> ReportData:
    """Ask the ledger for everything."""
    read, facts = ledger.reading, run_summary.facts(ledger, folder, name)
    spec, boundaries = read.spec(name), read.boundaries(name)
    measured = facts["environments"]
    environments = list(dict.fromkeys([*measured, *spec.get("environments", {})]))
    changes = {
        name: abs(float(measured[name]["accuracy_change"] or 0.0)) if name in measured else 0.0
        for name in environments
    }
    num_steps = facts["num_steps"]
    curve_width = _width(num_steps, MAX_POINTS)
    arm_width = _width(num_steps, min(MAX_POINTS, MAX_ARM_POINTS // max(1, len(facts["arms"]))))
    ends = sorted({boundary.after_stage for boundary in (*boundaries[:1], *boundaries[-1:])})
    twin = read.baseline(name)
    return ReportData(
        facts=facts,
        spec=spec,
        host=read.host(name),
        created_at=read.run(name).created_at,
        environments=environments,
        colours=palette(environments, sorted(environments, key=lambda name: changes[name], reverse=True)),
        boundaries=boundaries,
        accuracy=read.matrix(name, "pass_1"),
        entropy=read.matrix(name, "entropy_token"),
        curves=read.curves(name, ("accuracy", "entropy_token"), curve_width),
        curve_width=curve_width,
        arms=read.arm_curves(name, arm_width),
        arm_width=arm_width,
        stage_picks=read.stage_picks(name),
        samples=read.boundary_samples(name, ends, SLOTS_READ) if ends else [],
        twin=None
        if twin is None
        else Twin(
            twin,
            read.boundaries(twin),
            read.matrix(twin, "pass_1"),
            read.curves(twin, ("accuracy",), curve_width),
        ),
    )


def _width(num_steps: int, num_points: int) -> int:
    """How many steps to average into a point: so that the last point averages as many, or nearly."""
    least = max(1, -(-num_steps // num_points))
    return max(range(least, 2 * least + 1), key=lambda width: ((num_steps - 1) % width + 1) / width)
