"""The decode loop: a batch of rows from one shared prefill to the last stop, on the library's own cache.

Dimension letters: U unique prompts, R rows still in the batch, S all rows of the batch, K columns of the cache
(prompts are padded on the left, so that all rows write the same column), V vocabulary, T new tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from policies.forward import call, entropy_of, evaluating
from policies.policy import Policy
from policies.samplers.contracts import Generation, Request, Sampling, Span
from policies.samplers.sampling import draw, log_distribution, row_uniforms

COMPACT_AT = 8  # rows that have ended leave the batch once they are one in this many
# Ended rows stay to fill up to this many: for a matrix of few rows (here up to 3) BLAS takes other kernels, and
# the last bits of the rows that go on would depend on who has ended.
FEWEST_ROWS = 8


def decode(
    policy: Policy, requests: Sequence[Request], sampling: Sampling, *, compact: bool = True
) -> list[Generation]:
    """Play one batch of requests, in one forward a token."""
    with torch.inference_mode(), evaluating(policy.model):
        return Decoder(policy, requests, sampling, compact=compact).run()


class Decoder:
    """Plays one batch of requests. Used once; call inside `torch.inference_mode`.

    What a row draws depends on its own seed and positions only. Whether ended rows stay or leave changes nothing
    but the time it takes; with plain attention not even the last bit of a log-prob.
    """

    def __init__(
        self, policy: Policy, requests: Sequence[Request], sampling: Sampling, *, compact: bool = True
    ) -> None:
        self.policy, self.requests, self.sampling, self.compact = policy, requests, sampling, compact
        self.device = policy.device
        self.longest = max(request.budget for request in requests)
        self.cache = DynamicCache(config=policy.model.config)
        self.stop = torch.tensor(policy.stop_ids, dtype=torch.long, device=self.device)
        num = len(requests)
        self.slot_R = torch.arange(num, device=self.device)  # where a row's tokens are recorded
        self.budget_R = torch.tensor([request.budget for request in requests], device=self.device)
        self.alive_R = torch.ones(num, dtype=torch.bool, device=self.device)
        self.uniform_RT = self._uniforms()
        self.ids_TS = torch.zeros(self.longest, num, dtype=torch.long, device=self.device)
        self.lp_TS = torch.zeros(self.longest, num, device=self.device)
        self.entropy_TS = torch.zeros(self.longest, num, device=self.device)
        self.length_S = torch.zeros(num, dtype=torch.long, device=self.device)

    def run(self) -> list[Generation]:
        """Generate one row a request, in their order."""
        logits_RV = self._prefill()
        for t in range(self.longest):
            token_R = self._sample(t, logits_RV)
            num_alive = int(self.alive_R.sum())  # the one wait for the device in a step
            if num_alive == 0:
                break
            num_rows, num_kept = len(self.slot_R), max(num_alive, FEWEST_ROWS)
            if self.compact and COMPACT_AT * (num_rows - num_kept) >= num_rows:
                token_R = self._drop_ended(token_R, num_kept)
            logits_RV = self._advance(t, token_R)
        return self._generations()

    def _prefill(self) -> Tensor:
        """Read each unique prompt once, then give every row its copy of the cache."""
        prompts = list(dict.fromkeys(request.ids for request in self.requests))
        row_of = {prompt: row for row, prompt in enumerate(prompts)}
        prompt_R = torch.tensor([row_of[request.ids] for request in self.requests], device=self.device)
        ids_UK, mask_UK = self._left_padded(prompts)
        position_UK = (mask_UK.cumsum(-1) - 1).clamp_(min=0)
        self.width, padded = ids_UK.shape[1], not bool(mask_UK.all())
        logits_UV = self._forward(ids_UK, mask_UK if padded else None, position_UK)
        self.cache.reorder_cache(prompt_R)
        self.position_R1 = position_UK[prompt_R, -1:]
        self.mask_RK = self._with_room(mask_UK[prompt_R]) if padded else None
        return logits_UV[prompt_R]

    def _sample(self, t: int, logits_RV: Tensor) -> Tensor:
        """Draw and record token t of every row, and find the rows that end with it."""
        lp_RV = log_distribution(logits_RV, self.sampling)
        token_R = logits_RV.argmax(-1) if self.uniform_RT is None else draw(lp_RV, self.uniform_RT[:, t])
        self.ids_TS[t, self.slot_R] = token_R
        self.lp_TS[t, self.slot_R] = lp_RV.gather(-1, token_R[:, None])[:, 0]
        self.entropy_TS[t, self.slot_R] = entropy_of(lp_RV)
        self.length_S[self.slot_R] += self.alive_R
        self.alive_R = self.alive_R & ~self._is_stop(token_R) & (self.budget_R > t + 1)
        return token_R

    def _advance(self, t: int, token_R: Tensor) -> Tensor:
        """Feed token t of every row."""
        self.position_R1 = self.position_R1 + 1
        mask_RK = None if self.mask_RK is None else self.mask_RK[:, : self.width + t + 1]
        return self._forward(token_R[:, None], mask_RK, self.position_R1)

    def _forward(self, ids: Tensor, mask: Tensor | None, positions: Tensor) -> Tensor:
        output = call(
            self.policy.model,
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1]
        return logits

    def _drop_ended(self, token_R: Tensor, num_kept: int) -> Tensor:
        """Take rows that have ended out of the batch and its cache."""
        kept = (~self.alive_R).long().argsort(stable=True)[:num_kept]
        self.cache.reorder_cache(kept)
        self.slot_R, self.budget_R = self.slot_R[kept], self.budget_R[kept]
        self.alive_R, self.position_R1 = self.alive_R[kept], self.position_R1[kept]
        if self.uniform_RT is not None:
            self.uniform_RT = self.uniform_RT[kept]
        if self.mask_RK is not None:
            self.mask_RK = self.mask_RK[kept]
        return token_R[kept]

    def _uniforms(self) -> Tensor | None:
        if self.sampling.greedy:
            return None
        numbers = row_uniforms([request.seed for request in self.requests], self.longest)
        return torch.from_numpy(numbers).to(self.device)

    def _left_padded(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        width = max(len(prompt) for prompt in prompts)
        pad = self.policy.pad_id
        ids = [[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        return torch.tensor(ids, device=self.device), torch.tensor(mask, device=self.device)

    def _with_room(self, mask_RK: Tensor) -> Tensor:
        """Lengthen the mask by the tokens to come."""
        return torch.cat([mask_RK, mask_RK.new_ones(len(mask_RK), self.longest)], dim=1)

    def _is_stop(self, token_R: Tensor) -> Tensor:
        return (token_R[:, None] == self.stop).any(-1)

    def _generations(self) -> list[Generation]:
        lengths = self.length_S.tolist()
        stopped = self._is_stop(
            self.ids_TS[self.length_S - 1, torch.arange(len(lengths), device=self.device)]
        ).tolist()
        ids = self.ids_TS.T.cpu().numpy()
        lp, entropy = self.lp_TS.T.cpu().numpy(), self.entropy_TS.T.cpu().numpy()
        version = self.policy.version
        return [
            Generation(
                ids=tuple(ids[row, :n].tolist()),
                logprobs=lp[row, :n].copy(),
                entropies=entropy[row, :n].copy(),
                finish="stop" if stopped[row] else "length",
                spans=(Span(version, 0, n),),
            )
            for row, n in enumerate(lengths)
        ]
