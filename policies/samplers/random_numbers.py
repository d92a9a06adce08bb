"""The random numbers of a sampled row: by its names alone, however a batch was cut."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def sample_seed(run_seed: int, stream: str, environment: str, step: int, group: int, sample: int, turn: int = 0) -> int:
    """Make the 63-bit seed of one row from its names alone, so that no two rows share one by arithmetic."""
    name = json.dumps([run_seed, stream, environment, step, group, sample, turn], ensure_ascii=False)
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1


def row_uniforms(seeds: Sequence[int], num: int) -> NDArray[np.float64]:
    """Draw [R, num] uniforms in the open interval (0, 1): the one at [r, t] depends on (seeds[r], t) alone.

    A counter-based stream, Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"),
    keyed by the seed, with t / 2 as counter. 48 bits each: below the resolution at which a product with the
    total mass could round up to it.
    """
    keys_R = np.array(seeds, dtype=np.uint64)
    num_blocks = (num + 1) // 2
    counter_RC = np.broadcast_to(np.arange(num_blocks, dtype=np.uint64), (len(keys_R), num_blocks))
    zero = np.zeros_like(counter_RC)
    words = philox([counter_RC, zero, zero, zero], [keys_R[:, None] & _LOW, keys_R[:, None] >> _32])
    bits = np.stack([words[0] << _16 | words[1] >> _16, words[2] << _16 | words[3] >> _16], axis=-1)
    return ((bits.reshape(len(keys_R), -1)[:, :num] + 0.5) * 2.0**-48).astype(np.float64)


_16, _32, _LOW = np.uint64(16), np.uint64(32), np.uint64(0xFFFFFFFF)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)

Words = NDArray[np.uint64]  # 32-bit words, held in 64 bits


def philox(counter: Sequence[Words], key: Sequence[Words]) -> list[Words]:
    """Scramble four counter words with two key words in ten rounds; arrays broadcast."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        left, right = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = right >> _32 ^ c1 ^ k0, right & _LOW, left >> _32 ^ c3 ^ k1, left & _LOW
        k0, k1 = k0 + _WEYL[0] & _LOW, k1 + _WEYL[1] & _LOW
    return [c0, c1, c2, c3]
