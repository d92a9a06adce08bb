"""The same arithmetic in plain torch, the forward written out: the least that a step costs. Nothing of Evergreen.

    python -m benchmarks.plain FOLDER CASE

Play: every prompt read once, its keys and values copied to the rows of its group into one block a layer; bare matrices,
one forward a token, rows that have ended dropped when they are an eighth. Update: groups without spread left out, every
prompt read once with gradient, the answers going on from its keys and values in parts of like lengths, GRPO's clipped
surrogate, one AdamW step. It is the floor that the goal "play and update within 1.1 times" is held against; it has no
seeds of its own per row, no entropies, no checks, and fits Qwen2 with as many heads of keys as of queries only.

Dimension letters: U prompts, P tokens of the longest, R rows, A tokens fed, K keys, H heads, D of a head, F features.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, pad, rms_norm, scaled_dot_product_attention, silu
from transformers import Qwen2ForCausalLM

from benchmarks import work
from benchmarks.turns import Turns

MICRO_GROUPS, PART_ROWS = 16, 32
DROP_AT, ROOM = 8, 16  # an eighth of the rows; columns

Keys = tuple[Tensor, Tensor]  # keys, values: each [R, H, K, D]
Remember = Callable[[int, Tensor, Tensor], Keys]  # layer, new keys and values -> all that may be read


class Bare:
    """A Qwen2 model as its matrices; a gradient goes to the model's own."""

    def __init__(self, model: Any) -> None:
        self.body, config = model.model, model.config
        assert config.num_attention_heads == config.num_key_value_heads
        self.heads, self.eps, self.head = config.num_attention_heads, config.rms_norm_eps, model.lm_head.weight
        place = torch.arange(config.max_position_embeddings)[None]
        cos, sin = self.body.rotary_emb(torch.empty(0), place)
        half = sin.shape[-1] // 2
        # the second half of a head is rotated against the first
        self.cos_KD: Tensor = cos[0]
        self.sin_KD = torch.cat([-sin[0, :, :half], sin[0, :, half:]], dim=-1)
        self.layers = []
        for layer in self.body.layers:
            own, mlp = layer.self_attn, layer.mlp
            self.layers.append((layer.input_layernorm.weight, own, layer.post_attention_layernorm.weight, mlp))

    def features(
        self,
        ids_RA: Tensor,
        position_RA: Tensor,
        remember: Remember,
        mask: Tensor | None,
        *,
        is_causal: bool = False,
    ) -> Tensor:
        """Give [R, A, F] after the last norm."""
        x_RAF = self.body.embed_tokens.weight[ids_RA]
        cos, sin = self.cos_KD[position_RA][:, None], self.sin_KD[position_RA][:, None]

        def heads(projection: Any, y_RAF: Tensor) -> Tensor:
            flat: Tensor = linear(y_RAF, projection.weight, projection.bias)
            return flat.view(len(flat), flat.shape[1], self.heads, -1).transpose(1, 2)

        def rotated(y_RHAD: Tensor) -> Tensor:
            return y_RHAD * cos + y_RHAD.roll(y_RHAD.shape[-1] // 2, -1) * sin

        for number, (before, own, after, mlp) in enumerate(self.layers):
            y = rms_norm(x_RAF, before.shape, before, self.eps)
            keys, values = remember(number, rotated(heads(own.k_proj, y)), heads(own.v_proj, y))
            query = rotated(heads(own.q_proj, y))
            if query.shape[2] == 1:  # of one token plain products take half the time of the fused kernel
                score = (query @ keys.mT).mul_(query.shape[-1] ** -0.5)
                read = (score if mask is None else score.add_(mask)).softmax(-1) @ values
            else:
                read = scaled_dot_product_attention(query, keys, values, attn_mask=mask, is_causal=is_causal)
            x_RAF = x_RAF + linear(read.transpose(1, 2).flatten(2), own.o_proj.weight)
            y = rms_norm(x_RAF, after.shape, after, self.eps)
            gated = silu(linear(y, mlp.gate_proj.weight)) * linear(y, mlp.up_proj.weight)
            x_RAF = x_RAF + linear(gated, mlp.down_proj.weight)
        return rms_norm(x_RAF, self.body.norm.weight.shape, self.body.norm.weight, self.eps)

    def read_prompts(self, prompts: Sequence[Sequence[int]]) -> tuple[list[Keys], Tensor]:
        """Read prompts padded on the right: keys and values of each layer, and what predicts the first token [U, F]."""
        width = max(map(len, prompts))
        ids_UP = torch.tensor([[*ids, *[0] * (width - len(ids))] for ids in prompts])
        kept: list[Keys] = []

        def remember(layer: int, keys: Tensor, values: Tensor) -> Keys:
            kept.append((keys, values))
            return keys, values

        features = self.features(ids_UP, torch.arange(width).expand_as(ids_UP), remember, None, is_causal=True)
        return kept, features[torch.arange(len(prompts)), torch.tensor([len(ids) - 1 for ids in prompts])]


@torch.inference_mode()
def play(model: Any, prompts: list[list[int]], lengths: list[int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sample `lengths[row]` tokens for every row; ids and log-probs [B, longest]."""
    bare, num, longest = Bare(model), len(lengths), max(lengths)
    ids_BT, lp_BT = torch.zeros(num, longest, dtype=torch.long), torch.zeros(num, longest)
    kept, first_UF = bare.read_prompts(prompts)
    row = torch.arange(len(prompts)).repeat_interleave(work.GROUP_SIZE)
    width = kept[0][0].shape[2]
    start_R = torch.tensor([len(ids) for ids in prompts])[row]
    memory = [[one[row] for one in both] for both in kept]  # [R, H, K, D], with some columns that are masked still
    score_R11K = torch.where(torch.arange(width) < start_R[:, None], 0.0, -torch.inf)[:, None, None]
    slot_R, length_R, features_RF = torch.arange(num), torch.tensor(lengths), first_UF[row]
    for t in range(longest):
        lp_RV = linear(features_RF, bare.head).log_softmax(-1)
        token_R = torch.multinomial(lp_RV.exp(), 1, generator=generator)[:, 0]
        ids_BT[slot_R, t], lp_BT[slot_R, t] = token_R, lp_RV.gather(-1, token_R[:, None])[:, 0]
        alive_R = length_R > t + 1
        if not alive_R.any():
            break
        if DROP_AT * (~alive_R).sum() >= len(alive_R):
            left = int(alive_R.sum())  # the last of those that go on take the places of those that have ended
            ended, moved = (~alive_R[:left]).nonzero()[:, 0], left + alive_R[left:].nonzero()[:, 0]
            for one in (*(one for block in memory for one in block), slot_R, length_R, token_R, start_R, score_R11K):
                one[ended] = one[moved]
            memory = [[one[:left] for one in block] for block in memory]
            slot_R, length_R, token_R, start_R, score_R11K = (
                one[:left] for one in (slot_R, length_R, token_R, start_R, score_R11K)
            )
        place = width + t
        if t % ROOM == 0:
            memory = [[pad(one, (0, 0, 0, ROOM)) for one in block] for block in memory]
            score_R11K = pad(score_R11K, (0, ROOM), value=-torch.inf)
        score_R11K[..., place] = 0.0

        def remember(
            layer: int, keys: Tensor, values: Tensor, memory: list[list[Tensor]] = memory, place: int = place
        ) -> Keys:
            own_keys, own_values = memory[layer]
            own_keys[:, :, place], own_values[:, :, place] = keys[:, :, 0], values[:, :, 0]
            return own_keys, own_values

        features_RF = bare.features(token_R[:, None], (start_R + t)[:, None], remember, score_R11K)[:, 0]
    return ids_BT, lp_BT


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
    lengths, advantage_B, bare = work.lengths(case, step), advantages(case), Bare(model)
    groups = [g for g in range(len(prompts)) if advantage_B[g * work.GROUP_SIZE] != 0]
    groups.sort(key=lambda g: len(prompts[g]))
    for start in range(0, len(groups), MICRO_GROUPS):
        micro = groups[start : start + MICRO_GROUPS]
        kept, first_UF = bare.read_prompts([prompts[g] for g in micro])
        rows = [(u, g * work.GROUP_SIZE + i) for u, g in enumerate(micro) for i in range(work.GROUP_SIZE)]
        rows.sort(key=lambda place: lengths[place[1]])
        loss = first_UF.new_zeros(())
        for at in range(0, len(rows), PART_ROWS):
            prompt_R = torch.tensor([u for u, _ in rows[at : at + PART_ROWS]])
            row_R = [row for _, row in rows[at : at + PART_ROWS]]
            lp, mask = answered(
                bare,
                kept,
                first_UF,
                prompt_R,
                [len(prompts[g]) for g in micro],
                ids_BT[row_R],
                [lengths[row] for row in row_R],
            )
            ratio, advantage = (lp - lp_BT[row_R, : lp.shape[1]]).exp(), advantage_B[row_R, None]
            gain = torch.minimum(ratio * advantage, ratio.clamp(1 - work.CLIP, 1 + work.CLIP) * advantage)
            loss = loss - ((gain * mask).sum(-1) / mask.sum(-1)).sum() / len(lengths)
        loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), work.LEARNER["clip_norm"])
    adam.step()
    adam.zero_grad()


def answered(
    bare: Bare,
    kept: list[Keys],
    first_UF: Tensor,
    prompt_R: Tensor,
    starts: list[int],
    ids_RT: Tensor,
    lengths: list[int],
) -> tuple[Tensor, Tensor]:
    """Give the log-probs of answers [R, longest of them] and which of them there are."""
    longest, width, start_R = max(lengths), kept[0][0].shape[2], torch.tensor(starts)[prompt_R]
    features = first_UF[prompt_R][:, None]
    if longest > 1:
        column_A, column_K = torch.arange(longest - 1), torch.arange(width)
        causal_AA = column_A[:, None] >= column_A
        prompt_RAK = (column_K < start_R[:, None])[:, None].expand(-1, longest - 1, -1)
        may_read = torch.cat([prompt_RAK, causal_AA.expand(len(lengths), -1, -1)], dim=-1)[:, None]

        def remember(layer: int, keys: Tensor, values: Tensor) -> Keys:
            own_keys, own_values = (one[prompt_R] for one in kept[layer])
            return torch.cat([own_keys, keys], dim=2), torch.cat([own_values, values], dim=2)

        position_RA = start_R[:, None] + column_A
        features = torch.cat(
            [features, bare.features(ids_RT[:, : longest - 1], position_RA, remember, may_read)], dim=1
        )
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    lp_N = linear(features[mask], bare.head).log_softmax(-1).gather(-1, ids_RT[:, :longest][mask][:, None])[:, 0]
    return torch.zeros(mask.shape).masked_scatter(mask, lp_N), mask.float()


def advantages(case: work.Case) -> Tensor:
    """Standardise the rewards within each group, as GRPO does."""
    rewards = [[work.reward(case, g, i) for i in range(work.GROUP_SIZE)] for g in range(work.num_prompts(case))]
    reward_NG = torch.tensor(rewards)
    centred_NG = reward_NG - reward_NG.mean(-1, keepdim=True)
    return (centred_NG / (reward_NG.std(-1, keepdim=True) + 1e-4)).flatten()


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
