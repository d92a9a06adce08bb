from __future__ import annotations

import itertools

import pytest

from policies.samplers.contracts import Request
from policies.samplers.transformers import BatchLimits, cut

MANY = 10**9


def requests_of(*rows: tuple[int, int, int]) -> list[Request]:
    """Give a request for each (prompt, length, budget); prompts of one number and length are equal."""
    return [Request((prompt,) * length, 0, budget) for prompt, length, budget in rows]


@pytest.mark.parametrize(
    ("limits", "batches"),
    [
        (BatchLimits(MANY, MANY), [[0, 2, 1, 7, 3, 4, 5, 6]]),
        (BatchLimits(4, MANY), [[0, 2, 1, 7], [3, 4, 5, 6]]),
        (BatchLimits(3, MANY), [[0, 2], [1, 7], [3, 4, 5, 6]]),  # one prompt's rows stay together
        (BatchLimits(MANY, 8), [[0, 2, 1, 7], [3, 4, 5, 6]]),  # a row has two columns
        (BatchLimits(MANY, 7), [[0, 2], [1, 7], [3, 4, 5, 6]]),
        (BatchLimits(MANY, MANY, 2), [[0, 2, 1, 7], [3, 4, 5, 6]]),
        (BatchLimits(1, 1, 1), [[0, 2], [1, 7], [3, 4, 5, 6]]),
    ],
)
def test_rows_are_cut_between_prompts_and_never_through_one(limits: BatchLimits, batches: list[list[int]]) -> None:
    requests = requests_of(*((prompt, 1, 1) for prompt in (1, 2, 1, 3, 3, 3, 3, 2)))
    assert list(cut(requests, limits)) == batches


def test_a_batch_is_as_wide_as_its_longest_prompt_and_its_largest_budget() -> None:
    requests = requests_of((1, 10, 2), (2, 3, 9))
    assert list(cut(requests, BatchLimits(MANY, 38))) == [[0, 1]]  # 2 rows x (10 + 9)
    assert list(cut(requests, BatchLimits(MANY, 37))) == [[0], [1]]


def test_similar_lengths_go_together() -> None:
    requests = requests_of((1, 30, 4), (2, 3, 4), (3, 31, 4), (4, 4, 4))
    assert list(cut(requests, BatchLimits(2, MANY))) == [[1, 3], [0, 2]]


def test_every_row_is_in_one_batch_and_all_batches_fit() -> None:
    requests = requests_of(*((prompt, 1 + prompt % 7, 1 + prompt % 5) for prompt in range(40) for _ in range(4)))
    limits = BatchLimits(24, 200)
    batches = list(cut(requests, limits))
    assert sorted(itertools.chain(*batches)) == list(range(160))
    for rows in batches:
        width = max(len(requests[row].ids) for row in rows) + max(requests[row].budget for row in rows)
        assert len(rows) <= 24
        assert len(rows) * width <= 200
    assert list(cut(requests, limits)) == batches


def test_nothing_is_cut_into_nothing() -> None:
    assert list(cut([], BatchLimits(4, 4))) == []
