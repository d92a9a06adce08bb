"""RIAC: cuts the box into ever smaller regions, and chooses those in which scores change most, up or down.

    ALP = |mean(older half) - mean(newer half)| over a region's last 200 scores (0 with two or fewer)
    a leaf with more than 200 groups is cut in two: of 50 random cuts the one with the highest n1 n2 |ALP1 - ALP2|
    70 %: a region with probability proportional to its ALP, uniform inside;   20 %: uniform in the box;
    10 %: around the task with the lowest score of a region chosen so, Gaussian of sd .1, clipped to that region

Every cut tried is valid: each part has at least 10 groups and is at least 1 / 15 of the box wide. Cuts are uniform
among those, as if others were drawn again. If there is none, the leaf forgets its oldest quarter.

Source: Baranes & Oudeyer 2009 (not verified), as in the published code of arXiv 1910.07224 without slips of that code:
there n1 n2 is always 4, both parts get the ALP of the last cut tried, a cut that leaves too few groups is drawn again
(for ever, where there is no other) but one that is too narrow counts among the 50.
Scores: in [0, 1]. A region forgets all but its last `region_size` groups. Every region is a candidate, not only the
leaves: where nothing changes in a leaf, its parents may still be worth a visit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.contracts import Floats, proportional
from orchestrator.teachers.contracts import Teacher, TeacherConfig

SOURCE = "arXiv 1910.07224"

LEAST_GROUPS = 20  # a part has a region's size divided by this, at least: 10 of 200
INSIDE = 1e-5  # how far from a region's edges a clipped point lies, so that it is in no other region


class Config(TeacherConfig):
    """Options of RIAC. A group is one task played; a step has several."""

    type: Literal["riac"] = "riac"
    region_size: int = Field(
        200,
        ge=LEAST_GROUPS,
        description="Groups that a region remembers; a leaf with one more is cut in two.",
    )
    cuts: int = Field(50, ge=1, description="Random valid cuts (dimension, threshold) to choose from.")
    least_width: float = Field(1 / 15, gt=0, lt=0.5, description="Least width of a part, of the box's 1.")
    explore: float = Field(0.2, ge=0, le=1, description="Share of points drawn uniformly from the whole box.")
    around_worst: float = Field(0.1, ge=0, le=1, description="Share of points around a region's worst task.")
    spread: float = Field(
        0.1,
        gt=0,
        description="Standard deviation of those around it, of the box's width 1; they are clipped to the region.",
    )
    leaves_only: bool = Field(False, description="Choose among the regions that are not cut any further.")


@dataclass
class Region:
    """A part of the box and its latest groups, oldest first."""

    low: Floats  # [d]
    high: Floats  # [d]
    points: Floats  # [N, d]
    scores: Floats  # [N]
    parts: int | None = None  # index of the first of the two it was cut into, the other follows; None: a leaf

    def __post_init__(self) -> None:
        self.progress = _progress(self.scores)

    def holds(self, point: Floats) -> bool:
        """Whether a point is inside; an upper edge belongs to the next region, unless it is the box's."""
        return bool(((point >= self.low) & ((point < self.high) | (self.high == 1.0))).all())

    def keep(self, points: Floats, scores: Floats) -> None:
        """Replace its groups."""
        self.points, self.scores, self.progress = points, scores, _progress(scores)


