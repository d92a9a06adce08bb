"""How the arms of the bandits stood after a step, one record each, made when it is asked for.

Ten thousand records take as long as a whole step of a small policy, and seldom are they wanted: the ledger keeps the
states of few arms only, and a live view draws a few times a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple, overload

from orchestrator.bandits.contracts import Bandit
from store.records import ArmRecord


class Standing(NamedTuple):
    """How the arms of a bandit stand; later feedback changes nothing here."""

    probabilities: Mapping[str, float]
    values: Mapping[str, float | None]
    num_picks: Mapping[str, int]

    @classmethod
    def of(cls, bandit: Bandit) -> Standing:
        """Read them."""
        return cls(bandit.probabilities(), bandit.values(), bandit.num_picks)


class ArmStates(Sequence[ArmRecord]):
    """The arms of bandits as these stood, by the bandits' names."""

    def __init__(self, standings: Mapping[str, Standing]) -> None:
        self._standings = dict(standings)

    @cached_property
    def _records(self) -> list[ArmRecord]:
        return [
            ArmRecord(name, arm, probability, values[arm], num_picks[arm])
            for name, (probabilities, values, num_picks) in self._standings.items()
            for arm, probability in probabilities.items()
        ]

    def __len__(self) -> int:
        return sum(len(one.probabilities) for one in self._standings.values())

    @overload
    def __getitem__(self, at: int) -> ArmRecord: ...
    @overload
    def __getitem__(self, at: slice) -> list[ArmRecord]: ...
    def __getitem__(self, at: int | slice) -> ArmRecord | list[ArmRecord]:
        return self._records[at]
