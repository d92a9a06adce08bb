"""What of a task's text is compared: its words and numbers, without what all tasks of its kind share.

A text is a sequence of tokens: words, numbers and signs, in small letters (Unicode NFKC); white space is nothing.
Prompts of one kind share a template, which would make each of them a near-duplicate of every other. So tokens and
n-grams that occur in more than a tenth of the tasks of a category or an environment are *common* and left out. What
is left is compared in up to two views:

- `ngrams`, for texts with at least `MANY` tokens left: their n-grams that are not common.
- `words`, for texts with at most `FEW` left (a number list, one word): these tokens with their counts, in no
  order. Here next to nothing is left of what was asked, so across categories what only one of the two templates
  says counts too: the sum of 3 and 5 is not the product of 3 and 5.

A text with nothing left (all of its numbers are common) is compared as a whole, with equal ones only.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from environments.contracts import Message

N = 3  # tokens of an n-gram: one changed word spoils three
SHARE, AT_LEAST = 0.1, 5  # common is what more than this share, and more than so many, of the texts have
LOOKED_AT = 2000  # texts of a kind, evenly spaced, that tell what is common in it
FEW, MANY = 12, 6  # tokens left: up to `FEW` their order does not count, from `MANY` on it does

IDEOGRAPHS = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"  # written without spaces: a token each
TOKEN = re.compile(rf"[{IDEOGRAPHS}]|\d+|[^\W\d_{IDEOGRAPHS}]+|[^\w\s]|_")

Hashes = NDArray[np.uint64]  # of features, sorted, each once
Kind = tuple[str, str]  # environment, category


@dataclass(frozen=True)
class Text:
    """A task's tokens, as numbers, and the kind of task it is."""

    kind: Kind
    tokens: NDArray[np.int64]

    @cached_property
    def counted(self) -> Hashes:
        """Its tokens with their counts: the first 66, the second 66, ..."""
        seen: Counter[int] = Counter()
        places = []
        for token in self.tokens.tolist():
            places.append(seen[token])
            seen[token] += 1
        return np.unique(_mixed(self.tokens, np.array(places, dtype=np.int64)))

    @property
    def ngrams(self) -> Hashes:
        """Its n-grams."""
        windows = [self.tokens[i : len(self.tokens) - N + 1 + i] for i in range(N)]
        return np.unique(_mixed(*windows)) if len(self.tokens) >= N else np.empty(0, np.uint64)


class Reader:
    """Makes texts of conversations; the same words get the same numbers."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def read(self, kind: Kind, messages: Iterable[Message]) -> Text:
        """Read all that a conversation says."""
        said = "\n".join(message["content"] for message in messages)
        words = TOKEN.findall(unicodedata.normalize("NFKC", said).casefold())
        numbers = [self._numbers.setdefault(word, len(self._numbers)) for word in words]
        return Text(kind, np.array(numbers, dtype=np.int64))


@dataclass(frozen=True)
class Common:
    """What the texts of a kind share."""

    counted: Hashes
    ngrams: Hashes
    template: Hashes  # of `counted`, what the category by itself shares


class Views:
    """The features of texts, once it is known what is common."""

    def __init__(self, texts: Sequence[Text]) -> None:
        self._common = _common(texts)

    def words(self, text: Text) -> Hashes | None:
        """Give the tokens left in a short text; None: there are none, or many."""
        left = without(text.counted, self._common[text.kind].counted)
        return left if 0 < len(left) <= FEW else None

    def ngrams(self, text: Text) -> Hashes | None:
        """Give the n-grams left in a text that is not very short; None: it is."""
        common = self._common[text.kind]
        if len(without(text.counted, common.counted)) < MANY:
            return None
        left = without(text.ngrams, common.ngrams)
        return left if len(left) else None

    def likeness_of_words(self, a: Text, b: Text) -> float:
        """Compare two short texts by what is left of them; of two kinds, also by what only one template says."""
        ours, theirs = self._common[a.kind], self._common[b.kind]
        likeness = jaccard(without(a.counted, ours.counted), without(b.counted, theirs.counted))
        if a.kind == b.kind:
            return likeness
        both = np.intersect1d(ours.template, theirs.template, assume_unique=True)
        return min(likeness, jaccard(without(a.counted, both), without(b.counted, both)))


def jaccard(a: Hashes, b: Hashes) -> float:
    """Size of the intersection over that of the union; 1 for two empty sets."""
    both = len(np.intersect1d(a, b, assume_unique=True))
    union = len(a) + len(b) - both
    return both / union if union else 1.0


def without(features: Hashes, others: Hashes) -> Hashes:
    """Leave features out; both are sorted."""
    if not len(others):
        return features
    places = np.minimum(np.searchsorted(others, features), len(others) - 1)
    left: Hashes = features[others[places] != features]
    return left


def _common(texts: Sequence[Text]) -> Mapping[Kind, Common]:
    """Find what is common in every category, in its environment, or in all tasks."""
    by_group: dict[tuple[str, ...], list[Text]] = {}
    for text in texts:
        for group in _groups(text.kind):
            by_group.setdefault(group, []).append(text)
    shared = {group: _shared(own) for group, own in by_group.items()}
    kinds = {text.kind for text in texts}
    return {kind: _together([shared[group] for group in _groups(kind)]) for kind in kinds}


def _groups(kind: Kind) -> tuple[tuple[str, ...], ...]:
    """Name the wholes that a kind is part of, itself last."""
    return (), kind[:1], kind


def _shared(texts: Sequence[Text]) -> Common:
    """Find the features of more than a tenth of these texts; equal texts count once."""
    distinct = list({text.tokens.tobytes(): text for text in texts}.values())
    looked_at = distinct[:: max(1, len(distinct) // LOOKED_AT)]
    counted = _frequent([text.counted for text in looked_at])
    return Common(counted, _frequent([text.ngrams for text in looked_at]), counted)


def _frequent(sets: Sequence[Hashes]) -> Hashes:
    features, counts = np.unique(np.concatenate(sets), return_counts=True)
    return features[counts > max(AT_LEAST, SHARE * len(sets))]


def _together(parts: Sequence[Common]) -> Common:
    return Common(
        np.unique(np.concatenate([part.counted for part in parts])),
        np.unique(np.concatenate([part.ngrams for part in parts])),
        parts[-1].template,
    )


def _mixed(*columns: NDArray[np.int64]) -> Hashes:
    """Hash rows of small numbers to 64 bits, well enough that two of ten million rarely meet."""
    mixed = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        mixed = (mixed ^ column.astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed
