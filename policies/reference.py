"""The reference policy: a frozen copy of the weights, for objectives that compare with it (`lp_ref`).

Kept only while a part of the objective needs it, since it is as much memory again as the weights take, on the same
device; no gradients and no moments. Its pass goes over all rows of a step, before their advantages are known: a KL in
the reward moves them. Source: objectives.md 11.1.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from policies.batch_forward import cutter_of, score_batch
from policies.divergence import require_finite
from policies.forward import Reduction, evaluating
from policies.objectives.contracts import Batch
from policies.policy import Policy
from policies.shared_prompts import can_share


class Reference:
    """The policy's weights as they were when this was made, or last refreshed."""

    def __init__(self, policy: Policy, temperature: float, micro_tokens: int) -> None:
        self._current = policy
        self.policy = replace(policy, model=copy.deepcopy(policy.model).requires_grad_(False))
        self.temperature, self.micro_tokens = temperature, micro_tokens

    def lp(self, batch: Batch) -> Tensor:
        """Give the log-probs [B, T] of a batch, on the CPU, at least float32; 0 off the mask.

        Raises:
            NonFiniteLogits: the reference was taken from a policy that had diverged.
        """
        model, device = self.policy.model, self.policy.device
        rows = batch.mask_BT.any(-1).nonzero()[:, 0].cpu()
        with evaluating(model):
            cut = cutter_of(batch, self.micro_tokens, can_share(model), device).cut(rows)
            lp_BT = score_batch(model, device, batch, cut, Reduction(self.temperature)).lp_BT
        logprobs = [lp_BT[row][batch.mask_BT[row].cpu()].numpy() for row in rows.tolist()]
        require_finite(logprobs, self._current.version, "of the reference policy")
        return lp_BT

    @torch.no_grad()
    def refresh(self) -> None:
        """Take the policy's weights as they are now."""
        now = self._current.model.state_dict()
        for name, tensor in self.policy.model.state_dict().items():
            tensor.copy_(now[name])

    def save(self, folder: Path) -> None:
        """Write it as the policy writes itself: the layout that `from_pretrained` reads."""
        self.policy.save(folder)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote; names and shapes must agree."""
        self.policy.load_weights(folder)
