"""Processes of this machine, as Linux lists them in /proc; what ends while it is read counts as ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class ProcessFacts:
    """What Linux tells of a process that has not ended."""

    pid: int
    parent: int
    begun: int  # clock ticks since the machine's start: with the id, one process for good
    words: tuple[bytes, ...]  # of its command line

    @classmethod
    def of(cls, pid: int) -> ProcessFacts | None:
        """Look at a process; None where it has ended, also where its parent has not asked how yet."""
        try:
            fields = (PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
            words = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):  # gone before, or while, its file is read
            return None
        return None if fields[0] in b"ZX" else cls(pid, int(fields[1]), int(fields[19]), tuple(words))


def everyone() -> list[ProcessFacts]:
    """Look at all processes; elsewhere than on Linux there are none to see."""
    found = (ProcessFacts.of(int(folder.name)) for folder in PROC.glob("[0-9]*"))
    return [one for one in found if one is not None]


def children_of(pid: int) -> list[int]:
    """Find the processes that one has started."""
    return [one.pid for one in everyone() if one.parent == pid]


def below(pid: int) -> list[ProcessFacts]:
    """Find the processes that descend from one, each after its parent."""
    every, found, above = everyone(), list[ProcessFacts](), [pid]
    while above:
        newest = [one for one in every if one.parent in above]
        found += newest
        above = [one.pid for one in newest]
    return found


def any_running(pids: Iterable[int]) -> bool:
    """Whether one of them has not ended."""
    return any(ProcessFacts.of(pid) is not None for pid in pids)
