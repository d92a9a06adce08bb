"""The reference policy: what the policy was at the start of the run or of the stage, for penalties that compare.

Source: objectives.md 11.1.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from policies import adapters
from policies.micro_batches import ForwardPasses
from policies.objectives.contracts import Batch
from policies.policy import Policy


class Reference:
    """A frozen copy of the policy's weights as they were when this was made, or last refreshed: gives `lp_ref`.

    As much memory again as the weights take, on the same device; no gradients and no moments. Of a policy with
    adapters only these are copied: what they stand beside serves both, so it must not move. Its pass goes over all rows
    of a step, before their advantages are known: a KL in the reward moves them. Source: objectives.md 11.1.
    """

    def __init__(self, policy: Policy, temperature: float, micro_tokens: int) -> None:
        self._current = policy
        self._adapters: dict[str, Tensor] | None = None
        if policy.adapter is None:
            policy = replace(policy, model=copy.deepcopy(policy.model).requires_grad_(False))
        else:
            self.refresh()
        self.policy = policy
        self._passes = ForwardPasses(policy, temperature, micro_tokens)

    def lp(self, batch: Batch) -> Tensor:
        """Give the log-probs [B, T] of a batch, on the CPU, at least float32; `NonFiniteLogits` if it had diverged."""
        rows = batch.mask_BT.any(-1).nonzero()[:, 0].cpu()
        then = nullcontext() if self._adapters is None else adapters.swapped_in(self.policy.model, self._adapters)
        with then, self._passes.prepared():
            return self._passes.finite_lp(batch, rows, self._current.version, "of the reference policy")

    def refresh(self) -> None:
        """Take the policy's weights as they are now."""
        if self._current.adapter is None:
            self.policy.model.load_state_dict(self._current.model.state_dict())
        else:
            own = adapters.adapter_weights(self._current.model)
            self._adapters = {name: one.detach().clone() for name, one in own.items()}

    def save(self, folder: Path) -> None:
        """Write it as a policy is written; of adapters these alone."""
        if self._adapters is None:
            self.policy.save(folder)
        else:
            adapters.save(self.policy.model, folder, self._adapters, self.policy.name, self.policy.base_fingerprint)

    def load(self, folder: Path) -> None:
        """Take weights that were saved."""
        if self._adapters is None:
            self.policy.load_weights(folder)
        else:
            self._adapters = {
                name: one.to(self._adapters[name].device)
                for name, one in adapters.saved(folder, self._adapters).items()
            }