class Riac(Teacher):
    def __init__(self, num_dims: int, rng: np.random.Generator, config: Config) -> None:
        super().__init__(num_dims, rng)
        self.config = config
        self.regions = [Region(np.zeros(num_dims), np.ones(num_dims), np.empty((0, num_dims)), np.empty(0))]

    def choose(self, n: int) -> Floats:
        """Draw inside regions, from the whole box, or around the worst tasks."""
        config, d = self.config, self.num_dims
        regions = [region for region in self.regions if region.parts is None or not config.leaves_only]
        worth = np.array([region.progress for region in regions])
        of = [regions[k] for k in proportional(worth if worth.any() else np.ones_like(worth), n, self.rng)]
        low, high = np.array([r.low for r in of]).reshape(n, d), np.array([r.high for r in of]).reshape(n, d)
        mode, place = self.rng.random((n, 1)), self.rng.random((n, d))
        moved = self.rng.standard_normal((n, d))
        worst = [r.points[r.scores.argmin()] if len(r.scores) else p for r, p in zip(of, place, strict=True)]
        around = np.clip(np.array(worst).reshape(n, d) + config.spread * moved, low + INSIDE, high - INSIDE)
        inside = low + (high - low) * place
        chosen: Floats = np.where(mode < config.around_worst, around, inside)
        anywhere = (mode >= config.around_worst) & (mode < config.around_worst + config.explore)
        return np.where(anywhere, place, chosen)

    def learn(self, points: Floats, scores: Floats) -> None:
        """Add groups one by one to every region that holds them; a leaf with too many is cut."""
        size = self.config.region_size
        for point, score in zip(np.asarray(points), np.asarray(scores), strict=True):
            for region in self._around(point):
                most = size if region.parts is not None else size + 1
                region.keep(np.vstack([region.points, point])[-most:], np.append(region.scores, score)[-most:])
            if len(region.scores) > size:  # the last is the leaf
                self._cut(region)

    def state(self) -> dict[str, Any]:
        names = ("low", "high", "points", "scores", "parts")
        regions = [{name: self.plain(getattr(region, name)) for name in names} for region in self.regions]
        return super().state() | {"regions": regions}

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        size = self.config.region_size
        self.regions = [
            Region(
                low=np.array(written["low"]),
                high=np.array(written["high"]),
                points=np.array(written["points"], np.float64).reshape(-1, self.num_dims)[-size:],
                scores=np.array(written["scores"], np.float64)[-size:],
                parts=written["parts"],
            )
            for written in state["regions"]
        ]

    def _around(self, point: Floats) -> Iterator[Region]:
        """The regions that hold a point, from the whole box to the leaf."""
        region = self.regions[0]
        yield region
        while region.parts is not None:
            first, second = self.regions[region.parts : region.parts + 2]
            region = first if first.holds(point) else second
            yield region

    def _cut(self, region: Region) -> None:
        """Cut a leaf where its parts differ most in ALP; one that cannot be cut forgets its oldest quarter."""
        size, num = self.config.region_size, self.config.cuts
        low, high = self._valid_thresholds(region)
        width = np.maximum(high - low, 0.0)
        if not width.any():
            region.keep(region.points[size // 4 :], region.scores[size // 4 :])
            return
        dims = proportional(width / (region.high - region.low), num, self.rng)
        thresholds = high[dims] - self.rng.random(num) * width[dims]
        cuts = list(zip(dims.tolist(), thresholds.tolist(), strict=True))
        best = max(cuts, key=lambda cut: _difference(region, *cut))
        region.parts = len(self.regions)
        self.regions += _parts(region, *best)
        region.keep(region.points[-size:], region.scores[-size:])

    def _valid_thresholds(self, region: Region) -> tuple[Floats, Floats]:
        """Lowest (exclusive) and highest threshold of each dimension that leave both parts large enough, [d] each."""
        least = math.ceil(self.config.region_size / LEAST_GROUPS)
        along = np.sort(region.points, axis=0)
        low = np.maximum(along[least - 1], region.low + self.config.least_width)
        high = np.minimum(along[-least], region.high - self.config.least_width)
        return low, high


def _difference(region: Region, dim: int, threshold: float) -> float:
    """n1 n2 |ALP1 - ALP2| of a cut."""
    is_below = region.points[:, dim] < threshold
    below, above = region.scores[is_below], region.scores[~is_below]
    return len(below) * len(above) * abs(_progress(below) - _progress(above))


def _parts(region: Region, dim: int, threshold: float) -> list[Region]:
    """The two parts of a cut."""
    is_below = region.points[:, dim] < threshold
    middle_high, middle_low = region.high.copy(), region.low.copy()
    middle_high[dim] = middle_low[dim] = threshold
    return [
        Region(region.low.copy(), middle_high, region.points[is_below], region.scores[is_below]),
        Region(middle_low, region.high.copy(), region.points[~is_below], region.scores[~is_below]),
    ]


def _progress(scores: Floats) -> float:
    """ALP of scores, oldest first."""
    half = len(scores) // 2
    return abs(float(scores[:-half].mean() - scores[-half:].mean())) if len(scores) > 2 else 0.0


def create(config: Config, num_dims: int, rng: np.random.Generator) -> Riac:
    return Riac(num_dims, rng, config)
