"""Copies of a policy, to be trained and thrown away: what happens to one leaves no trace in the other.

A probe takes any function of type `Copying`; what its policy says by `requires_grad` is what the probe's optimiser
moves. A copy of a policy with adapters has them merged into its weights, and learns with fresh ones.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from policies.policy import Policy

SEED = 20_261_124  # of a copy's fresh adapters: the same in every copy

Copying = Callable[[Policy], AbstractContextManager[Policy]]


@contextmanager
def full_copy(policy: Policy) -> Iterator[Policy]:
    """Copy all weights, on the same device, in the same precision, without gradients and moments; version 0.

    As much memory again as the weights take, and what trains them; it is given back at the end of the block.
    """
    copied = copy.copy(policy)
    copied.model, copied.version = copy.deepcopy(policy.model).eval(), 0
    if policy.adapter is not None:
        copied.merge_adapters(torch.Generator().manual_seed(SEED))
    try:
        yield copied
    finally:
        device, copied.model = copied.device, None
        if device.type == "cuda":
            torch.cuda.empty_cache()
