"""Mutations of what a spec says: keys and values of a tree."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from random import Random
from typing import Any

from tests.fuzz.values import TEXTS, odd

Place = tuple[Any, Any]  # a map or a list, and a key of it


def mutated(tree: Any, rng: Random) -> Any:
    """Change a copy of a tree in one to three ways."""
    made = copy.deepcopy(tree)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        rng.choice(WAYS)(made, rng)
    return made


def nudged(tree: Any, rng: Random) -> Any:
    """Change a number or two of a copy."""
    made = copy.deepcopy(tree)
    for _ in range(rng.choice([1, 2])):
        _nudge(made, rng)
    return made


def places(tree: Any) -> Iterator[Place]:
    """List every place of a tree."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(pairs):
        yield tree, key
        yield from places(value)


def _place(tree: Any, rng: Random) -> Place:
    return rng.choice([*places(tree), (tree, "more")])


def _replace(tree: Any, rng: Random) -> None:
    at, key = _place(tree, rng)
    at[key] = odd(rng)


def _nudge(tree: Any, rng: Random) -> None:
    """Move a number out of its range, or only somewhere else."""
    numbers = [(at, key) for at, key in places(tree) if type(at[key]) in (int, float)]
    if numbers:
        at, key = rng.choice(numbers)
        now = at[key]
        at[key] = rng.choice(
            [0, -now, now * 1000, now + 1, now / 3 if abs(now) < 1e9 else 0.5, str(now), 1 - now, [now]]
        )


def _delete(tree: Any, rng: Random) -> None:
    at, key = _place(tree, rng)
    if isinstance(at, dict):
        at.pop(key, None)
    else:
        del at[key]


def _rename(tree: Any, rng: Random) -> None:
    at, key = _place(tree, rng)
    if isinstance(at, dict) and key in at:
        text = str(key)
        spot = rng.randrange(len(text) + 1)
        at[rng.choice([text[:spot] + text[spot + 1 :], text + "s", text.upper(), 3, rng.choice(TEXTS)])] = at.pop(key)


def _add(tree: Any, rng: Random) -> None:
    at, _ = _place(tree, rng)
    if isinstance(at, dict):
        at[rng.choice(["type", "more", "name", "seed", rng.choice(TEXTS)])] = odd(rng)
    else:
        at.append(odd(rng))


def _move(tree: Any, rng: Random) -> None:
    """Put what stands in one place into another too."""
    (source, key), (target, other) = _place(tree, rng), _place(tree, rng)
    if isinstance(source, list) or key in source:
        target[other] = copy.deepcopy(source[key])


def _swap(tree: Any, rng: Random) -> None:
    found = list(places(tree))
    if len(found) > 1:
        (a, i), (b, j) = rng.sample(found, 2)
        first, second = copy.deepcopy(a[i]), copy.deepcopy(b[j])
        a[i] = second
        if isinstance(b, list) and not (isinstance(j, int) and j < len(b)):
            return
        b[j] = first


def _wrap(tree: Any, rng: Random) -> None:
    at, key = _place(tree, rng)
    if isinstance(at, list) or key in at:
        at[key] = rng.choice([[at[key]], {"type": at[key]}, {"a": at[key]}, [at[key], copy.deepcopy(at[key])]])


WAYS = (*[_replace] * 3, *[_nudge] * 4, _delete, _rename, _add, _move, _swap, _wrap)
