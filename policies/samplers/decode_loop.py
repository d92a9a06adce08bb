"""The decode loop: a batch of rows from one shared prefill to the last stop.

Dimension letters: R rows still in the batch, S all its rows, U unique prompts, V vocabulary, T new tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from policies.forward import evaluating, require_finite
from policies.policy import Policy
from policies.samplers.contracts import Generation, Request, Sampling, Span
from policies.samplers.prefill import chunks, next_logits, read
from policies.samplers.row_cache import LibraryCache, RowCache, StaticCache, fits_static_cache
from policies.samplers.token_distribution import draw, entropy, log_distribution, row_uniforms

COMPACT_AT = 16  # rows that have ended leave the batch once they are one in this many
# Ended rows stay to fill up to this many: for a matrix of few rows (here up to 3) BLAS takes other kernels, and
# the last bits of the rows that go on would depend on who has ended.
FEWEST_ROWS = 8


def decode(
    policy: Policy,
    requests: Sequence[Request],
    sampling: Sampling,
    prefill_tokens: int,
    *,
    compact: bool = True,
    static: bool = True,
) -> list[Generation]:
    """Play one batch of requests, in one forward a token. A prompt is read once for the rows that stand together.

    `compact` and `static` are there to be tested and measured against: without them rows stay to the end, and every
    model is played on the library's growing cache.
    """
    with torch.inference_mode(), evaluating(policy.model):
        cache = (StaticCache if static and fits_static_cache(policy.model) else LibraryCache)(
            policy, requests
        )
        return Decoder(policy, requests, sampling, cache, prefill_tokens, compact=compact).run()


class Decoder:
    """Plays one batch of requests. Used once; call inside `torch.inference_mode`.

    What a row draws depends on its own seed and positions only. Whether ended rows stay or leave changes nothing
    but the time it takes: in a static cache not even the last bit of a log-prob, as long as BLAS sums a row of a
    matrix the same way however many rows there are (here up to 640 inputs of a layer; with more, last bits move).
    """

    def __init__(
        self,
        policy: Policy,
        requests: Sequence[Request],
        sampling: Sampling,
        cache: RowCache,
        prefill_tokens: int,
        *,
        compact: bool,
    ) -> None:
        self.policy, self.requests, self.sampling, self.compact = policy, requests, sampling, compact
        self.cache, self.prefill_tokens = cache, prefill_tokens if cache.takes_parts else None
        self.longest = max(request.budget for request in requests)
        self.rows = DecodeRows.of(requests, policy, draws=not sampling.greedy)
        self.record = RowRecord(len(requests), self.longest, policy.device)
        self.stop = torch.tensor(policy.stop_ids, dtype=torch.long, device=policy.device)

    def run(self) -> list[Generation]:
        """Generate one row a request, in their order."""
        logits_RV = self._prefill()
        with self.cache.attending():
            for t in range(self.longest):
                token_R = self._sample(t, logits_RV)
                num_alive = int(self.rows.alive_R.sum())  # the one wait for the device in a step
                if num_alive == 0:
                    break
                num_rows, num_kept = len(token_R), max(num_alive, FEWEST_ROWS)
                if self.compact and COMPACT_AT * (num_rows - num_kept) >= num_rows:
                    token_R = self._drop_ended(token_R, num_kept)
                self.rows.position_R1 = self.rows.position_R1 + 1
                mask, positions = self.cache.next_column(), self.rows.position_R1
                logits_RV = next_logits(self.policy.model, token_R[:, None], mask, positions, self.cache.past)
        return self.record.generations(self.policy)

    def _prefill(self) -> Tensor:
        """Read each prompt, and give every row its copy of what was read and of the logits after it."""
        groups = [(prompt, len(list(rows))) for prompt, rows in groupby(r.ids for r in self.requests)]
        logits = []
        for chunk in chunks(groups, self.prefill_tokens):
            prompts, logits_UV = read(self.policy, [prompt for prompt, _ in chunk], self.prefill_tokens)
            group_size_U = torch.tensor([size for _, size in chunk], device=self.policy.device)
            self.cache.fill(prompts, group_size_U)
            logits.append(logits_UV.repeat_interleave(group_size_U, dim=0))
        return torch.cat(logits)

    def _sample(self, t: int, logits_RV: Tensor) -> Tensor:
        """Draw and record token t of every row, and find the rows that end with it, or whose logits are not finite."""
        rows = self.rows
        lp_RV = log_distribution(logits_RV, self.sampling)
        prob_RV = lp_RV.exp()
        token_R = logits_RV.argmax(-1) if rows.uniform_RT is None else draw(prob_RV, rows.uniform_RT[:, t])
        lp_R = lp_RV.gather(-1, token_R[:, None])[:, 0]
        self.record.write(t, rows, token_R, lp_R, entropy(lp_RV, prob_RV))
        has_stopped_R = (token_R[:, None] == self.stop).any(-1)
        is_finite_R = lp_R > -torch.inf  # false for nan too
        rows.alive_R = rows.alive_R & ~has_stopped_R & (rows.budget_R > t + 1) & is_finite_R
        return token_R

    def _drop_ended(self, token_R: Tensor, num_kept: int) -> Tensor:
        """Keep the first rows, and let live rows from behind take the places of ended ones among them."""
        alive_R = self.rows.alive_R
        kept_R = torch.arange(num_kept, device=alive_R.device)
        ended_R = (~alive_R[:num_kept]).nonzero()[:, 0]
        moved_R = alive_R[num_kept:].nonzero()[:, 0] + num_kept
        kept_R[ended_R[: len(moved_R)]] = moved_R
        self.cache.keep(kept_R)
        self.rows = self.rows.take(kept_R)
        return token_R[kept_R]


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
        device, longest = policy.device, max(request.budget for request in requests)
        length_R1 = torch.tensor([[len(request.ids)] for request in requests], device=device)
        uniforms = row_uniforms([request.seed for request in requests], longest) if draws else None
        return cls(
            slot_R=torch.arange(len(requests), device=device),
            budget_R=torch.tensor([request.budget for request in requests], device=device),
            alive_R=torch.ones(len(requests), dtype=torch.bool, device=device),
            position_R1=length_R1 - 1,
            uniform_RT=None if uniforms is None else torch.from_numpy(uniforms).to(device),
        )

    def take(self, kept_R: Tensor) -> DecodeRows:
        """Give these rows, in this order."""
        every = (self.slot_R, self.budget_R, self.alive_R, self.position_R1)
        uniform_RT = None if self.uniform_RT is None else self.uniform_RT[kept_R]
        return DecodeRows(*(one[kept_R] for one in every), uniform_RT)


class RowRecord:
    """What is kept of every row of a batch: tokens, log-probs and entropies, in the order of the requests."""

    def __init__(self, num_rows: int, longest: int, device: torch.device) -> None:
        self.ids_TS = torch.zeros(longest, num_rows, dtype=torch.long, device=device)
        self.lp_TS, self.entropy_TS = torch.zeros(2, longest, num_rows, device=device)
        self.length_S = torch.zeros(num_rows, dtype=torch.long, device=device)

    def write(self, t: int, rows: DecodeRows, token_R: Tensor, lp_R: Tensor, entropy_R: Tensor) -> None:
        """Write token t of the rows in the batch down; of those that have ended it is never read."""
        self.ids_TS[t, rows.slot_R] = token_R
        self.lp_TS[t, rows.slot_R] = lp_R
        self.entropy_TS[t, rows.slot_R] = entropy_R
        self.length_S[rows.slot_R] += rows.alive_R

    def generations(self, policy: Policy) -> list[Generation]:
        """Give every row what it wrote, up to its end.

        Raises:
            NonFiniteLogits: the policy has diverged.
        """
        ids, lengths = self.ids_TS.T.cpu().numpy(), self.length_S.tolist()
        lp, entropy = self.lp_TS.T.cpu().numpy(), self.entropy_TS.T.cpu().numpy()
        require_finite([lp[row, :n] for row, n in enumerate(lengths)], policy.version, "that were played")
        return [
            Generation(
                ids=tuple(ids[row, :n].tolist()),
                logprobs=lp[row, :n].copy(),
                entropies=entropy[row, :n].copy(),
                finish="stop" if ids[row, n - 1] in policy.stop_ids else "length",
                spans=(Span(policy.version, 0, n),),
            )
            for row, n in enumerate(lengths)
        ]
