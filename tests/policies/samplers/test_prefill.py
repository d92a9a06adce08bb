from __future__ import annotations

import torch

from policies.samplers.decode_loop import left_padded


def test_prompts_end_at_one_column_and_count_from_their_first_token() -> None:
    ids, mask, position = left_padded([(5, 6, 7), (8,), (9, 0)], 0, torch.device("cpu"))
    assert ids.tolist() == [[5, 6, 7], [0, 0, 8], [0, 9, 0]]
    assert mask.tolist() == [[True, True, True], [False, False, True], [False, True, True]]
    assert position.tolist() == [[0, 1, 2], [0, 0, 0], [0, 0, 1]]


def test_a_prompt_may_hold_the_padding_token() -> None:
    assert left_padded([(0, 0)], 0, torch.device("cpu")).mask_UK.all()
