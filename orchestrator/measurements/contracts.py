"""What a measurement is: it looks at the policy without moving it, with random streams of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from environments import Task
from orchestrator.progress import Progress
from orchestrator.rollout.player import Player
from orchestrator.stopwatch import Stopwatch
from store.records import (
    CellRecord,
    EventRecord,
    HoldoutQueryRecord,
    ItemRecord,
    MeasurementRecord,
    NetworkRecord,
    ProbeRecord,
    SampleRecord,
)


@dataclass(frozen=True)
class Findings:
    """What a measurement found, ready to be recorded."""

    config: Mapping[str, Any]  # generation settings: values under different ones are never compared
    cells: Sequence[CellRecord]
    items: Sequence[ItemRecord] = ()
    samples: Sequence[SampleRecord] = ()
    events: Sequence[EventRecord] = ()
    network: Sequence[NetworkRecord] = ()
    probes: Sequence[ProbeRecord] = ()
    queries: Sequence[HoldoutQueryRecord] = ()  # looks that can change a decision
    measurements: Sequence[MeasurementRecord] = ()  # what looking cost
    entropies: Mapping[str, float] = field(default_factory=dict)  # nats a token by "environment/category"
    scores: Mapping[str, float] = field(default_factory=dict)  # by environment: what a scheduler may look at
    # by environment that is trained on: names of the parts that any of its scores has; not where none could be scored
    components: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @staticmethod
    def joined(found: Sequence[Findings]) -> Findings:
        """What several measurements found as one, so that a boundary has one record: with the first one's settings."""
        return Findings(
            config=found[0].config,
            cells=[cell for one in found for cell in one.cells],
            items=[item for one in found for item in one.items],
            samples=[sample for one in found for sample in one.samples],
            events=[event for one in found for event in one.events],
            network=[number for one in found for number in one.network],
            probes=[probe for one in found for probe in one.probes],
            queries=[query for one in found for query in one.queries],
            measurements=[cost for one in found for cost in one.measurements],
            entropies={name: value for one in found for name, value in one.entropies.items()},
            scores={name: value for one in found for name, value in one.scores.items()},
            components={name: names for one in found for name, names in one.components.items()},
        )


HeldOut = Mapping[str, Mapping[str, Sequence[Task]]]  # environment -> category -> tasks
Tell = Callable[[str, int, int], None]  # what is being measured just now in words, parts done, parts in all


class Measurement(ABC):
    """One entry of the list that the curriculum goes through at boundaries.

    `passes` is in the unit of `measurements.budget`: a sample forward is 1, forward and backward 3, times its length
    beside the training's samples. It is known when the measurement is made, from the spec and the held-out tasks alone:
    a plan is made before there is a policy. One whose looks differ says after `run` what this one took; that is what is
    recorded.
    """

    name: str
    plays: bool = False  # first of all; the others begin with what memory the sampler can do without
    passes: float = 0.0  # cost of one look, at most as planned; 0: it only reads what is there

    def save(self, folder: Path) -> None:  # noqa: B027 - most have nothing to keep
        """Write what it keeps from one boundary to the next into an empty folder of its own."""

    def load(self, folder: Path) -> None:  # noqa: B027
        """Go on from what `save` wrote."""

    def forget(self) -> None:  # noqa: B027
        """Let go of what the other measurements of a boundary read of this one: all of them are done."""

    @abstractmethod
    def is_due(self, at: Progress) -> bool:
        """Whether to measure here."""

    @abstractmethod
    def of(self, environments: Sequence[str]) -> Measurement:
        """The same measurement of these environments only."""

    @abstractmethod
    def run(self, player: Player, at: Progress, watch: Stopwatch, tell: Tell) -> Findings:
        """Measure; the policy, the optimiser and every training stream stay as they are."""
