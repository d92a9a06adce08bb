"""How the arms of the bandits stood after a step, one record each, made when it is asked for.

Ten thousand records take as long as a whole step of a small policy, and seldom are they wanted: the ledger keeps the
states of few arms only, and a live view draws a few times a second.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import overload

from orchestrator.bandits.contracts import Standing
from store.records import EVERYTHING, ArmRecord


class ArmStates(Sequence[ArmRecord]):
    """The arms of bandits as these stood, by the bandits' names."""

    def __init__(self, standings: Mapping[str, Standing]) -> None:
        self._standings = dict(standings)

    def kept(self, most: int, asked: Collection[str]) -> ArmStates:
        """Give those that a record keeps: all up to `most`, else those of bandits that were asked, and the scheduler's.

        A bandit that nobody asks stays as it is.
        """
        if len(self) <= most:
            return self
        return ArmStates({name: one for name, one in self._standings.items() if name in asked or name == EVERYTHING})

    @cached_property
    def _records(self) -> list[ArmRecord]:
        return [
            ArmRecord(name, arm, probability, None if math.isnan(value) else value, num_picks)
            for name, one in self._standings.items()
            for arm, probability, value, num_picks in zip(
                one.arms, one.probabilities.tolist(), one.estimates.tolist(), one.num_picks.tolist(), strict=True
            )
        ]

    def __len__(self) -> int:
        return sum(len(one.arms) for one in self._standings.values())

    @overload
    def __getitem__(self, at: int) -> ArmRecord: ...
    @overload
    def __getitem__(self, at: slice) -> list[ArmRecord]: ...
    def __getitem__(self, at: int | slice) -> ArmRecord | list[ArmRecord]:
        return self._records[at]
