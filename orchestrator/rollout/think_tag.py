"""Where thinking ends in what a policy wrote, and what it answered in the end."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

import numpy as np

from policies.policy import Policy

if TYPE_CHECKING:
    from orchestrator.rollout.player import Sample

TAG = "</think>"


def answer_of(completion: str) -> str:
    """Give what a completion answers: what stands behind its last closing think tag, or all of it."""
    return completion.rpartition(TAG)[2].strip()


class ThinkTag:
    """Finds the closing think tag in token ids, whether or not it is a token of the policy's vocabulary."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._token: int | None = policy.tokenizer.get_added_vocab().get(TAG)

    def end(self, sample: Sample) -> int | None:
        """Give the position behind the first closing tag that the policy wrote; None if it wrote none.

        A row without the tag costs a search of its text. Where the tag is several tokens, prefixes are decoded.
        """
        if self._token is not None:
            is_tag = sample.mask & (sample.ids == self._token)
            if is_tag.any():
                return int(is_tag.argmax()) + 1
        said = [message["content"] for message in sample.messages if message["role"] == "assistant"]
        if not any(TAG in text for text in (*said, sample.completion)):
            return None
        at = np.flatnonzero(sample.mask)
        ids = sample.ids[at].tolist()
        if not self._has_tag(ids):  # what was said is in the task's own messages
            return None
        last = bisect_left(range(1, len(ids)), True, key=lambda num: self._has_tag(ids[:num]))
        return int(at[last]) + 1

    def _has_tag(self, ids: list[int]) -> bool:
        return TAG in self._policy.decode(ids)
