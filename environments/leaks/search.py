"""The search for leaks: tasks of all environments, held out against to train on.

Pairs of similar sets are found by MinHash, banded (LSH), then compared exactly. Source: Broder, "On the resemblance and
containment of documents" (1997); library `datasketch`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from environments.contracts import Category, Environment, Pool, import_extra
from environments.display import Tell
from environments.leaks.texts import Hashes, Text, TextReader, Views, jaccard
from environments.pools import belongs, make_task

MOST = 20_000  # tasks of a category to train on, and as many held out
MOST_IN_ALL = 200_000  # on each side
ENDLESS = 1_000  # tasks of a category that never ends
REPORT_EVERY = 500  # tasks
MOST_CHARACTERS = 2_000  # of a text that is shown
NUM_HASHES = 128  # at most
RECALL = 0.999  # share of pairs just at the threshold that become candidates
AT_ONCE = 500  # sets hashed together

How = Literal["same text", "other order", "similar"]


@dataclass(frozen=True)
class TaskPlace:
    """Where a task is."""

    environment: str
    category: str
    index: int
    pool: Pool
    where: str | None = None  # in a file of the user's own
    text: str = ""  # the conversation, its first `MOST_CHARACTERS`


@dataclass(frozen=True)
class Leak:
    """A held-out task and the training task that is most like it."""

    similarity: float  # weighted Jaccard, of what is compared: see `texts`
    how: How
    held_out: TaskPlace
    training: TaskPlace


@dataclass(frozen=True)
class Looked:
    """What of a category was looked at."""

    environment: str
    category: str
    size: int | None  # None: it never ends
    is_part: bool  # not all of it
    num_training: int  # different tasks looked at
    num_held_out: int


@dataclass(frozen=True)
class Leaks:
    """What was found."""

    threshold: float
    num_leaks: int  # held-out tasks with a training task like them
    num_held_out: int  # looked at
    num_training: int
    by_how: Mapping[str, int]
    by_environment: Mapping[str, tuple[int, int]]  # of held-out tasks: leaks, and looked at
    leaks: Sequence[Leak]  # all of them, the most alike first
    looked: Sequence[Looked]
    closed: Sequence[str]  # environments that are evaluated on their own tasks: not looked at


class _Task(NamedTuple):
    place: TaskPlace
    text: Text


class _Match(NamedTuple):
    similarity: float
    how: How
    training: _Task

    @property
    def rank(self) -> tuple[float, int]:
        return self.similarity, -get_args(How).index(self.how)


def find_leaks(
    environments: Mapping[str, Environment],
    threshold: float = 0.8,
    tell: Tell = lambda words: None,
    most: int = MOST,
) -> Leaks:
    """Find held-out tasks that are near-duplicates of training tasks, of any environment; closed ones are left out.

    Near-duplicates have a Jaccard similarity of `threshold`, in (0, 1], or more. Of a category at most `most` tasks are
    looked at on each side, evenly spaced ones.
    """
    reader, tasks, looked = TextReader(), [], []
    categories = [(one, own) for one in environments.values() if not one.closed for own in one.categories]
    most = min(most, max(1, MOST_IN_ALL // max(1, len(categories))))
    for environment, category in categories:
        indices, size = _indices(environment, category.name, most), environment.size(category.name)
        own = list(_tasks(environment, category, indices, reader, tell))
        tasks += own
        num_training = sum(task.place.pool == "train" for task in own)
        is_part = size is None or len(indices) < size
        counts = num_training, len(own) - num_training
        looked.append(Looked(environment.name, category.name, size, is_part, *counts))
    training = [task for task in tasks if task.place.pool == "train"]
    held_out = [task for task in tasks if task.place.pool != "train"]
    found = _matches(training, held_out, threshold, tell)
    ranked = sorted(found, key=lambda place: (*(-rank for rank in found[place].rank), place))
    leaks_in = Counter(held_out[place].place.environment for place in found)
    held_out_in = Counter(task.place.environment for task in held_out)
    return Leaks(
        threshold,
        len(found),
        len(held_out),
        len(training),
        dict(Counter(match.how for match in found.values())),
        {name: (leaks_in[name], num) for name, num in held_out_in.items()},
        [_leak(environments, held_out[place], found[place]) for place in ranked],
        looked,
        [name for name, one in environments.items() if one.closed],
    )


def _tasks(
    environment: Environment, category: Category, indices: Sequence[int], reader: TextReader, tell: Tell
) -> Iterator[_Task]:
    """Give the distinct tasks of a category that are trained on, and those that are held out."""
    seen: set[tuple[str, bool]] = set()
    for count, index in enumerate(indices):
        if count % REPORT_EVERY == 0:
            tell(f"reading {environment.name}.{category.name}, {count:,} tasks")
        task = make_task(environment, category.name, index)
        pool = next(pool for pool in get_args(Pool) if belongs(environment, task, pool))
        side = task.key, pool == "train"
        if side in seen or (pool == "train" and not category.trainable):
            continue
        seen.add(side)
        place = TaskPlace(environment.name, category.name, index, pool)
        yield _Task(place, reader.read((environment.name, category.name), task.messages))


def _indices(environment: Environment, category: str, most: int) -> Sequence[int]:
    """Choose the tasks to look at: all if they are few, else evenly spaced ones, of both sides where they are known."""
    size = environment.size(category)
    if size is None:
        return range(min(most, ENDLESS))
    pools = [environment.indices(category, pool) for pool in get_args(Pool)]
    known = [pool for pool in pools if pool is not None]
    if len(known) < len(pools):
        return _spaced(range(size), 2 * most)
    held_out = np.sort(np.concatenate(known[1:]))
    return [*_spaced(known[0].tolist(), most), *_spaced(held_out.tolist(), most)]


def _spaced(indices: Sequence[int], most: int) -> Sequence[int]:
    num = len(indices)
    return indices if num <= most else [indices[i * num // most] for i in range(most)]


def _matches(training: Sequence[_Task], held_out: Sequence[_Task], threshold: float, tell: Tell) -> dict[int, _Match]:
    by_text = {task.text.tokens.tobytes(): task for task in reversed(training)}
    same = ((place, by_text.get(task.text.tokens.tobytes())) for place, task in enumerate(held_out))
    found = {place: _Match(1.0, "same text", task) for place, task in same if task is not None}
    left = [place for place in range(len(held_out)) if place not in found]
    views = Views([task.text for task in (*training, *held_out)])
    for view in (views.words, views.ngrams):
        ours, theirs = _distinct(view, held_out, left), _distinct(view, training, range(len(training)))

        def say(count: int, total: int = len(ours) + len(theirs)) -> None:
            if count % REPORT_EVERY == 0:
                tell(f"comparing, {count:,} of {total:,} sets")

        pairs = candidates([f for f, _ in theirs], [f for f, _ in ours], threshold, say)
        for of_training, of_held_out in pairs:
            (features, (first, *_)), (kept, places) = theirs[of_training], ours[of_held_out]
            pair = training[first].text, held_out[places[0]].text
            is_of_words = view == views.words
            likeness = views.likeness_of_words(*pair) if is_of_words else jaccard(features, kept)
            similarity = min(likeness, views.likeness_of_quantities(*pair))
            for place in places if similarity >= threshold else ():
                a, b = (np.sort(task.text.tokens) for task in (training[first], held_out[place]))
                how: How = "other order" if np.array_equal(a, b) else "similar"
                match = _Match(similarity, how, training[first])
                if place not in found or match.rank > found[place].rank:
                    found[place] = match
    return found


def _distinct(
    view: Callable[[Text], Hashes | None], tasks: Sequence[_Task], places: Sequence[int]
) -> list[tuple[Hashes, list[int]]]:
    """Give the features of tasks, each once with the places of those that compare alike with any other task.

    Equal features are not enough: across categories words of the template count, and only some signs are quantities.
    """
    found: dict[tuple[object, bytes], tuple[Hashes, list[int]]] = {}
    for place in places:
        text = tasks[place].text
        features = view(text)
        if features is not None:
            compared = blake2b(digest_size=16)
            for part in (features, text.counted, text.quantities):
                compared.update(b"%d " % len(part) + part.tobytes())
            found.setdefault((text.kind, compared.digest()), (features, []))[1].append(place)
    return list(found.values())


def _leak(environments: Mapping[str, Environment], held_out: _Task, match: _Match) -> Leak:
    places = []
    for place in (held_out.place, match.training.place):
        task = make_task(environments[place.environment], place.category, place.index)
        text = "\n".join(message["content"] for message in task.messages)[:MOST_CHARACTERS]
        places.append(replace(place, where=environments[place.environment].where(task), text=text))
    return Leak(match.similarity, match.how, *places)


def bands(threshold: float) -> tuple[int, int]:
    """Choose numbers of bands and of rows in one: as many rows as leave the recall."""
    for rows in range(16, 1, -1):
        num = NUM_HASHES // rows
        if 1 - (1 - threshold**rows) ** num >= RECALL:  # the probability that two such sets share a band
            return num, rows
    return NUM_HASHES, 1


def candidates(
    queries: Sequence[Hashes], kept: Sequence[Hashes], threshold: float, tell: Callable[[int], None]
) -> Iterator[tuple[int, int]]:
    """Give pairs (of queries, of kept) that may be similar, with hardly one missing that is; `kept` is in memory."""
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
        yield from _library().MinHash.bulk(lists, num_perm=num_hashes, hashfunc=lambda feature: feature)


def _library() -> Any:
    return import_extra("datasketch", "looking for leaks needs the package datasketch", "datasketch")
