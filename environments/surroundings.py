"""What foreign code may not leave behind: global generators, which are lent to it, imports' traces, forks of a process.

Games and graders draw from `random` and `numpy.random`; what they draw must follow from their task, and nobody else's
numbers may.
"""

from __future__ import annotations

import importlib
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np

from environments.contracts import import_extra


class OwnRandomState:
    """States of `random` and `numpy.random` of one episode's own, in force inside `lent`."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._states: tuple[Any, Any] | None = None  # None: it was never lent

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Put this state in place of the process's; afterwards put that back, and keep how far this one came."""
        python, numpy = random.getstate(), np.random.get_state()
        if self._states is None:  # seeded in place: numpy takes .4 ms to make another generator and read its state
            random.seed(self._seed)
            np.random.seed(self._seed % 2**32)
        else:
            random.setstate(self._states[0])
            np.random.set_state(self._states[1])
        try:
            yield
        finally:
            self._states = random.getstate(), np.random.get_state()
            random.setstate(python)
            np.random.set_state(numpy)


@contextmanager
def forks_ended() -> Iterator[None]:
    """End a fork of this process that foreign code within made, where it comes out: it would go on as this one does.

    A child that computes apart may raise, return or call `sys.exit`, and would then answer or train beside its parent.
    """
    own = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != own:
            os._exit(1)


def generator_states() -> dict[str, object]:
    """Take the states of the process's global generators, to compare with those of another time."""
    _, keys, *position = np.random.get_state(legacy=True)
    torch = _torch()
    return {
        "random": random.getstate(),
        "numpy.random": (np.asarray(keys).tobytes(), *position),
        "torch": None if torch is None else torch.get_rng_state().numpy().tobytes(),
    }


class GeneratorWatch:
    """Tells whether the process's global generators are used within: seeded, or drawn from.

    Within, each goes on from a seed that it drew itself and nobody else would choose: what seeds it anew, as episodes
    of one task do alike, cannot end where it began. Those that are not used are then as they were before.
    """

    was_used: bool  # afterwards

    def __enter__(self) -> Self:
        self._torch = _torch()
        self._before = random.getstate(), np.random.get_state(), self._torch and self._torch.get_rng_state()
        seeds = self._draw()
        self._seed(seeds)
        self._first = self._draw()
        self._seed(seeds)
        return self

    def __exit__(self, *error: object) -> None:
        python, numpy, torch = self._before
        is_unused = [now == first for now, first in zip(self._draw(), self._first, strict=True)]
        self.was_used = not all(is_unused) or _torch() is not self._torch  # imported within: nobody looked
        if is_unused[0]:
            random.setstate(python)
        if is_unused[1]:
            np.random.set_state(numpy)
        if is_unused[2] and self._torch is not None:
            self._torch.set_rng_state(torch)

    def _draw(self) -> tuple[int, int, int]:
        """Draw a number from each."""
        torch = 0 if self._torch is None else int(self._torch.randint(2**62, ()))
        return random.getrandbits(64), int(np.random.randint(2**32, dtype=np.uint32)), torch

    def _seed(self, seeds: tuple[int, int, int]) -> None:
        random.seed(seeds[0])
        np.random.seed(seeds[1])
        if self._torch is not None:
            self._torch.default_generator.manual_seed(seeds[2])


def _torch() -> Any:
    """Give torch where it is there; None while it is being imported, too."""
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "get_rng_state") and hasattr(torch, "default_generator") else None


def import_apart(module: str, package: str, type_: str) -> Any:
    """Import a module of an optional package for a type, leaving generators and environment variables as they were.

    Raises EnvironmentFault where the package is not installed.
    """
    if sys.modules.get(module) is not None:  # it is asked for with every game
        return importlib.import_module(module)
    variables = dict(os.environ)
    try:
        with OwnRandomState(0).lent():
            needs = f"environments of type {type_} need the package {package}"
            return import_extra(module, needs, f"'evergreen-rl[{type_.replace('_', '-')}]'")
    finally:
        for name in set(os.environ) - set(variables):
            del os.environ[name]
