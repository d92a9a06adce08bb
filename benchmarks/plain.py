"""The same arithmetic in plain torch: what a step must cost at least with the library's forward. Nothing of Evergreen.

    python -m benchmarks.plain FOLDER CASE

Play: every prompt read once, its keys and values copied to the rows of its group into one block a layer, one forward a
token, rows that have ended dropped when they are an eighth. Update: groups without spread left out, rows sorted by
length, GRPO's clipped surrogate over micro-batches padded on the right, one AdamW step. It is the floor that the goal
"play and update within 1.1 times" is held against; it has no seeds of its own per row, no entropies, no checks.

Dimension letters: U prompts, R rows still in play, B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, Qwen2ForCausalLM
from transformers.cache_utils import CacheLayerMixin

from benchmarks import work
from benchmarks.turns import Turns

MICRO_ROWS = 64
DROP_AT = 8


class Block(CacheLayerMixin):
    """Keys and values of one layer in one piece of memory; `end` columns of it are in use."""

    is_sliding = False

    def __init__(self, keys_URKD: Tensor, values: Tensor, room: int) -> None:
        super().__init__()
        rows, heads, self.end, width = keys_URKD.shape
        self.keys = keys_URKD.new_empty(rows, heads, self.end + room, width)
        self.values = torch.empty_like(self.keys)
        self.keys[:, :, : self.end], self.values[:, :, : self.end] = keys_URKD, values
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        raise AssertionError("it is made full")

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        self.keys[:, :, self.end : self.end + 1] = key_states
        self.values[:, :, self.end : self.end + 1] = value_states
        self.end += 1
        return self.keys[:, :, : self.end], self.values[:, :, : self.end]

    def keep(self, rows: Tensor) -> None:
        self.keys, self.values = self.keys[rows], self.values[rows]

    def get_seq_length(self) -> int:
        return int(self.end)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.end + query_length, 0

    def get_max_length(self) -> int:
        return int(self.keys.shape[2])


@torch.inference_mode()
def play(model: Any, prompts: list[list[int]], lengths: list[int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sample `lengths[row]` tokens for every row; ids and log-probs [B, longest]."""
    num, longest = len(lengths), max(lengths)
    cache, mask_RK, position_R, logits_RV = prefill(model, prompts, longest)
    ids_BT, lp_BT = torch.zeros(num, longest, dtype=torch.long), torch.zeros(num, longest)
    slot_R, length_R = torch.arange(num), torch.tensor(lengths)
    for t in range(longest):
        lp_RV = logits_RV.log_softmax(-1)
        token_R = torch.multinomial(lp_RV.exp(), 1, generator=generator)[:, 0]
        ids_BT[slot_R, t], lp_BT[slot_R, t] = token_R, lp_RV.gather(-1, token_R[:, None])[:, 0]
        alive_R = length_R > t + 1
        if not alive_R.any():
            break
        if DROP_AT * (~alive_R).sum() >= len(alive_R):
            kept = alive_R.nonzero()[:, 0]
            for layer in cache.layers:
                layer.keep(kept)
            slot_R, length_R, token_R = slot_R[kept], length_R[kept], token_R[kept]
            position_R = position_R[kept]
            mask_RK = None if mask_RK is None else mask_RK[kept]
        position_R = position_R + 1
        logits_RV = model(
            input_ids=token_R[:, None],
            attention_mask=None if mask_RK is None else mask_RK[:, : cache.layers[0].end + 1],
            position_ids=position_R[:, None],
            past_key_values=cache,
        ).logits[:, -1]
    return ids_BT, lp_BT


def prefill(model: Any, prompts: list[list[int]], room: int) -> tuple[Cache, Tensor | None, Tensor, Tensor]:
    """Read each prompt once, and give every row of its group a copy: cache, mask with room, last position, logits."""
    width = max(map(len, prompts))
    ids_UK = torch.tensor([[0] * (width - len(ids)) + ids for ids in prompts])
    mask_UK = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts])
    is_padded = not bool(mask_UK.all())  # without a mask the library's attention is a little faster
    position_UK = (mask_UK.cumsum(-1) - 1).clamp(min=0)
    read = DynamicCache()
    logits_UV = model(
        input_ids=ids_UK,
        attention_mask=mask_UK if is_padded else None,
        position_ids=position_UK,
        past_key_values=read,
        logits_to_keep=1,
    ).logits[:, -1]
    row = torch.arange(len(prompts)).repeat_interleave(work.GROUP_SIZE)
    cache = Cache(layers=[Block(layer.keys[row], layer.values[row], room) for layer in read.layers])
    mask_RK = torch.cat([mask_UK[row], mask_UK.new_ones(len(row), room)], dim=1) if is_padded else None
    return cache, mask_RK, position_UK[row, -1], logits_UV[row]


