"""Numbers of plasticity.md that no run is told, held to what the reference says of their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

R = np.array([[0.10, 0.20, 0.15], [0.60, 0.25, 0.20], [0.50, 0.70, 0.30], [0.45, 0.60, 0.80]])  # 5.2, row 0: the base
ALONE = np.array([0.60, 0.75, 0.78])
LEARNT = np.diag(R[1:])


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        ("intransigence", float(np.mean(ALONE - LEARNT))),
        ("learning accuracy", float(np.mean(LEARNT))),
        ("average incremental accuracy", float(np.mean([R[i, :i].mean() for i in (1, 2, 3)]))),
        ("BWT as GEM's code has it", float(np.sum(R[3] - LEARNT)) / 3),
        ("FWT as GEM's code has it", float(R[1, 1] - R[0, 1] + R[2, 2] - R[0, 2]) / 3),
        ("forgetting of Continual World", float(np.mean(LEARNT - R[3]))),
        ("FWT of the survey", float(np.mean((LEARNT - ALONE)[1:]))),
    ],
)
def test_other_definitions_of_one_pass(of: str, expected: float) -> None:
    said = {
        "intransigence": 0.01,
        "learning accuracy": 0.70,
        "average incremental accuracy": 0.605556,
        "BWT as GEM's code has it": -0.083333,
        "FWT as GEM's code has it": 0.066667,
        "forgetting of Continual World": 0.083333,
        "FWT of the survey": -0.015,
    }
    assert expected == pytest.approx(said[of], abs=1e-5)


def test_the_half_life_of_entropy() -> None:
    assert 100 * math.log(2) / math.log(1.10 / 0.33) == pytest.approx(57.571664, abs=1e-5)
