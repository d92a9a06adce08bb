"""What the probes of a run come to against those of the base, under MLflow's names (`plasticity.md` 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean

from store.carryover import geometric_mean, ratio
from store.ledger import Reading
from store.ledger.query_rows import by_key
from store.metrics import metric
from store.tracker.names import TRAINABILITY

KINDS = {"rl": ("rl", "probe_score"), "supervised": ("sft", "probe_loss")}  # its name here, and what it is judged by

Curve = Mapping[int, float]  # step of the copy -> score, or loss


def numbers_of_probes(read: Reading, name: str) -> Mapping[int, Mapping[str, float]]:
    """Give by boundary the level before a copy's first step, and against the base the ratio of what was gained.

    Over the seeds that both have, of one protocol; geometric means of several tasks.
    """
    protocols = {(row.after_stage, row.kind, row.task, row.seed): row.sha256 for row in read.probes(name)}
    curves: dict[tuple[int, str, str, int], dict[int, float]] = {}
    for point in read.probe_points(name):
        if point.kind in KINDS and point.metric == KINDS[point.kind][1] and point.value is not None:
            place = (point.after_stage, point.kind, point.task, point.seed)
            curves.setdefault(place, {})[point.step] = point.value
    levels: dict[tuple[int, str], list[float]] = {}
    ratios: dict[tuple[int, str], list[float | None]] = {}
    for (after, kind, task), places in by_key(curves, lambda place: place[:3]).items():
        paired = [at for at in places if protocols.get((0, kind, task, at[3])) == protocols.get(at)]
        own = _mean([curves[at] for at in paired or places])
        base = _mean([curves[0, kind, task, at[3]] for at in paired if (0, kind, task, at[3]) in curves])
        levels.setdefault((after, kind), []).append(next(iter((own or curves[places[0]]).values())))
        if after and own and base and own.keys() == base.keys():
            floor = metric(KINDS[kind][1]).ratio_floor or 0.0
            sign = metric(KINDS[kind][1]).direction
            ratios.setdefault((after, kind), []).append(ratio(sign * _gain(own), sign * _gain(base), floor))
    found: dict[int, dict[str, float]] = {}
    for (after, kind), values in levels.items():
        numbers = found.setdefault(after, {})
        numbers[f"probe/{KINDS[kind][0]}_level"] = fmean(values)
        if (gained := geometric_mean(ratios.get((after, kind), ()))) is not None:
            numbers[f"probe/{KINDS[kind][0]}_gain_ratio"] = gained
    headline = next((kind for kind in KINDS if any(of == kind for _, of in levels)), "")
    for after, numbers in found.items():
        if (gained := geometric_mean(ratios.get((after, headline), ()))) is not None:
            numbers[TRAINABILITY] = gained
    return found


def _mean(curves: Sequence[Curve]) -> Curve | None:
    """Average curves of the same steps; None: they differ, since a copy diverged, or there are none."""
    if not curves or any(one.keys() != curves[0].keys() for one in curves):
        return None
    return {step: fmean(one[step] for one in curves) for step in curves[0]}


def _gain(curve: Curve) -> float:
    """How far a curve is on average above where it begins."""
    area = sum((b - a) * (curve[a] + curve[b]) / 2 for a, b in pairwise(curve)) / (max(curve) or 1)
    return area - next(iter(curve.values()))
