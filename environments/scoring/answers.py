"""A turn as text between processes: JSON of built-in types, so that reading it runs nothing."""

from __future__ import annotations

import json
from typing import Any

from environments.contracts import EnvironmentFault, Score, Turn

READY = b"ready"


def written(turn: Turn) -> bytes:
    """Write a checked turn."""
    score = turn.score
    found = None if score is None else [score.value, score.correct, dict(score.components), score.reason]
    messages = [dict(message) for message in turn.messages]
    return json.dumps([messages, found, turn.done]).encode()


def written_fault(fault: EnvironmentFault) -> bytes:
    """Write that an environment breaks its contract."""
    return json.dumps({"fault": str(fault)}).encode()


def read(answer: bytes) -> Turn:
    """Read a turn.

    Raises:
        EnvironmentFault: the answer is one.
        ValueError: it is neither.
    """
    found: Any = json.loads(answer)
    if isinstance(found, dict):
        raise EnvironmentFault(str(found["fault"]))
    messages, score, done = found
    return Turn(tuple(messages), None if score is None else Score(*score), bool(done))
