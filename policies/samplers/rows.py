"""The rows of a batch while it is decoded, and what is written down about them.

Dimension letters: R rows still in the batch, S all rows of the batch, T new tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from policies.divergence import require_finite
from policies.policy import Policy
from policies.samplers.contracts import Generation, Request, Span
from policies.samplers.token_distribution import row_uniforms


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
        uniform_RT = None if self.uniform_RT is None else self.uniform_RT[kept_R]
        return DecodeRows(
            self.slot_R[kept_R],
            self.budget_R[kept_R],
            self.alive_R[kept_R],
            self.position_R1[kept_R],
            uniform_RT,
        )


class RowRecord:
    """What is kept of every row of a batch: tokens, log-probs and entropies, in the order of the requests."""

    def __init__(self, num_rows: int, longest: int, device: torch.device) -> None:
        self.ids_TS = torch.zeros(longest, num_rows, dtype=torch.long, device=device)
        self.lp_TS = torch.zeros(longest, num_rows, device=device)
        self.entropy_TS = torch.zeros(longest, num_rows, device=device)
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
