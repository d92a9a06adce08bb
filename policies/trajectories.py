"""What the policy wrote and what it was worth: the learner's input, one row an episode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Trajectory:
    """One scored episode as token ids. L = length of the whole row, prompt included.

    Nothing in `ids` was ever decoded and encoded again. Unscorable episodes never become trajectories.
    """

    ids: NDArray[np.int64]  # [L] prompt, policy tokens, environment replies, in order
    mask: NDArray[np.bool_]  # [L] True on tokens the policy wrote
    logprobs: NDArray[np.float32]  # [L] log q of the sampler on masked tokens, 0 elsewhere; nats
    entropies: NDArray[np.float32] | None  # [L] entropy of q on masked tokens, 0 elsewhere; nats
    reward: float  # the score's value or correctness, as the spec says
    group: int  # episodes with the same number were played from one task
    version: int = 0  # of the weights that wrote it (the oldest, when there are several)
