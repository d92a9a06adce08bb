"""The reference policy: a frozen copy of the weights, for objectives that compare with it (`lp_ref`).

Kept only while a part of the objective needs it, since it is as much memory again as the weights take, on the same
device; no gradients and no moments. Its pass goes over all rows of a step, before their advantages are known: a KL in
the reward moves them. Source: objectives.md 11.1.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from policies.batch_forward import ForwardPasses
from policies.objectives.contracts import Batch
from policies.policy import Policy


class Reference:
    """The policy's weights as they were when this was made, or last refreshed."""

    def __init__(self, policy: Policy, temperature: float, micro_tokens: int) -> None:
        self._current = policy
        self.policy = replace(policy, model=copy.deepcopy(policy.model).requires_grad_(False))
        self._passes = ForwardPasses(self.policy, temperature, micro_tokens)

    def lp(self, batch: Batch) -> Tensor:
        """Give the log-probs [B, T] of a batch, on the CPU, at least float32; 0 off the mask.

        Raises:
            NonFiniteLogits: the reference was taken from a policy that had diverged.
        """
        rows = batch.mask_BT.any(-1).nonzero()[:, 0].cpu()
        with self._passes.prepared():
            return self._passes.finite_lp(batch, rows, self._current.version, "of the reference policy")

    def refresh(self) -> None:
        """Take the policy's weights as they are now."""
        self.policy.model.load_state_dict(self._current.model.state_dict())

    def save(self, folder: Path) -> None:
        """Write it as the policy writes itself: the layout that `from_pretrained` reads."""
        self.policy.save(folder)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote; names and shapes must agree."""
        self.policy.load_weights(folder)
