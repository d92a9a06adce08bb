"""How the arms of the bandits stood after a step, one record each, made when it is asked for.

Ten thousand records take as long as a whole step of a small policy, and seldom are they wanted: the ledger keeps the
states of few arms only, and a live view draws a few times a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import overload

from orchestrator.bandits.contracts import Bandit
from store.records import ArmRecord


class ArmStates(Sequence[ArmRecord]):
    """The arms of these bandits, by the bandits' names, as they stand now; later feedback changes nothing here."""

    def __init__(self, bandits: Mapping[str, Bandit]) -> None:
        self._read = [(name, one.probabilities(), one.values(), one.num_picks) for name, one in bandits.items()]

    @cached_property
    def _records(self) -> list[ArmRecord]:
        return [
            ArmRecord(name, arm, probability, values[arm], num_picks[arm])
            for name, probabilities, values, num_picks in self._read
            for arm, probability in probabilities.items()
        ]

    def __len__(self) -> int:
        return sum(len(probabilities) for _, probabilities, _, _ in self._read)

    @overload
    def __getitem__(self, at: int) -> ArmRecord: ...
    @overload
    def __getitem__(self, at: slice) -> list[ArmRecord]: ...
    def __getitem__(self, at: int | slice) -> ArmRecord | list[ArmRecord]:
        return self._records[at]
