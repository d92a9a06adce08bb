"""Copies of a policy, to be trained and thrown away: what happens to one leaves no trace in the other.

A probe takes any function of type `Copying`. `full_copy` copies every weight. For models of which there is no room for
a second one, an adapter on weights that stay frozen is another: its policy shares the frozen weights and says by
`requires_grad` what an optimiser moves, which is all that the probes read. None is here yet.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from policies.policy import Policy

Copying = Callable[[Policy], AbstractContextManager[Policy]]


@contextmanager
def full_copy(policy: Policy) -> Iterator[Policy]:
    """Copy all weights, on the same device, in the same precision, without gradients and moments; version 0.

    As much memory again as the weights take, and what trains them; it is given back at the end of the block.
    """
    copied = copy.copy(policy)
    copied.model, copied.version = copy.deepcopy(policy.model).eval(), 0
    try:
        yield copied
    finally:
        device, copied.model = copied.device, None
        if device.type == "cuda":
            torch.cuda.empty_cache()
