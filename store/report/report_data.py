"""Everything the report is made of, asked of the ledger once. Series come thinned: the database averages in bins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store import run_story
from store.ledger import Ledger
from store.ledger.queries import Reading
from store.ledger.query_rows import ArmPoint, BoundaryRow, CellRow, CurvePoint, SampleRow, StagePick
from store.run_story import Facts

MAX_POINTS = 64  # of a line: a point of noise is no news
MAX_ARM_POINTS = 20_000  # of all arms together: a page of many arms stays small
NUM_COLOURS = 8  # for environments; beyond it the rest is grey
SLOTS_READ = 4  # kept completions of a category, at most


@dataclass(frozen=True)
class Twin:
    """The same run with another bandit, as far as it has come."""

    name: str
    bandit: str
    boundaries: Sequence[BoundaryRow]
    accuracy: Sequence[CellRow]
    curves: Sequence[CurvePoint]


@dataclass(frozen=True)
class ReportData:
    """A run as its ledger tells it."""

    story: Facts
    spec: Mapping[str, Any]
    host: Mapping[str, Any]
    created_at: str
    environments: Sequence[str]  # in the order of the spec
    colours: Mapping[str, str]  # environment -> css class
    boundaries: Sequence[BoundaryRow]
    accuracy: Sequence[CellRow]
    entropy: Sequence[CellRow]
    curves: Sequence[CurvePoint]
    curve_width: int  # steps averaged into a point
    arms: Sequence[ArmPoint]
    arm_width: int
    stage_picks: Sequence[StagePick]
    samples: Sequence[SampleRow]  # of the first and of the last boundary
    twin: Twin | None = None

    @property
    def last_boundary(self) -> BoundaryRow | None:
        """The newest one, if it is not the first."""
        return self.boundaries[-1] if len(self.boundaries) > 1 else None

    @property
    def steps(self) -> tuple[int, int]:
        """The steps done before what is told here, and those done by now."""
        starts = [boundary.step for boundary in self.boundaries]
        starts += [stage["start_step"] for stage in self.story["stages"]]
        return min(starts, default=0), int(self.story["num_steps"])


def gather(ledger: Ledger, folder: Path, name: str) -> ReportData:
    """Ask the ledger for everything."""
    read, facts = ledger.reading, run_story.facts(ledger, folder, name)
    spec, boundaries = read.spec(name), read.boundaries(name)
    environments = _environments(spec, facts)
    num_steps = facts["num_steps"]
    curve_width = _width(num_steps, MAX_POINTS)
    arm_width = _width(num_steps, min(MAX_POINTS, MAX_ARM_POINTS // max(1, len(facts["arms"]))))
    ends = sorted({boundary.after_stage for boundary in (*boundaries[:1], *boundaries[-1:])})
    return ReportData(
        story=facts,
        spec=spec,
        host=read.host(name),
        created_at=read.run(name).created_at,
        environments=environments,
        colours=_colours(environments, facts),
        boundaries=boundaries,
        accuracy=read.matrix(name, "pass_1"),
        entropy=read.matrix(name, "entropy_token"),
        curves=read.curves(name, ("accuracy", "entropy_token"), curve_width),
        curve_width=curve_width,
        arms=read.arm_curves(name, arm_width),
        arm_width=arm_width,
        stage_picks=read.stage_picks(name),
        samples=read.boundary_samples(name, ends, SLOTS_READ) if ends else [],
        twin=_twin(read, name, curve_width),
    )


def _twin(read: Reading, run: str, curve_width: int) -> Twin | None:
    """Ask for the run's baseline, if it has one."""
    name = read.baseline(run)
    if name is None:
        return None
    return Twin(
        name,
        read.run(name).bandit,
        read.boundaries(name),
        read.matrix(name, "pass_1"),
        read.curves(name, ("accuracy",), curve_width),
    )


def _width(num_steps: int, num_points: int) -> int:
    """How many steps to average into a point: so that the last point averages as many, or nearly."""
    least = max(1, -(-num_steps // num_points))
    return max(range(least, 2 * least + 1), key=lambda width: ((num_steps - 1) % width + 1) / width)


def _environments(spec: Mapping[str, Any], facts: Facts) -> list[str]:
    measured = facts["environments"]
    return list(dict.fromkeys([*measured, *spec.get("environments", {})]))


def _colours(environments: Sequence[str], facts: Facts) -> dict[str, str]:
    """Give each environment a colour; with more of them than colours, those whose accuracy changed most."""

    def change(name: str) -> float:
        measured = facts["environments"].get(name)
        return abs(float(measured["accuracy_change"] or 0.0)) if measured else 0.0

    chosen = environments
    if len(environments) > NUM_COLOURS:
        chosen = sorted(environments, key=change, reverse=True)[:NUM_COLOURS]
    numbered = {name: f"c{i}" for i, name in enumerate([n for n in environments if n in chosen], start=1)}
    return {name: numbered.get(name, "c0") for name in environments}
