"""The evaluation once more, after an intervention: the same environments, tasks, samples and random numbers.

No scheduler sees it; what a boundary measured stays what it measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from typing_extensions import override

from orchestrator.measurements.contracts import Findings, Measurement, Tell
from orchestrator.measurements.evaluation import Evaluation
from orchestrator.progress import Progress
from orchestrator.rollout.player import Player
from orchestrator.stopwatch import Stopwatch
from store.records import INTERVENTION


class Aftermath(Measurement):
    """Cells with the split "intervened", of the anchor tasks; items and completions stay those of the boundary."""

    name = INTERVENTION

    def __init__(self, on_anchors: Evaluation) -> None:
        self.on_anchors = on_anchors

    @override
    def is_due(self, at: Progress) -> bool:
        return False  # asked for by an intervention alone

    @override
    def of(self, environments: Sequence[str]) -> Aftermath:
        return Aftermath(self.on_anchors.of(environments))

    @override
    def run(self, player: Player, at: Progress, watch: Stopwatch, tell: Tell) -> Findings:
        found = self.on_anchors.run(player, at, watch, tell)
        self.passes = self.on_anchors.passes
        cells = [replace(cell, split="intervened") for cell in found.cells]
        return Findings(found.config, cells, events=found.events, entropies=found.entropies)
