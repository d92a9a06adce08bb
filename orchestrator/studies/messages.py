"""What crosses the pipes between a study and the process that its runs are forked from: a line of JSON each."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class RunRequest:
    """One run, to its own process."""

    home: str
    name: str  # of the run, exactly
    log: str  # the file that it prints into
    spec: dict[str, Any]  # resolved
    member: dict[str, Any]  # the fields of a `MemberRecord`


@dataclass(frozen=True)
class Order:
    """From the study: start a job, or send a signal to one that goes."""

    name: str
    job: RunRequest | None = None
    signal: int = 0


@dataclass(frozen=True)
class RunEnd:
    """To the study: a run has ended."""

    name: str
    exit_code: int  # below 0: minus the signal that killed it


def write(message: Order | RunEnd) -> bytes:
    """Write a message as a line."""
    return json.dumps(asdict(message)).encode() + b"\n"


def read_order(line: bytes) -> Order:
    """Read an order from its line."""
    raw = json.loads(line)
    return Order(raw["name"], RunRequest(**raw["job"]) if raw["job"] else None, raw["signal"])


def read_report(line: bytes) -> RunEnd:
    """Read a report from its line."""
    return RunEnd(**json.loads(line))


class Lines:
    """Bytes as they arrive, given out in whole lines."""

    def __init__(self) -> None:
        self._rest = b""

    def add(self, data: bytes) -> list[bytes]:
        """Take in what has arrived; the lines that it ends."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines
