"""What of a task's text is compared: its words and numbers, weighed by how rare they are among tasks of its kind.

A text is a sequence of tokens: words, numbers and signs, in small letters (Unicode NFKC); white space is nothing.
Prompts of one kind share a template, which would make each of them a near-duplicate of every other. So every feature (a
token with its count, an n-gram with its count) weighs

    0    more than half of the tasks of the category, the environment or the spec have it: the template
    1    more than a tenth have it: names, colours, small numbers
    2    fewer have it

and two texts are as similar as the weight that they share is to the weight of both (a weighted Jaccard similarity).
What is compared comes in up to two views:

- `ngrams`, for texts with at least `MANY` tokens outside the template, or told by the order of the template's own: all
  n-grams.
- `words`, for other texts, with at most `FEW` (a number list, one word): tokens, in no order. Across categories what
  only one of the two templates says counts too: the sum of 3 and 5 is not the product of 3 and 5.

Whatever the view, the similarity is no larger than that of the texts' quantities, their numbers and the operators
beside them outside the template: a problem with another number is another one, however long the story around it is.

A text with nothing outside the template is compared as a whole, with equal ones only.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from environments.boxes import GOLDEN, scattered
from environments.contracts import Message

N = 3  # tokens of an n-gram: one changed word spoils three
TEMPLATE, COMMON = 0.5, 0.1  # shares of the texts of a kind from which a feature weighs 0, and 1
AT_LEAST = 5  # texts: what fewer have is neither
LOOKED_AT = 2000  # texts of a kind, evenly spaced, that tell what is common in it
# Tokens outside the template: up to `FEW` their order does not count, from `MANY` on it does.
FEW, MANY = 12, 6

IDEOGRAPHS = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"  # written without spaces: a token each
TOKEN = re.compile(rf"[{IDEOGRAPHS}]|\d+|[^\W\d_{IDEOGRAPHS}]+|[^\w\s]|_")
OPERATORS = frozenset("+-*/^=<>\u2212\u00d7\u00f7\u00b1\u2264\u2265")

Hashes = NDArray[np.uint64]  # of features, sorted, each once
Kind = tuple[str, str]  # environment, category


@dataclass(frozen=True)
class Text:
    """A task's tokens, as numbers, and the kind of task it is."""

    kind: Kind
    tokens: NDArray[np.int64]
    is_quantity: NDArray[np.bool_]  # of each token: a number, or an operator beside one

    @cached_property
    def counted(self) -> Hashes:
        """Its tokens with their counts: the first 66, the second 66, ..."""
        return _counted(self.tokens)

    @cached_property
    def quantities(self) -> Hashes:
        """Those of `counted` that are numbers and operators."""
        return np.intersect1d(_counted(self.tokens[self.is_quantity]), self.counted, assume_unique=True)

    @property
    def ngrams(self) -> Hashes:
        """Its n-grams with their counts."""
        if len(self.tokens) < N:
            return np.empty(0, np.uint64)
        return _counted(_mixed(*(self.tokens[i : len(self.tokens) - N + 1 + i] for i in range(N))))


class TextReader:
    """Makes texts of conversations; the same words get the same numbers."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def read(self, kind: Kind, messages: Iterable[Message]) -> Text:
        """Read all that a conversation says."""
        said = "\n".join(message["content"] for message in messages)
        words = TOKEN.findall(unicodedata.normalize("NFKC", said).casefold())
        numbers = np.array([self._numbers.setdefault(word, len(self._numbers)) for word in words], np.int64)
        is_number = np.array([word.isdigit() for word in words], np.bool_)
        is_operator = np.array([word in OPERATORS for word in words], np.bool_)
        around = np.pad(is_number, 1)
        return Text(kind, numbers, is_number | (is_operator & (around[:-2] | around[2:])))


class Shared(NamedTuple):
    """What the texts of a kind share: features by the share of texts that have them."""

    template: Hashes  # of `counted`: weigh 0
    common: Hashes  # of `counted`: weigh at most 1
    ngram_template: Hashes
    ngram_common: Hashes
    own_template: Hashes  # of `counted`, what the category by itself shares


class Views:
    """The weighed features of texts, once it is known what is shared: a feature of weight 2 is there twice."""

    def __init__(self, texts: Sequence[Text]) -> None:
        self._shared = _shared_by_kind(texts)

    def words(self, text: Text) -> Hashes | None:
        """Give the tokens outside the template of a text that is told by few; None: there are none, or order tells."""
        shared = self._shared[text.kind]
        left = without(text.counted, shared.template)
        is_told = 0 < len(left) <= FEW and not self._is_told_by_order(text)
        return _weighed(left, shared.common) if is_told else None

    def ngrams(self, text: Text) -> Hashes | None:
        """Give the n-grams outside the template of a text that many tokens tell, or their order; None: they do not."""
        shared = self._shared[text.kind]
        if len(without(text.counted, shared.template)) < MANY and not self._is_told_by_order(text):
            return None
        left = without(text.ngrams, shared.ngram_template)
        return _weighed(left, shared.ngram_common) if len(left) else None

    def _is_told_by_order(self, text: Text) -> bool:
        """Whether more n-grams than its tokens account for are outside the template: same words, in other orders."""
        shared = self._shared[text.kind]
        num_tokens = len(without(text.counted, shared.template))
        return len(without(text.ngrams, shared.ngram_template)) > N * num_tokens

    def likeness_of_words(self, a: Text, b: Text) -> float:
        """Compare two short texts by what is outside their templates; of two kinds, also by what only one says."""
        ours, theirs = self._shared[a.kind], self._shared[b.kind]
        left = without(a.counted, ours.template), without(b.counted, theirs.template)
        likeness = jaccard(_weighed(left[0], ours.common), _weighed(left[1], theirs.common))
        if a.kind == b.kind:
            return likeness
        both = np.intersect1d(ours.own_template, theirs.own_template, assume_unique=True)
        return min(likeness, jaccard(without(a.counted, both), without(b.counted, both)))

    def likeness_of_quantities(self, a: Text, b: Text) -> float:
        """Compare the numbers and operators outside the templates; 1 where neither text has any."""
        return jaccard(*(without(text.quantities, self._shared[text.kind].template) for text in (a, b)))


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


def _weighed(features: Hashes, common: Hashes) -> Hashes:
    """Features once, and again, under another hash, those that are not common."""
    rare = without(features, common)
    return np.unique(np.concatenate([features, _mixed(rare, np.full(len(rare), 2))]))


def _counted(tokens: NDArray[Any]) -> Hashes:
    """Hash entries with their counts, so that the second of equal ones differs from the first."""
    seen = defaultdict[int, Iterator[int]](count)
    return np.unique(_mixed(tokens, np.array([next(seen[token]) for token in tokens.tolist()], np.int64)))


def _shared_by_kind(texts: Sequence[Text]) -> Mapping[Kind, Shared]:
    by_group = defaultdict[tuple[str, ...], list[Text]](list)
    for text in texts:
        for group in _groups(text.kind):
            by_group[group].append(text)
    shared = {group: _shared(own) for group, own in by_group.items()}
    found = {}
    for kind in {text.kind for text in texts}:
        parts = [shared[group] for group in _groups(kind)]
        joined = (np.unique(np.concatenate(sets)) for sets in zip(*parts, strict=True))
        found[kind] = Shared(*joined)._replace(own_template=parts[-1].own_template)
    return found


def _groups(kind: Kind) -> tuple[tuple[str, ...], ...]:
    return (), kind[:1], kind


def _shared(texts: Sequence[Text]) -> Shared:
    """Find the features that many of these texts have; equal texts count once."""
    distinct = list({text.tokens.tobytes(): text for text in texts}.values())
    looked_at = distinct[:: max(1, len(distinct) // LOOKED_AT)]
    template, common = _frequent([text.counted for text in looked_at])
    return Shared(template, common, *_frequent([text.ngrams for text in looked_at]), template)


def _frequent(sets: Sequence[Hashes]) -> tuple[Hashes, Hashes]:
    features, counts = np.unique(np.concatenate(sets), return_counts=True)
    template, common = (counts > max(AT_LEAST, share * len(sets)) for share in (TEMPLATE, COMMON))
    return features[template], features[common]


def _mixed(*columns: NDArray[Any]) -> Hashes:
    """Hash rows of small numbers to 64 bits, well enough that two of ten million rarely meet."""
    mixed = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        mixed = scattered((mixed ^ column.astype(np.uint64)) + GOLDEN)
    return mixed
