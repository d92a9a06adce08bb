from __future__ import annotations

import pytest
import torch

from policies.batches import micro_batches, mini_batches, totals_of
from tests.policies.fakes import random_batch

BATCH = random_batch(50)


@pytest.mark.parametrize(
    ("groups", "num", "expected"),
    [
        ([5, 5, 2, 2, 9, 9], 1, [[0, 1, 2, 3, 4, 5]]),
        ([5, 5, 2, 2, 9, 9], 2, [[0, 1], [2, 3, 4, 5]]),
        ([5, 5, 2, 2, 9, 9], 3, [[0, 1], [2, 3], [4, 5]]),
        ([5, 5, 2, 2, 9, 9], 7, [[0, 1], [2, 3], [4, 5]]),
        ([1, 0, 1, 0], 2, [[0, 2], [1, 3]]),
    ],
)
def test_mini_batches_hold_whole_groups_in_order(
    groups: list[int], num: int, expected: list[list[int]]
) -> None:
    assert [part.tolist() for part in mini_batches(torch.tensor(groups), num)] == expected


@pytest.mark.parametrize("most", [1, 20, 40, 10_000])
def test_micro_batches_fit_and_hold_every_row_once(most: int) -> None:
    rows = torch.arange(2, 22)
    parts = micro_batches(BATCH, rows, most)
    assert sorted(torch.cat(parts).tolist()) == rows.tolist()
    for part in parts:
        assert len(part) == 1 or len(part) * int(BATCH.length_B[part].max()) <= most
        assert len({bool(advantage) for advantage in BATCH.advantage_B[part]}) == 1


def test_rows_without_advantage_are_kept_apart() -> None:
    parts = micro_batches(BATCH, torch.arange(24), 10_000)
    assert [bool((BATCH.advantage_B[part] == 0).all()) for part in parts] == [False, True]
    for part in parts:
        assert BATCH.length_B[part].tolist() == sorted(BATCH.length_B[part].tolist(), reverse=True)


def test_totals_count_the_whole_update() -> None:
    mask_BT = torch.tensor([[0, 1, 1], [0, 0, 0], [0, 0, 1]]).bool()
    totals = totals_of(mask_BT, -1.5)
    assert (totals.num_tokens, totals.num_sequences, totals.mean_lp) == (3, 2, -1.5)
