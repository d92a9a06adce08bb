"""Groups of tasks that are alike: of the words in their prompts, or of vectors that somebody else computed.

TF-IDF with sublinear counts; k-means for `clusters`. A tree begins with all tasks and splits its largest leaf in two by
k-means until there are so many leaves: a bisecting k-means, whose nodes a bandit can choose at. That a
curriculum's arms are a tree of clusters of the policy's hidden states is from arXiv 2606.19750, of which the abstract
and its authors' summary were read and not the algorithm: this is no reproduction of theirs.

Every seed is fixed, so equal tasks give equal groups on one machine.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEED = 0
MOST_TERMS = 20_000  # of the vocabulary
RESTARTS = 4  # of k-means: the best of so many
TOKEN = r"(?u)\b\w+\b|[^\w\s]"  # of the vectors
WORD = r"(?u)[^\W\d_]{2,}"  # of a name: letters alone
SMALLEST = 8  # a leaf of a tree has at least the N-th part of an equal share
DIGIT = re.compile(r"\d")  # all are alike: a number is told by its length, else each would be a word of its own
LONGEST_TERM = 12  # letters in a name, of any script


@dataclass(frozen=True)
class Groups:
    """Which group each of N tasks is in."""

    labels: NDArray[np.int64]  # [N], a place in `names`
    names: tuple[str, ...]
    nodes: tuple[tuple[int, ...], ...] = ()  # of a tree: the way from its root to each group


def group_texts(texts: Sequence[str], count: int, terms: int, *, as_tree: bool) -> Groups:
    """Group texts by their words: at most `count` groups, named by their heaviest `terms`."""
    with _surroundings_kept():
        vectors = _tf_idf(texts)
    return group_vectors(vectors, texts, count, terms, as_tree=as_tree)


def group_vectors(vectors: Any, texts: Sequence[str], count: int, terms: int, *, as_tree: bool) -> Groups:
    """Group rows of a matrix [N, d], dense or sparse; the names come from the words of the texts."""
    with _surroundings_kept():
        if as_tree:
            ways = _tree(vectors, count)
        else:
            found = _k_means(vectors, np.arange(len(texts)), min(count, len(texts)))
            ways = [(int(label),) for label in found]
        ordered = sorted(set(ways))
        labels = np.array([ordered.index(way) for way in ways], np.int64)
        heaviest = _heaviest(texts, labels, len(ordered), terms)
    places = [".".join(map(str, way)) for way in ordered] if as_tree else [f"{k:02d}" for k in range(len(ordered))]
    names = tuple("-".join(("slice", place, *words)) for place, words in zip(places, heaviest, strict=True))
    return Groups(labels, names, tuple(ordered) if as_tree else ())


@contextmanager
def _surroundings_kept() -> Iterator[None]:
    """Leave Python's global generator and the variables as they are: importing scikit-learn changes both.

    Its variables are for OpenMP as that is loaded, which it is by the end of the block.
    """
    before, variables = random.getstate(), dict(os.environ)
    try:
        yield
    finally:
        random.setstate(before)
        for name in os.environ.keys() - variables.keys():
            del os.environ[name]


def _tf_idf(texts: Sequence[str]) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        return TfidfVectorizer(sublinear_tf=True, max_features=MOST_TERMS, token_pattern=TOKEN).fit_transform(
            [DIGIT.sub("0", text) for text in texts]
        )
    except ValueError:  # no text has a word
        return np.zeros((len(texts), 1))


def _k_means(vectors: Any, rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Group some rows; groups are numbered by their first row, without gaps: fewer where rows are alike."""
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different rows than groups
        raw = KMeans(count, n_init=RESTARTS, random_state=SEED).fit_predict(vectors[rows])
    order = list(dict.fromkeys(raw.tolist()))
    return np.array([order.index(label) for label in raw.tolist()], np.int64)


def _tree(vectors: Any, count: int) -> list[tuple[int, ...]]:
    """Split the largest leaf in two until there are `count`, or none can be split; gives each row's way.

    What would leave a tiny half is not split: such a leaf would have no task to evaluate.
    """
    num_rows: int = vectors.shape[0]
    leaves: dict[tuple[int, ...], NDArray[np.int64]] = {(): np.arange(num_rows)}
    whole: set[tuple[int, ...]] = set()  # leaves whose rows are alike, or one of whose halves would be tiny
    least = max(1, num_rows // (SMALLEST * count))
    while len(leaves) < count and (
        open_ := [way for way, rows in leaves.items() if way not in whole and len(rows) > 1]
    ):
        way = min(open_, key=lambda one: (-len(leaves[one]), one))
        rows = leaves[way]
        halves = _k_means(vectors, rows, 2)
        if halves.max() == 0 or min(np.bincount(halves)) < least:
            whole.add(way)
            continue
        del leaves[way]
        leaves |= {(*way, branch): rows[halves == branch] for branch in (0, 1)}
    ways: list[tuple[int, ...]] = [()] * num_rows
    for way, rows in leaves.items():
        for row in rows.tolist():
            ways[row] = way or (0,)
    return ways


def _heaviest(texts: Sequence[str], labels: NDArray[np.int64], count: int, terms: int) -> list[list[str]]:
    """Find the words of each group that weigh more in it than in all."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    if terms == 0:
        return [[] for _ in range(count)]
    vectorizer = TfidfVectorizer(sublinear_tf=True, max_features=MOST_TERMS, token_pattern=WORD)
    try:
        weights = vectorizer.fit_transform(texts)
    except ValueError:  # no text has a word of letters
        return [[] for _ in range(count)]
    words = vectorizer.get_feature_names_out()
    mean = np.asarray(weights.mean(axis=0)).ravel()
    found = []
    for group in range(count):
        own = np.asarray(weights[np.flatnonzero(labels == group)].mean(axis=0)).ravel() - mean
        best = [k for k in np.argsort(-own, kind="stable")[:terms] if own[k] > 0]
        found.append(["".join(filter(str.isalnum, str(words[k]).lower()))[:LONGEST_TERM] or "x" for k in best])
    return found
