"""Pairs of similar sets, found without comparing each with each: MinHash, banded (LSH), then exactly.

Source: Broder, "On the resemblance and containment of documents" (1997); library `datasketch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from environments.contracts import EnvironmentFault
from environments.leaks.texts import Hashes

NUM_HASHES = 128  # at most
RECALL = 0.999  # share of pairs just at the threshold that become candidates
AT_ONCE = 500  # sets hashed together


def bands(threshold: float) -> tuple[int, int]:
    """Choose numbers of bands and of rows in one: as many rows as leave the recall.

    Two sets of similarity s share a band with probability 1 - (1 - s^rows)^bands.
    """
    for rows in range(16, 1, -1):
        num = NUM_HASHES // rows
        if 1 - (1 - threshold**rows) ** num >= RECALL:
            return num, rows
    return NUM_HASHES, 1


def candidates(
    queries: Sequence[Hashes], kept: Sequence[Hashes], threshold: float, tell: Callable[[int], None]
) -> Iterator[tuple[int, int]]:
    """Give pairs (of queries, of kept) that may be similar, with hardly one missing that is.

    Args:
        queries: sets that are gone through.
        kept: sets that are held in memory: the smaller side.
        threshold: the Jaccard similarity that is looked for.
        tell: told now and then how many of both are done.
    """
    num_bands, rows = bands(threshold)
    index = _library().MinHashLSH(num_perm=num_bands * rows, params=(num_bands, rows))
    for place, sketch in enumerate(_sketches(kept, num_bands * rows)):
        index.insert(place, sketch, check_duplication=False)
        tell(place)
    for place, sketch in enumerate(_sketches(queries, num_bands * rows)):
        yield from ((place, other) for other in sorted(index.query(sketch)))
        tell(len(kept) + place)


def _sketches(sets: Sequence[Hashes], num_hashes: int) -> Iterator[Any]:
    """Sketch sets; the features are hashes already, of which the library wants 32 bits."""
    for first in range(0, len(sets), AT_ONCE):
        lists = [(features & np.uint64(0xFFFFFFFF)).tolist() for features in sets[first : first + AT_ONCE]]
        yield from _library().MinHash.bulk(lists, num_perm=num_hashes, hashfunc=_as_it_is)


def _as_it_is(feature: int) -> int:
    return feature


def _library() -> Any:
    try:
        import datasketch
    except ModuleNotFoundError as missing:
        raise EnvironmentFault(
            f"looking for leaks needs the package datasketch ({missing}); install it with: pip install datasketch"
        ) from missing
    return datasketch
