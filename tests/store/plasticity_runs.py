"""A made-up run whose plasticity was measured: three environments, six stages with revisits, everything looked at.

Numbers follow from stage and place alone. The probe of words has, over its three seeds, the curves of plasticity.md 3.1
at the end and at the base, so its gain ratio is .651163.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from store.ledger import Ledger, RunHandle
from store.ledger import tables as t
from store.records import (
    CellRecord,
    InterventionRecord,
    ItemRecord,
    MeasurementRecord,
    NetworkRecord,
    ProbePoint,
    ProbeRecord,
)
from tests.store.report.runs import Shape, written

ENVIRONMENTS = ("book", "words", "numbers")
STAGES, STEPS, ITEMS, SAMPLES = 6, 10, 12, 4
PROBED = (0, 3, 6)
SEEDS = (0, 1, 2)
SPREAD = (-0.01, 0.0, 0.01)  # of the seeds, added to what is not the start
NOW, BASE = (0.20, 0.30, 0.40, 0.45, 0.50), (0.10, 0.25, 0.40, 0.50, 0.55)
LOSS = {0: (3.0, 2.6, 2.3, 2.1, 2.0), 3: (3.1, 2.8, 2.55, 2.4, 2.3), 6: (3.3, 3.1, 2.95, 2.85, 2.8)}
CHANCE = 3.5  # the loss of knowing nothing
GAIN_RATIO = 0.651163
COLLAPSE = 0.3  # of the share of dormant units that the last layer has at the end


def looks(after_stage: int) -> dict[str, Any]:
    """What a boundary recorded beside accuracy and entropy."""
    return {
        "cells": [cell for place, name in enumerate(ENVIRONMENTS) for cell in _cells(after_stage, place, name)],
        "items": [item for place, name in enumerate(ENVIRONMENTS) for item in _items(after_stage, place, name)],
        "network": list(_network(after_stage)),
        "probes": [probe for seed in SEEDS for probe in _probes(after_stage, seed)] if after_stage in PROBED else [],
        "measurements": [
            MeasurementRecord("evaluation", 144.0, 2.0),
            MeasurementRecord("network", 96.0, 0.5),
            *([MeasurementRecord("probe_rl_words", 300.0, 4.0)] if after_stage in PROBED else []),
        ],
    }


def plastic(ledger: Ledger, name: str, **changes: Any) -> RunHandle:
    """Write the run, with an intervention after stage 3; `changes` are of its shape."""
    shape = {"environments": ENVIRONMENTS, "stages": STAGES, "steps": STEPS, "more": looks, **changes}
    run = written(ledger, Shape(**shape), name)
    why = "probe_gain_ratio .83 < .9"
    done = InterventionRecord(3, 0, 3 * STEPS, "shrink_perturb", {"keep": 0.9}, why, "before", "after")
    with ledger.reading.engine.begin() as connection:
        row = {**vars(done), "run_id": run.run_id, "created_at": "2026-01-01T00:00:00+00:00"}
        connection.execute(t.intervention.insert(), [row])
    ledger.set_status(run, "finished")
    return run


def _cells(after_stage: int, place: int, name: str) -> list[CellRecord]:
    values = {"entropy_fixed": (1 + place) * 0.85**after_stage, "kl_base": 0.04 * after_stage * (1 + place)}
    if after_stage:
        values["kl_prev"] = 0.05 / after_stage
    cells = [CellRecord(name, None, metric, value, None, 32, 4) for metric, value in values.items()]
    if after_stage == 3:
        again = {"pass_1": 0.2, "entropy_fixed": 0.9 * (1 + place)}
        cells += [CellRecord(name, None, metric, v, 0.02, 8, 4, "intervened") for metric, v in again.items()]
    return cells


def _items(after_stage: int, place: int, name: str) -> list[ItemRecord]:
    """Task k is solved from boundary k / 2 on; every third one is lost at odd boundaries."""
    found = []
    for k in range(ITEMS):
        is_solved = after_stage >= (k + place) / 2 and not (k % 3 == 0 and after_stage % 2)
        correct = SAMPLES if is_solved else k % 2
        found.append(ItemRecord(name, "easy", f"task {k}", SAMPLES, correct, float(correct), 1.0, 12))
    return found


def _network(after_stage: int) -> Sequence[NetworkRecord]:
    dormant = [COLLAPSE * after_stage / STAGES * (layer + 1) / 4 for layer in range(4)]
    return [
        *(NetworkRecord("dormant_0.025", value, layer) for layer, value in enumerate(dormant)),
        NetworkRecord("dormant_0.025", sum(dormant) / 4),
        *(NetworkRecord("erank", 40 - 3 * after_stage - 4 * layer, layer) for layer in (1, 2, 3)),
        NetworkRecord("weight_norm", 100 + 2.0 * after_stage),
    ]


def _probes(after_stage: int, seed: int) -> list[ProbeRecord]:
    between = [(a + b) / 2 for a, b in zip(NOW, BASE, strict=True)]
    scores = {0: BASE, 3: between, 6: NOW}[after_stage]
    more = SPREAD[seed]
    score = [ProbePoint(5 * i, "probe_score", y + more * (i > 0)) for i, y in enumerate(scores)]
    loss = [ProbePoint(50 * i, "probe_loss", y + more * (i > 0)) for i, y in enumerate(LOSS[after_stage])]
    entropy = [ProbePoint(0, "probe_entropy", 1.0)]
    return [
        ProbeRecord("rl", "words", seed, {"steps": 20}, 1.0, [*score, *entropy]),
        ProbeRecord("supervised", "language", seed, {"steps": 200, "chance": CHANCE}, 1.0, loss),
    ]
