from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from policies.micro_batches import (
    ELSEWHERE,
    Costs,
    MicroBatch,
    MicroBatcher,
    SharedOpenings,
    mini_batches,
    totals_of,
)
from policies.objectives.padding import pad
from tests.policies.fakes import random_batch, random_trajectories

BATCH = random_batch(50)
GROUPS = pad(random_trajectories(50))


@pytest.mark.parametrize(
    ("groups", "num", "expected"),
    [
        ([5, 5, 2, 2, 9, 9], 1, [[0, 1, 2, 3, 4, 5]]),
        ([5, 5, 2, 2, 9, 9], 2, [[0, 1, 4, 5], [2, 3]]),
        ([5, 5, 2, 2, 9, 9], 3, [[0, 1], [2, 3], [4, 5]]),
        ([5, 5, 2, 2, 9, 9], 7, [[0, 1], [2, 3], [4, 5]]),
        ([1, 0, 1, 0], 2, [[0, 2], [1, 3]]),
    ],
)
def test_mini_batches_hold_whole_groups_in_turn(groups: list[int], num: int, expected: list[list[int]]) -> None:
    assert [part.tolist() for part in mini_batches(torch.tensor(groups), num)] == expected


def test_every_mini_batch_has_its_share_of_what_stands_together() -> None:
    """A stage's groups, then replay, then side groups of other sizes: none is left to one update."""
    counts = {"stage": 24, "replay": 8, "side": 6}
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    group_B = torch.arange(len(kinds)).repeat_interleave(torch.tensor([8] * 32 + [4] * 6))
    parts = [group_B[part].unique().tolist() for part in mini_batches(group_B, 4)]
    assert sorted(group for part in parts for group in part) == list(range(len(kinds)))
    found = [Counter(kinds[group] for group in part) for part in parts]
    for kind, count in counts.items():
        assert {one[kind] for one in found} <= {count // 4, -(-count // 4)}, kind
    assert {one.total() for one in found} == {9, 10}


def test_openings_are_the_prompts_and_what_is_fed_after_them() -> None:
    openings = SharedOpenings.of(GROUPS)
    assert openings.prompt_B.tolist()[-3:] == [0, 0, 0]  # the last group has the prompt of the first
    for b, length in enumerate(GROUPS.length_B.tolist()):
        masked = GROUPS.mask_BT[b, :length].nonzero()[:, 0].tolist()
        assert openings.start_B[b] == masked[0]
        assert openings.start_B[b] + openings.rest_B[b] == masked[-1]


def test_a_row_without_a_masked_token_is_all_prompt() -> None:
    batch = BATCH.take(torch.tensor([3]))
    batch.mask_BT[:] = False
    openings = SharedOpenings.of(batch)
    assert (openings.start_B.tolist(), openings.rest_B.tolist()) == ([int(batch.length_B[0])], [0])


def num_fed(micro: MicroBatch) -> int:
    """Count the tokens of all forwards, from their shapes."""
    assert micro.sharing is not None
    parts = sum(len(part.row_R) * part.num_columns for part in micro.sharing.parts)
    return len(micro.sharing.row_U) * micro.sharing.width + parts


@pytest.mark.parametrize("may_share", [False, True])
@pytest.mark.parametrize("most", [1, 20, 60, 10_000])
def test_micro_batches_fit_and_hold_every_row_once(most: int, may_share: bool) -> None:
    openings = SharedOpenings.of(GROUPS)
    rows = torch.arange(2, 22)
    for costs in (Costs(0, 1.0), Costs(50, 1.5)):
        parts = MicroBatcher(openings, most, costs, may_share).cut(rows)
        assert sorted(torch.cat([part.rows for part in parts]).tolist()) == rows.tolist()
        for part in parts:
            if part.sharing is not None:
                assert part.num_tokens == num_fed(part)
                assert part.num_forwards == 1 + len(part.sharing.parts)
            assert len(part.rows) == 1 or part.num_tokens <= most


def test_whole_rows_are_cut_by_length() -> None:
    openings = SharedOpenings.of(BATCH)
    length_B = openings.start_B + openings.rest_B
    cut = MicroBatcher(openings, 60).cut(torch.arange(24))
    order = torch.cat([micro.rows for micro in cut])
    assert length_B[order].tolist() == sorted(length_B.tolist(), reverse=True)
    assert all(micro.num_tokens == len(micro.rows) * length_B[micro.rows].max() for micro in cut)


def test_a_micro_batch_holds_whole_prompts_where_they_fit() -> None:
    openings = SharedOpenings.of(GROUPS)
    cut = MicroBatcher(openings, 120, Costs(0, 1.0), may_share=True).cut(torch.arange(len(GROUPS.length_B)))
    prompts = [set(openings.prompt_B[micro.rows].tolist()) for micro in cut]
    assert len(cut) > 1
    assert sum(map(len, prompts)) == len(set.union(*prompts))


def test_rows_go_on_from_their_own_prompts_and_those_with_nothing_more_do_not() -> None:
    openings = SharedOpenings.of(GROUPS)
    for micro in MicroBatcher(openings, 10_000, Costs(5, 1.0), may_share=True).cut(torch.arange(len(GROUPS.length_B))):
        sharing = micro.sharing
        assert sharing is not None
        prompt_B, rest_B = openings.prompt_B[micro.rows], openings.rest_B[micro.rows]
        assert prompt_B[sharing.row_U[sharing.prompt_B]].tolist() == prompt_B.tolist()
        assert sorted(torch.cat([part.row_R for part in sharing.parts]).tolist()) == rest_B.nonzero()[0].tolist()
        assert all(rest_B[part.row_R].max() == part.num_columns for part in sharing.parts)
        assert len(sharing.parts) > 1


def test_prompts_are_shared_only_where_it_costs_less() -> None:
    openings = SharedOpenings.of(GROUPS)
    everyone, loners = torch.arange(len(GROUPS.length_B)), torch.tensor([0, 4])
    for rows, costs, shares in (
        (everyone, Costs(10, 1.0), True),
        (everyone, Costs(10_000, 1.0), False),
        (everyone, Costs(10, 10.0), False),
        (loners, Costs(10, 1.0), False),
    ):
        cut = MicroBatcher(openings, 10_000, costs, may_share=True).cut(rows)
        assert [micro.sharing is not None for micro in cut] == [shares]


@pytest.mark.parametrize(
    ("prompt", "answer", "groups", "shares"),
    [(128, 512, 8, False), (1024, 256, 4, True), (2048, 128, 2, True), (512, 64, 8, True)],
)
def test_on_a_gpu_prompts_are_shared_where_that_was_faster(prompt: int, answer: int, groups: int, shares: bool) -> None:
    group_B = np.repeat(np.arange(groups), 8)
    openings = SharedOpenings(group_B, np.full(8 * groups, prompt), np.full(8 * groups, answer - 1))
    cut = MicroBatcher(openings, 16_384, ELSEWHERE, may_share=True).cut(torch.arange(8 * groups))
    assert {micro.sharing is not None for micro in cut} == {shares}


def test_no_rows_make_no_micro_batches() -> None:
    assert MicroBatcher(SharedOpenings.of(BATCH), 10, may_share=True).cut(torch.arange(0)) == []


def test_totals_count_the_whole_update() -> None:
    mask_BT = torch.tensor([[0, 1, 1], [0, 0, 0], [0, 0, 1]]).bool()
    own = BATCH.take(torch.arange(3))
    some = replace(own, mask_BT=mask_BT, advantage_BT=torch.zeros(3, 3), group_B=torch.tensor([4, 5, 4]))
    totals = totals_of(some, -1.5, {"a": 2.0})
    assert (totals.num_tokens, totals.num_sequences, totals.mean_lp) == (3, 2, -1.5)
    assert totals.group_tokens == {4: 3}
    assert totals.noted == {"a": 2.0}


def test_totals_have_the_mean_signal_of_every_environment() -> None:
    mask_BT = torch.tensor([[0, 1, 1], [0, 0, 0], [0, 0, 1]]).bool()
    advantage_BT = torch.tensor([[0, 0.5, -0.25], [0, 0, 0], [0, 0, 0.1]])
    places = {"arm_B": torch.tensor([0, 1, 2]), "arms": ("a/x", "gone/y", "b/z")}
    totals = totals_of(
        replace(BATCH.take(torch.arange(3)), mask_BT=mask_BT, advantage_BT=advantage_BT, **places), None, {}
    )
    assert totals.signal == pytest.approx(0.85 / 3)
    assert totals.signals == pytest.approx({"a": 0.375, "b": 0.1})
