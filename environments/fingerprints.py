"""What values contain, as a hash that is the same in every process."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # in a `repr`


def fingerprint(value: Any) -> str:
    """Hash any value by its content, in any process and however hashes are seeded; 16 hex digits."""
    return hashlib.sha256(json.dumps(_canonical(value)).encode()).hexdigest()[:16]


def _canonical(value: Any) -> Any:
    """Reduce a value to nested lists of strings in an order that follows from the content alone."""
    if value is None or isinstance(value, str | int | float | complex | bytes):
        return [type(value).__name__, repr(value)]
    if isinstance(value, Mapping):
        return ["map", sorted(([_canonical(k), _canonical(v)] for k, v in value.items()), key=json.dumps)]
    if isinstance(value, set | frozenset):
        return ["set", sorted((_canonical(item) for item in value), key=json.dumps)]
    if isinstance(value, list | tuple):
        return ["list", [_canonical(item) for item in value]]
    if isinstance(value, np.ndarray):
        return ["array", str(value.dtype), list(value.shape), _canonical(value.tolist())]
    if getattr(value, "__dict__", None) and not callable(value):
        return [type(value).__qualname__, _canonical(vars(value))]
    return [type(value).__qualname__, ADDRESS.sub("", repr(value))]
