"""What foreign code may not leave behind: global generators lent to it and given back, imports that change nothing.

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
from typing import Any

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


def generator_states() -> dict[str, object]:
    """Take the states of the process's global generators, to compare with those of another time."""
    _, keys, *position = np.random.get_state(legacy=True)
    torch = sys.modules.get("torch")
    read = getattr(torch, "get_rng_state", None)  # None while it is being imported, too
    return {
        "random": random.getstate(),
        "numpy.random": (np.asarray(keys).tobytes(), *position),
        "torch": None if read is None else read().numpy().tobytes(),
    }


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
