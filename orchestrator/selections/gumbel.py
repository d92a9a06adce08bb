"""Drawing without replacement by the Gumbel trick: one pass over all, however many are drawn.

    argtop_k(logit + Gumbel)  =  k draws from softmax(logits), each from what the earlier ones left

Source: curricula reference, 3.10; -ln E with E ~ Exp(1) is a Gumbel variable. O(M) in time and memory.
"""

from __future__ import annotations

import numpy as np

from orchestrator.bandits.contracts import Floats
from orchestrator.selections.contracts import Positions


def gumbel_top_k(logits: Floats, k: int, rng: np.random.Generator) -> Positions:
    """Draw k distinct places of logits [M], in no order; one with logit -inf is drawn only when no other is left."""
    if k >= len(logits):
        return np.arange(len(logits))
    keys = np.log(rng.standard_exponential(len(logits))) - logits
    return np.argpartition(keys, k)[:k]
