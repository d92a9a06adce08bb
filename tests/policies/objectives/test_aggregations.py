from dataclasses import replace

import pytest
import torch

from policies.objectives import Totals
from policies.objectives.aggregations import AGGREGATIONS
from policies.objectives.parts import Aggregation, PartOptions
from tests.policies.objectives.worked import f64, rows

LOSS_BT = f64([[1, 2, 3], [4, 0, 0]])
MASK_BT = f64([[1, 1, 1], [1, 0, 0]])
TOTALS = Totals(num_tokens=4, num_sequences=2, group_tokens={0: 3, 1: 1})
ROWS = replace(rows([[1] * 3] * 2, [[0.5] * 3] * 2), group_B=torch.tensor([0, 1]))


def weigh(name: str) -> Aggregation:
    made: Aggregation = AGGREGATIONS[name].create(PartOptions())
    return made


WORKED = pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("token_mean", 2.5),
        ("seq_mean_token_mean", 3.0),
        ("seq_mean_token_sum", 5.0),
        ("constant", 1.25),
        ("prompt_mean", 3.0),
    ],
)


@WORKED
def test_losses_of_a_long_and_a_short_answer(name: str, expected: float) -> None:
    """Reference: objectives.md 5."""
    weight_BT = weigh(name)(MASK_BT, ROWS, TOTALS, 4)
    assert float((weight_BT * LOSS_BT).sum()) == pytest.approx(expected)


@WORKED
def test_one_sequence_a_micro_batch_gives_the_same(name: str, expected: float) -> None:
    """Reference: objectives.md 5."""
    parts = [
        weigh(name)(MASK_BT[b : b + 1], replace(ROWS, group_B=ROWS.group_B[b : b + 1]), TOTALS, 4) * LOSS_BT[b : b + 1]
        for b in range(2)
    ]
    assert sum(float(part.sum()) for part in parts) == pytest.approx(expected)


@pytest.mark.parametrize("name", list(AGGREGATIONS))
def test_an_update_without_tokens_weighs_nothing(name: str) -> None:
    weight_BT = weigh(name)(torch.zeros(2, 3), ROWS, Totals(num_tokens=0, num_sequences=0), 4)
    assert weight_BT.tolist() == [[0, 0, 0]] * 2
