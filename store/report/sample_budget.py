"""Where the samples went: by stage and environment, by environment and category, by role."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from store.ledger.query_rows import Allocation
from store.report.learning_curves import ramp
from store.report.report_data import ReportData


@dataclass(frozen=True)
class Segment:
    """A part of a bar, in percent of its length."""

    x: float
    width: float
    css: str
    title: str


@dataclass(frozen=True)
class Bar:
    """Samples of a stage or an environment, and how they divide."""

    label: str
    name: str
    total: int
    segments: Sequence[Segment]


@dataclass
class Sums:
    """Sums over some rows of the allocation."""

    main: int = 0
    replay: int = 0
    num_scored: int = 0
    num_correct: int = 0
    key: tuple[str, str] = field(default=("", ""))

    @property
    def total(self) -> int:
        """Samples of both roles."""
        return self.main + self.replay

    @property
    def accuracy(self) -> float | None:
        """Share of scored samples that are correct."""
        return self.num_correct / self.num_scored if self.num_scored else None

    def add(self, row: Allocation) -> None:
        """Take a row in."""
        if row.role == "replay":
            self.replay += row.num_samples
        else:
            self.main += row.num_samples
        self.num_scored += row.num_scored
        self.num_correct += row.num_correct


def allocation(material: ReportData) -> list[Allocation]:
    """The allocation as the ledger has it."""
    return [Allocation(**row) for row in material.story["allocation"]]


def by_category(material: ReportData) -> list[Sums]:
    """Sum every category up, over all stages."""
    sums: dict[tuple[str, str], Sums] = {}
    for row in allocation(material):
        key = (row.environment, row.category)
        sums.setdefault(key, Sums(key=key)).add(row)
    return list(sums.values())


def stage_bars(material: ReportData) -> list[Bar]:
    """One bar a stage, divided by environment; replay is paler."""
    stages = {stage["stage"]: stage["environment"] or "all" for stage in material.story["stages"]}
    sums: dict[int, dict[str, Sums]] = {stage: {} for stage in stages}
    for row in allocation(material):
        sums.setdefault(row.stage, {}).setdefault(row.environment, Sums()).add(row)
    bars = []
    for stage, of in sums.items():
        total = sum(one.total for one in of.values())
        parts = [
            (count, f"{material.colours.get(name, 'c0')} {role}", f"{name}, {role}: {count:,} samples")
            for role in ("main", "replay")
            for name, one in of.items()
            if (count := getattr(one, role))
        ]
        bars.append(Bar(str(stage), stages.get(stage, ""), total, _segments(parts, total)))
    return bars


def environment_bars(material: ReportData) -> list[Bar]:
    """One bar an environment, divided by category."""
    bars = []
    sums = by_category(material)
    for name in material.environments:
        own = [one for one in sums if one.key[0] == name]
        total = sum(one.total for one in own)
        colours = ramp([one.key[1] for one in own], {one.key[1]: one.total for one in own})
        parts = [
            (one.total, colours[one.key[1]], f"{one.key[1]}: {one.total:,} samples, {one.total / total:.0%}")
            for one in own
        ]
        bars.append(Bar("", name, total, _segments(parts, total)))
    return bars


def _segments(parts: Sequence[tuple[int, str, str]], total: int) -> list[Segment]:
    made, x = [], 0.0
    for count, css, title in parts:
        width = 100 * count / total
        made.append(Segment(x, width, css, title))
        x += width
    return made
