"""What a boundary says about the stage before it and about the run so far: `store.carryover` under MLflow's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from store import carryover
from store.carryover import Matrix
from store.metrics import metric

Numbers = Mapping[str, float | None]


def at_boundary(accuracy: Matrix, entropy: Matrix, trained: Sequence[str]) -> Numbers:
    """Compare the boundary after the last of the trained stages with those before it.

    Matrices are keyed by (stage, environment) with row 0 as the base and may hold later rows; `trained` has the
    environment of every stage up to this boundary.
    """
    if not trained:
        return {}
    accuracy, entropy = _up_to(len(trained), accuracy), _up_to(len(trained), entropy)
    return {**_switch(accuracy, entropy, trained), **_summary(accuracy, entropy, trained)}


def _switch(accuracy: Matrix, entropy: Matrix, trained: Sequence[str]) -> Numbers:
    stage, floor = len(trained), _floor()
    carry = carryover.carried(entropy, trained, floor)
    return {
        "switch/entropy_retained": carryover.retained(entropy, trained, floor)[-1],
        "switch/entropy_carry": carry[-1] if carry else None,
        "switch/entropy_unseen": carryover.unseen(entropy, trained, stage, floor),
        "switch/entropy_collateral": carryover.collateral(entropy, trained, stage, floor),
        "switch/gain": carryover.gains(accuracy, trained)[-1],
        "switch/interference": carryover.interference(accuracy, trained)[-1],
    }


def _summary(accuracy: Matrix, entropy: Matrix, trained: Sequence[str]) -> Numbers:
    end, names = len(trained), {name for _, name in entropy}
    ratios = (carryover.ratio(entropy.get((end, e)), entropy.get((0, e)), _floor()) for e in sorted(names))
    return {
        "cl/acc": carryover.average(accuracy, trained),
        "cl/bwt": carryover.backward_transfer(accuracy, trained),
        "cl/fwt": carryover.forward_transfer(accuracy, trained),
        "cl/forgetting": carryover.forgetting(accuracy, trained),
        "cl/zero_shot_gain": carryover.zero_shot_gain(accuracy, trained),
        "final/entropy_ratio": carryover.geometric_mean(ratios),
    }


def _up_to(stage: int, matrix: Matrix) -> Matrix:
    return {key: value for key, value in matrix.items() if key[0] <= stage}


def _floor() -> float:
    return metric("entropy_token").ratio_floor or 0.0
