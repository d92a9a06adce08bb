"""A proof that a server plays the weights it was given: a few tokens after one prompt, against the learner's own.

It takes the way of every other row, so it sees whatever could be wrong with one: weights that did not arrive, a prefix
cache that still knows the old ones (the probe's prompt is longer than a cache block), and log-probs of another
distribution (the temperature is not 1). The learner's side is kept, so that a server that comes back later can be
asked while the learner already changes its weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from policies.errors import NonFiniteLogits
from policies.forward import call, evaluating
from policies.policy import Policy
from policies.samplers.contracts import Generation, Request, Sampling
from policies.samplers.token_distribution import log_distribution
from policies.samplers.weight_check import limit, make_probe

SAMPLING = Sampling(temperature=0.7)
NUM_ROWS = 8


@dataclass(frozen=True)
class ServerWeightCheck:
    """The rows to ask for, and what the learner says of every token that may come."""

    requests: tuple[Request, ...]  # of one token each
    lp_V: NDArray[np.float32]  # over the vocabulary, nats, at SAMPLING's temperature
    limit: float  # largest gap of healthy weights, nats

    def gap(self, played: Sequence[Generation]) -> float:
        """Compute the largest |server's log-prob - learner's|, in nats."""
        return max(
            abs(self._ours(generation.ids[0]) - float(generation.logprobs[0])) for generation in played
        )

    def _ours(self, token: int) -> float:
        """Look a token up; one that the policy does not have is a sign of another model."""
        return float(self.lp_V[token]) if token < len(self.lp_V) else -np.inf


def make_proof(policy: Policy) -> ServerWeightCheck:
    """Read the probe's prompt with the learner's weights as they are now.

    Raises:
        NonFiniteLogits: the policy has diverged; no server could prove anything.
    """
    prompt = make_probe(policy).prompt
    ids_BT = torch.tensor([prompt], device=policy.device)
    with torch.no_grad(), evaluating(policy.model):
        logits_V = call(policy.model, input_ids=ids_BT, logits_to_keep=1, use_cache=False).logits[0, -1]
        lp_V = log_distribution(logits_V, SAMPLING).cpu().numpy()
    if np.isnan(lp_V).any():
        raise NonFiniteLogits("non-finite logits after the probe's prompt", policy.version)
    return ServerWeightCheck(
        tuple(Request(prompt, seed, budget=1) for seed in range(NUM_ROWS)), lp_V, limit(policy.dtype)
    )
