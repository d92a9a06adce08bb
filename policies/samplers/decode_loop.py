"""The decode loop: a batch of rows from one shared prefill to the last stop.

Dimension letters: R rows still in the batch, S all its rows, U unique prompts, K columns of the longest prompt, V
vocabulary, T new tokens.

Who has ended is known on the device. The host asks for it every `LOOK_EVERY` tokens on a GPU, so that it may have that
many tokens under way; in between rows that have ended are played on, and what they write counts for nothing.

What a row draws depends on its own seed and positions only. Whether ended rows stay or leave changes nothing but time:
in a static cache not even the last bit of a log-prob, as long as BLAS sums a row of a matrix the same way however many
rows there are (here up to 640 inputs of a layer; with more, last bits move).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import Cache, DynamicCache

from policies.forward import call, entropy_of, evaluating, require_finite
from policies.policy import Policy
from policies.samplers.contracts import Generation, Prompt, Request, Sampling, Span
from policies.samplers.random_numbers import row_uniforms
from policies.samplers.row_cache import LibraryCache, StaticCache, fits_static_cache
from policies.samplers.token_distribution import draw, log_distribution

COMPACT_AT = 16  # rows that have ended leave the batch once they are one in this many
# Ended rows stay to fill up to this many: for a matrix of few rows (here up to 3) BLAS takes other kernels, and
# the last bits of the rows that go on would depend on who has ended.
FEWEST_ROWS = 8
LOOK_EVERY = 16  # tokens, on a GPU; on a CPU there is nothing to wait for, and rows that have ended leave at once


def decode(
    policy: Policy,
    requests: Sequence[Request],
    sampling: Sampling,
    prefill_tokens: int,
    *,
    compact: bool = True,
    static: bool = True,
    look_every: int | None = None,
) -> list[Generation]:
    """Play one batch of requests, in one forward a token. A prompt is read once for the rows that stand together.

    `compact` and `static` are there to be tested and measured against: without them rows stay to the end, and every
    model is played on the library's growing cache. `look_every`: tokens from one look at who has ended to the next;
    None: what suits the device. Raises `NonFiniteLogits`: the policy has diverged.
    """
    if look_every is None:
        look_every = 1 if policy.device.type == "cpu" else LOOK_EVERY
    with torch.inference_mode(), evaluating(policy.model):
        kind = StaticCache if static and fits_static_cache(policy.model) else LibraryCache
        cache: StaticCache | LibraryCache = kind(policy, requests)
        logits_RV = _prefill(policy, requests, cache, prefill_tokens if cache.takes_parts else None)
        record = RowRecord(requests, policy)
        rows = DecodeRows.of(requests, policy, draws=not sampling.greedy)
        with cache.attending():
            for t in range(len(record.ids_TS)):
                token_R = rows.sample(t, logits_RV, sampling, record)
                if t + 1 == len(record.ids_TS):
                    break
                if (t + 1) % look_every == 0:
                    num_alive = int(rows.alive_R.sum())  # here the host waits for the device
                    if num_alive == 0:
                        break
                    num_rows, num_kept = len(token_R), max(num_alive, FEWEST_ROWS)
                    if compact and COMPACT_AT * (num_rows - num_kept) >= num_rows:
                        kept_R = rows.kept(num_kept)
                        cache.keep(kept_R)
                        rows, token_R = rows.take(kept_R), token_R[kept_R]
                # those of ended rows stay: their next may lie beyond the context
                rows.position_R1 = rows.position_R1 + rows.alive_R[:, None]
                mask = cache.next_column()
                logits_RV = next_logits(policy.model, token_R[:, None], mask, rows.position_R1, cache.past)
        return record.generations()


def _prefill(
    policy: Policy, requests: Sequence[Request], cache: StaticCache | LibraryCache, most_tokens: int | None
) -> Tensor:
    """Read each prompt, and give every row its copy of what was read and of the logits after it."""
    groups = [(prompt, len(list(rows))) for prompt, rows in groupby(r.ids for r in requests)]
    logits = []
    for chunk in chunks(groups, most_tokens):
        prompts, logits_UV = read(policy, [prompt for prompt, _ in chunk], most_tokens)
        group_size_U = torch.tensor([size for _, size in chunk], device=policy.device)
        cache.fill(prompts, group_size_U)
        logits.append(logits_UV.repeat_interleave(group_size_U, dim=0))
    return torch.cat(logits)


class RowRecord:
    """What is kept of every row of a batch: tokens, log-probs and entropies, in the order of the requests."""

    def __init__(self, requests: Sequence[Request], policy: Policy) -> None:
        self.policy, device = policy, policy.device
        shape = max(request.budget for request in requests), len(requests)
        self.ids_TS = torch.zeros(shape, dtype=torch.long, device=device)
        self.lp_TS, self.entropy_TS = torch.zeros(2, *shape, device=device)
        self.length_S = torch.zeros(len(requests), dtype=torch.long, device=device)
        self.stop = torch.tensor(policy.stop_ids, dtype=torch.long, device=device)

    def generations(self) -> list[Generation]:
        """Give every row what it wrote, up to its end."""
        version, lengths = self.policy.version, self.length_S.tolist()
        ids, lp, entropies = (one.T.cpu().numpy() for one in (self.ids_TS, self.lp_TS, self.entropy_TS))
        require_finite([lp[row, :n] for row, n in enumerate(lengths)], version, "that were played")
        return [
            Generation(
                ids=tuple(ids[row, :n].tolist()),
                logprobs=lp[row, :n].copy(),
                entropies=entropies[row, :n].copy(),
                finish="stop" if ids[row, n - 1] in self.policy.stop_ids else "length",
                spans=(Span(version, 0, n),),
            )
            for row, n in enumerate(lengths)
        ]


@dataclass
class DecodeRows:
    """The rows that are still in the batch."""

    slot_R: Tensor  # where a row's tokens are recorded
    budget_R: Tensor  # new tokens, at most
    alive_R: Tensor  # bool, False once a row has ended
    position_R1: Tensor  # of the newest token, counted from the first of the prompt
    uniform_RT: Tensor | None  # float64, one for each new token; None: greedy

    @classmethod
    def of(cls, requests: Sequence[Request], policy: Policy, *, draws: bool) -> DecodeRows:
        """Lay out the rows of requests, in their order, all of them alive."""
        device, budgets = policy.device, [request.budget for request in requests]
        length_R1 = torch.tensor([[len(request.ids)] for request in requests], device=device)
        seeds = [request.seed for request in requests]
        return cls(
            slot_R=torch.arange(len(requests), device=device),
            budget_R=torch.tensor(budgets, device=device),
            alive_R=torch.ones(len(requests), dtype=torch.bool, device=device),
            position_R1=length_R1 - 1,
            uniform_RT=torch.from_numpy(row_uniforms(seeds, max(budgets))).to(device) if draws else None,
        )

    def sample(self, t: int, logits_RV: Tensor, sampling: Sampling, record: RowRecord) -> Tensor:
        """Draw and record token t of every row, and find the rows that end with it, or whose logits are not finite."""
        lp_RV = log_distribution(logits_RV, sampling)
        prob_RV = lp_RV.exp()
        token_R = logits_RV.argmax(-1) if self.uniform_RT is None else draw(prob_RV, self.uniform_RT[:, t])
        lp_R = lp_RV.gather(-1, token_R[:, None])[:, 0]
        record.ids_TS[t, self.slot_R] = token_R
        record.lp_TS[t, self.slot_R] = lp_R
        record.entropy_TS[t, self.slot_R] = entropy_of(lp_RV, prob_RV)
        record.length_S[self.slot_R] += self.alive_R
        has_stopped_R = (token_R[:, None] == record.stop).any(-1)
        is_finite_R = lp_R > -torch.inf  # false for nan too
        self.alive_R = self.alive_R & ~has_stopped_R & (self.budget_R > t + 1) & is_finite_R
        return token_R

    def kept(self, num: int) -> Tensor:
        """Choose so many rows: the first, live ones from behind in the places of those among them that have ended."""
        kept_R = torch.arange(num, device=self.alive_R.device)
        ended_R = (~self.alive_R[:num]).nonzero()[:, 0]
        moved_R = self.alive_R[num:].nonzero()[:, 0] + num
        kept_R[ended_R[: len(moved_R)]] = moved_R
        return kept_R

    def take(self, kept_R: Tensor) -> DecodeRows:
        """Give these rows, in this order."""
        slot_R, budget_R, alive_R = self.slot_R[kept_R], self.budget_R[kept_R], self.alive_R[kept_R]
        uniform_RT = None if self.uniform_RT is None else self.uniform_RT[kept_R]
        return DecodeRows(slot_R, budget_R, alive_R, self.position_R1[kept_R], uniform_RT)


class PromptLayout(NamedTuple):
    """Prompts padded on the left, so that the token after each of them falls into one column."""

    ids_UK: Tensor  # int64, `pad_id` where the mask is False
    mask_UK: Tensor  # bool, True on the prompts' own tokens; padding is read by nothing that counts
    position_UK: Tensor  # int64, counted from each prompt's first token; 0 on padding


def left_padded(prompts: Sequence[Prompt], pad_id: int, device: torch.device) -> PromptLayout:
    """Lay prompts out as a rectangle that ends where they end; without positions padding would be counted."""
    width = max(map(len, prompts))
    ids_UK = [[pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    length_U1 = torch.tensor([[len(prompt)] for prompt in prompts], device=device)
    column_K = torch.arange(width, device=device) - width
    mask_UK = column_K >= -length_U1
    return PromptLayout(torch.tensor(ids_UK, device=device), mask_UK, (column_K + length_U1).clamp_(min=0))


def chunks(groups: Sequence[tuple[Prompt, int]], most_tokens: int | None) -> Iterator[Sequence[tuple[Prompt, int]]]:
    """Cut prompts, each with its number of rows, into chunks of at most so many padded tokens, at least one prompt."""
    start = widest = 0
    for end, (prompt, _) in enumerate(groups):
        widest = max(widest, len(prompt))
        if most_tokens is not None and end > start and (end + 1 - start) * widest > most_tokens:
            yield groups[start:end]
            start, widest = end, len(prompt)
    yield groups[start:]


def read(policy: Policy, prompts: Sequence[Prompt], most_tokens: int | None) -> tuple[Cache, Tensor]:
    """Read prompts, at most so many tokens at a time, into a new cache; give the logits [U, V] after each of them."""
    ids_UK, mask_UK, position_UK = left_padded(prompts, policy.pad_id, policy.device)
    cache = DynamicCache(config=policy.model.config)
    width, is_padded = ids_UK.shape[1], min(map(len, prompts)) < ids_UK.shape[1]
    stride = width if most_tokens is None else max(1, most_tokens // len(prompts))
    for start in range(0, width, stride):
        end = min(start + stride, width)
        mask = mask_UK[:, :end] if is_padded else None
        logits_UV = next_logits(policy.model, ids_UK[:, start:end], mask, position_UK[:, start:end], cache)
    return cache, logits_UV


def next_logits(model: Any, ids: Tensor, mask: Tensor | None, positions: Tensor, cache: Cache) -> Tensor:
    """Feed tokens [rows, columns] behind those of a cache and give the logits [rows, V] after the last."""
    inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "past_key_values": cache}
    logits: Tensor = call(model, **inputs, use_cache=True, logits_to_keep=1).logits[:, -1]
    return logits
