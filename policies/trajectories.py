"""What the policy wrote and what it was worth: the learner's input, one row an episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
    arm: str = ""  # "environment/category"
    correct: bool = False  # what the verifier said, whatever the reward is
    components: Mapping[str, float] = field(default_factory=dict)  # named parts of the score
    answer: str = ""  # what was answered in the end: equal texts are equal answers
    turns: NDArray[np.int64] | None = None  # [L] number of the turn on masked tokens; None: there is one
    think_end: int | None = None  # position behind the closing think tag; None: there is none
    was_cut_off: bool = False  # by a budget of tokens, turns or context
    advantage: float | None = None  # given by the plan that played it; None: the estimator's


def is_off_policy(trajectories: Sequence[Trajectory], version: int) -> bool:
    """Whether any was not written by weights of this version, or at another temperature than the main one."""
    return any(one.version != version or one.advantage is not None for one in trajectories)
