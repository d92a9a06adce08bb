"""The supervised probe: how fast a copy learns a language that it has never seen, by its next-token loss.

The language is made up. It has an alphabet of up to 64 letters and a lexicon of 128 words of 2 to 6 letters, whose
frequencies fall as 1 / rank; a text is words drawn by them, each followed by a space. A seeded draw without replacement
from the policy's ordinary tokens says which token a letter is, so that nothing of what those mean helps. What there is
to learn is the words (from the letters before) and their frequencies. No generation is needed, and a policy whose
entropy has collapsed is not at a disadvantage for it: that is told by the probe `rl`.

Source: plasticity.md 3.1, after arXiv 2606.24752 (a held-out language; its details are not verified).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray

from policies.plasticity.copy_fit import Rows, fit, look_at, ordinary_tokens
from policies.plasticity.curves import Budget, Curve
from policies.policy import Policy

LETTERS, WORDS, SHORTEST, LONGEST = 64, 128, 2, 6


def num_symbols(num_tokens: int) -> int:
    """Letters and the space of a language made of so many tokens; who knows nothing of it has a loss of their ln."""
    return min(LETTERS + 1, num_tokens)


class Language:
    """Made-up words in tokens of a vocabulary; the same for the same generator."""

    def __init__(self, tokens: Sequence[int], rng: np.random.Generator) -> None:
        letters = rng.permutation(np.array(tokens))[: num_symbols(len(tokens))]  # the last is the space
        lengths = rng.integers(SHORTEST, LONGEST + 1, WORDS)
        self.words = [np.append(rng.choice(letters[:-1], length), letters[-1]) for length in lengths]
        frequencies = 1.0 / np.arange(1, WORDS + 1)
        self.frequencies = frequencies / frequencies.sum()

    def rows(self, num: int, length: int, rng: np.random.Generator) -> Rows:
        """Write texts of so many tokens [num, length], cut off where they are full."""
        texts = [self._text(length, rng) for _ in range(num)]
        ids_BT = torch.from_numpy(np.stack(texts))
        mask_BT = torch.ones_like(ids_BT, dtype=torch.bool)
        mask_BT[:, 0] = False
        return Rows(ids_BT, mask_BT)

    def _text(self, length: int, rng: np.random.Generator) -> NDArray[np.int64]:
        drawn = rng.choice(WORDS, length // SHORTEST, p=self.frequencies)  # more than fit
        return np.concatenate([self.words[word] for word in drawn])[:length].astype(np.int64)


def probe(
    copy: Policy,
    budget: Budget,
    curve: Curve,
    stream: Callable[[str], np.random.Generator],
    *,
    batch: int,
    items: int,
    length: int,
) -> Iterator[int]:
    """Train a copy on texts of the language; looks are at `items` texts of it that it is not trained on.

    `stream` gives the generator of a name. Yields the steps done. Metrics: loss (of the frozen texts), entropy,
    grad_norm.
    """
    language = Language(ordinary_tokens(copy), stream("language"))
    frozen, rng = language.rows(items, length, stream("items")), stream("batches")
    batches = (language.rows(batch, length, rng) for _ in count())
    for step in fit(copy, batches, budget, curve):
        if step in budget.looks:
            curve.look(step, look_at(copy, frozen, budget.micro_tokens))
        yield step
