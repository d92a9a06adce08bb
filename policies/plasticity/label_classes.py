"""The classes that a linear probe can tell apart: those with an item for every fold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

FOLDS = 5


def classes_to_tell(labels: Iterable[str]) -> dict[str, int]:
    """Count the items of each class that has one for every fold."""
    return {label: num for label, num in Counter(labels).items() if num >= FOLDS}
