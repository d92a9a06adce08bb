"""What goes wrong with a policy, addressed to a person: what was expected, what was found, what to do."""

from __future__ import annotations

import traceback
from pathlib import Path


class PolicyError(Exception):
    """A policy cannot be made, read, played or updated as asked."""


class ModelNotFoundError(PolicyError):
    """A model folder is not there or not complete, or a hub name cannot be reached."""


class VocabularyError(PolicyError):
    """A text holds characters that a closed vocabulary has no token for."""


class NonFiniteLogits(PolicyError):
    """The policy has diverged: logits are NaN or infinite, and nothing can be drawn or learned from them."""

    def __init__(self, text: str, version: int) -> None:
        super().__init__(text)
        self.version = version  # of the weights that gave them


class CheckpointError(PolicyError):
    """Saved weights or optimiser state do not fit this policy."""


def from_file(error: BaseException) -> str:
    """What a user's code raised while it was imported, and in which line: "ValueError: no table, in damped.py:12"."""
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, SyntaxError):
        return said  # says its file and line itself
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{said}, in {Path(last.filename).name}:{last.lineno}"
