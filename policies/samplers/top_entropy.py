"""Entropy from the log-probs of the likeliest tokens alone, which an engine gives nearly free (objectives.md 12.1).

    H_k = -sum over the k likeliest of p log p - r log r,   r = 1 - sum p: the others count as one token

A lower bound of the entropy: what r hides is between 0 and r log(N - k) nats, N the size of the vocabulary. Unlike the
surprisal of the sampled token it has no noise, and a policy in training soon has next to nothing in r.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def top_entropy(logprobs_NK: NDArray[np.float32]) -> NDArray[np.float32]:
    """Entropy [N] in nats from the K largest log-probs of each position; -inf is a token that cannot be drawn."""
    logprobs = logprobs_NK.astype(np.float64)
    rest = np.maximum(0.0, 1 - np.exp(logprobs).sum(-1))
    entropies: NDArray[np.float64] = _entropy(np.exp(logprobs)).sum(-1) + _entropy(rest)
    return entropies.astype(np.float32)


def _entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """-p log p, 0 at 0."""
    found: NDArray[np.float64] = -p * np.log(np.where(p > 0, p, 1.0))
    return found
