"""How varied several responses to one prompt are: distinct-n (arXiv 1510.03055; plasticity reference, 2.4)."""

from __future__ import annotations

from collections.abc import Sequence


def distinct_n(responses: Sequence[Sequence[int]], n: int) -> float | None:
    """Share of different n-grams among all n-grams of token ids, in (0, 1]; None: no response is n tokens long.

    It falls with length: only responses with the same number of tokens compare.
    """
    grams = [tuple(ids[at : at + n]) for ids in responses for at in range(len(ids) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None