def update(
    model: Any,
    adam: torch.optim.Optimizer,
    prompts: list[list[int]],
    ids_BT: Tensor,
    lp_BT: Tensor,
    case: work.Case,
    step: int,
) -> None:
    """Do one GRPO update: every sequence alike, clipped ratios, the gradient shortened to norm 1."""
    lengths = work.lengths(case, step)
    advantage_B = advantages(case)
    rows = [row for row in range(len(lengths)) if advantage_B[row] != 0]
    rows.sort(key=lambda row: len(prompts[row // work.GROUP_SIZE]) + lengths[row])
    for start in range(0, len(rows), MICRO_ROWS):
        micro = rows[start : start + MICRO_ROWS]
        ids, mask, old = padded(micro, prompts, ids_BT, lp_BT, lengths)
        first = int(mask.any(0).nonzero()[0, 0])
        logits = model(input_ids=ids[:, :-1], logits_to_keep=ids.shape[1] - first, use_cache=False).logits
        lp = logits.log_softmax(-1).gather(-1, ids[:, first:, None])[..., 0]
        ratio, advantage = (lp - old[:, first:]).exp(), advantage_B[micro, None]
        gain = torch.minimum(ratio * advantage, ratio.clamp(1 - work.CLIP, 1 + work.CLIP) * advantage)
        mask = mask[:, first:]
        (-((gain * mask).sum(-1) / mask.sum(-1)).sum() / len(lengths)).backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), work.LEARNER["clip_norm"])
    adam.step()
    adam.zero_grad()


def advantages(case: work.Case) -> Tensor:
    """Standardise the rewards within each group, as GRPO does."""
    rewards = [[work.reward(case, g, i) for i in range(work.GROUP_SIZE)] for g in range(work.NUM_PROMPTS)]
    reward_NG = torch.tensor(rewards)
    centred_NG = reward_NG - reward_NG.mean(-1, keepdim=True)
    return (centred_NG / (reward_NG.std(-1, keepdim=True) + 1e-4)).flatten()


def padded(
    rows: list[int], prompts: list[list[int]], ids_BT: Tensor, lp_BT: Tensor, lengths: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Lay rows out side by side: ids, mask of what was sampled, log-probs it was sampled with."""
    starts = [len(prompts[row // work.GROUP_SIZE]) for row in rows]
    width = max(start + lengths[row] for start, row in zip(starts, rows, strict=True))
    ids, mask, old = (
        torch.zeros(len(rows), width, dtype=torch.long),
        torch.zeros(len(rows), width),
        torch.zeros(len(rows), width),
    )
    for i, (start, row) in enumerate(zip(starts, rows, strict=True)):
        end = start + lengths[row]
        ids[i, :start] = torch.tensor(prompts[row // work.GROUP_SIZE])
        ids[i, start:end], mask[i, start:end], old[i, start:end] = (
            ids_BT[row, : lengths[row]],
            1.0,
            lp_BT[row, : lengths[row]],
        )
    return ids, mask, old


def main(folder: str, case: work.Case) -> None:
    torch.set_num_threads(1)
    model = Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    adam = torch.optim.AdamW(
        model.parameters(), work.LEARNER["lr"], betas=work.LEARNER["betas"], weight_decay=0, fused=True
    )
    turns, generator, step = Turns(), torch.Generator().manual_seed(0), 0
    turns.begin()
    while True:
        prompts = work.prompts(case, step)
        with turns.timing("generate"):
            ids_BT, lp_BT = play(model, prompts, work.lengths(case, step), generator)
        with turns.timing("update"):
            update(model, adam, prompts, ids_BT.clone(), lp_BT.clone(), case, step)
        step += 1
        turns.step_done(work.num_tokens(case, step - 1))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])  # type: ignore[arg-type]
