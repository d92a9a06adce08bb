"""The evaluation once more, after an intervention: the same environments, tasks, samples and random numbers.

Where the boundary read the network's frozen rows, they are read once more too: entropy_fixed, kl_prev and flip_prev,
without generation. No scheduler sees it; what a boundary measured stays what it measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from typing_extensions import override

from orchestrator.measurements.contracts import Findings, Measurement, Tell
from orchestrator.measurements.evaluation import Evaluation
from orchestrator.measurements.network_reading import Network
from orchestrator.progress import Progress
from orchestrator.rollout.player import Player
from orchestrator.stopwatch import Stopwatch
from store.records import INTERVENTION


class Aftermath(Measurement):
    """Cells with the split "intervened", of the anchor tasks; items and completions stay those of the boundary."""

    name, plays = INTERVENTION, True

    def __init__(self, on_anchors: Evaluation, network: Network | None = None) -> None:
        self.on_anchors, self.network = on_anchors, network

    @override
    def is_due(self, at: Progress) -> bool:
        return False  # asked for by an intervention alone

    @override
    def of(self, environments: Sequence[str]) -> Aftermath:
        network = None if self.network is None else self.network.of(environments)
        return Aftermath(self.on_anchors.of(environments), network)

    @override
    def run(self, player: Player, at: Progress, watch: Stopwatch, tell: Tell) -> Findings:
        found = self.on_anchors.run(player, at, watch, tell)
        player.sampler.make_room()
        fixed = [] if self.network is None else self.network.once_more(at, tell)
        self.passes = self.on_anchors.passes + (self.network.passes if self.network is not None and fixed else 0.0)
        cells = [replace(cell, split="intervened") for cell in (*found.cells, *fixed)]
        return Findings(found.config, cells, events=found.events, entropies=found.entropies)
