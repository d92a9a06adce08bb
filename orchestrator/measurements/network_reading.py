"""The network as it is at a boundary, read on rows that stay the same; what is told of it is in `network`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from typing_extensions import override

from orchestrator.measurements.contracts import Findings, Measurement, Tell
from orchestrator.measurements.played_tasks import by_environment, split_of
from orchestrator.measurements.reading_options import NetworkOptions, network_passes, num_ranked
from orchestrator.measurements.surroundings import Surroundings
from orchestrator.played_group import Group
from orchestrator.progress import Progress
from orchestrator.rollout.player import Player
from orchestrator.stopwatch import Stopwatch
from policies.layers import decoder_layers, down_projections
from policies.models.description import files_of
from policies.plasticity import dormant, frozen_pass, ranks
from policies.plasticity.drift import Kept
from policies.plasticity.frozen_pass import Drift, FrozenPass
from policies.plasticity.frozen_rows import FrozenRows
from policies.plasticity.weights import MATRICES, WHOLE, WeightSums, saved_weights, weight_sums
from policies.policy import Policy
from store.records import CellRecord, EventRecord, NetworkRecord

STATE, BASE, PREVIOUS = "state.json", "base.safetensors", "previous.safetensors"


@dataclass
class Memory:
    """What is kept from boundary to boundary."""

    rows: FrozenRows | None = None
    base: Kept | None = None  # the followed distributions where their rows were taken
    previous: Kept | None = None  # where they were last read
    since: dict[str, int] = field(default_factory=dict)  # by environment: the stage after which its rows were taken
    stage: int | None = None  # after which it was last measured
    told: list[str] = field(default_factory=list)  # what cannot be told, each once

    def save(self, folder: Path) -> None:
        """Write it into an empty folder."""
        state = {"since": self.since, "stage": self.stage, "told": self.told}
        (folder / STATE).write_text(json.dumps(state), "utf-8")
        if self.rows is not None and self.base is not None and self.previous is not None:
            self.rows.save(folder)
            self.base.save(folder / BASE)
            self.previous.save(folder / PREVIOUS)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""
        state = json.loads((folder / STATE).read_text("utf-8"))
        self.since, self.stage, self.told = state["since"], state["stage"], state["told"]
        if (folder / BASE).is_file():
            self.rows = FrozenRows.load(folder)
            self.base, self.previous = Kept.load(folder / BASE), Kept.load(folder / PREVIOUS)


class Network(Measurement):
    """Reads the frozen rows at boundaries; `joining` tells environments that joined, and nothing of the network."""

    name = "network"

    def __init__(
        self, config: NetworkOptions, around: Surroundings, memory: Memory, joining: Sequence[str] = ()
    ) -> None:
        self.config, self.around, self.memory, self.joining = config, around, memory, joining
        self.num_ranked, self.passes = num_ranked(around, joining), network_passes(config, around, joining)

    @property
    def policy(self) -> Policy:
        """The policy that is measured."""
        return self.around.learner.policy

    @override
    def is_due(self, at: Progress) -> bool:
        return at.is_at_boundary

    @override
    def of(self, environments: Sequence[str]) -> Network:
        return Network(self.config, self.around, self.memory, environments)

    @override
    def save(self, folder: Path) -> None:
        self.memory.save(folder)

    @override
    def load(self, folder: Path) -> None:
        self.memory.load(folder)

    @override
    def run(self, player: Player, at: Progress, watch: Stopwatch, tell: Tell) -> Findings:
        if self.joining and self.memory.rows is None:
            return Findings({}, [])  # a fork that begins to measure does so at its first boundary, for all
        memory, events = self.memory, self._take_rows(at, tell)
        rows, before = memory.rows, {}
        if rows is None:
            return Findings({}, [], events=[*events, *self._say("no answer was played that could be frozen")])
        if memory.base is not None and memory.previous is not None:
            before = {"base": memory.base, "prev": memory.previous}
        read = self._read(rows, before, tell)
        cells = self._cells(rows, read, [name for name in rows.names if memory.since[name] < at.stage])
        if self.joining:
            return Findings({}, cells, events=events)
        network = [*self._units(read, events), *self._ranks(rows, read, events), *self._weights(at, events, tell)]
        memory.base = memory.base or read.now
        memory.previous, memory.stage = read.now, at.stage
        return Findings({}, cells, events=events, network=network)

    def once_more(self, at: Progress, tell: Tell) -> list[CellRecord]:
        """Read the rows again where the boundary read them and the policy was changed since; nothing if it did not.

        `prev` is the policy as the boundary measured it. That is also what the next boundary compares with, whose drift
        so has the change in it: nothing is kept of this pass.
        """
        rows, before, stage = self.memory.rows, self.memory.previous, self.memory.stage
        if rows is None or before is None or stage != at.stage:
            return []
        return self._cells(rows, self._read(rows, {"prev": before}, tell), rows.names)

    def _take_rows(self, at: Progress, tell: Tell) -> list[EventRecord]:
        """Freeze the rows of environments that have none yet; says so where that is not the base policy's."""
        memory, config = self.memory, self.config
        known = () if memory.rows is None else memory.rows.names
        played = {n: groups for n, groups in by_environment(self.around.evaluation.played).items() if n not in known}
        answers = {name: [_answers(group) for group in groups] for name, groups in played.items()}
        answers = {name: own for name, own in answers.items() if any(mask.any() for one in own for _, mask in one)}
        if not answers:
            return []
        share = config.positions * len(answers) // (len(answers) + len(known))
        taken = FrozenRows.take(
            answers,
            prompts=config.prompts,
            responses=config.responses,
            positions=share,
            ranked=self.num_ranked if memory.rows is None else 0,
        )
        if memory.rows is None:
            memory.rows = taken
        else:  # what they are compared with is how they are read now
            now = self._read(taken, {}, tell).now
            assert memory.base is not None
            assert memory.previous is not None
            memory.rows = memory.rows.and_those_of(taken)
            memory.base, memory.previous = (Kept.join([old, now]) for old in (memory.base, memory.previous))
        memory.since |= dict.fromkeys(answers, at.stage)
        if at.stage == 0:
            return []
        names = ", ".join(answers)
        return self._say(
            f"the rows of {names} were frozen after stage {at.stage}: what is called base is the policy of then"
        )

    def _read(self, rows: FrozenRows, before: Mapping[str, Kept], tell: Tell) -> FrozenPass:
        layers = list(decoder_layers(self.policy.model).values())
        chosen = ranks.measured_layers(len(layers)) if layers and rows.num_ranked else []
        return frozen_pass.run(
            self.policy.model,
            rows,
            micro_tokens=self.around.learner.passes.micro_tokens,
            keep=self.config.top,
            before=before,
            projections=down_projections(self.policy.model) or (),
            layers={number: layers[number] for number in chosen},
            tell=lambda done, total: tell("reading the frozen rows", done, total),
        )

    def _cells(self, rows: FrozenRows, read: FrozenPass, drifted: Sequence[str]) -> list[CellRecord]:
        """What is told of environments; of the drift only those whose rows were there before."""
        cells: list[CellRecord] = []
        for place, name in enumerate(rows.names):
            if name not in self.around.environments or (self.joining and name not in self.joining):
                continue  # a fork may have left it out
            sizes, is_own_R = rows.sizes(name), rows.environment_R == place
            entropy = read.entropy_R[is_own_R].sum() / rows.num_written[is_own_R].sum()
            found = {"entropy_fixed": float(entropy)}
            if name in drifted:
                for of, drift in read.drifts.items():
                    found |= _drift(of, drift, rows.followed_environment == place)
            split = split_of(self.around.environments[name])
            cells += [
                CellRecord(name, None, metric, value if math.isfinite(value) else None, None, *sizes, split)
                for metric, value in found.items()
            ]
        return cells

    def _units(self, read: FrozenPass, events: list[EventRecord]) -> list[NetworkRecord]:
        projections = down_projections(self.policy.model)
        if projections is None:
            events += self._say(
                f"dormant units: the MLPs of {type(self.policy.model).__name__} are not found, or have experts"
            )
            return []
        norms = [dormant.output_norms(one) for one in projections]
        return _records(dormant.numbers(read.units.means(), norms))

    def _ranks(self, rows: FrozenRows, read: FrozenPass, events: list[EventRecord]) -> list[NetworkRecord]:
        if not read.grams:
            events += self._say(
                f"ranks of features need {self.num_ranked} prompts, twice the width of the features, and the "
                "evaluation has fewer: raise `evaluate.items`"
                if decoder_layers(self.policy.model)
                else f"ranks of features: the layers of {type(self.policy.model).__name__} are not found"
            )
        found: dict[tuple[str, int], float | None] = {("rank_rows", WHOLE): rows.num_ranked}
        for layer, gram in read.grams.items():
            found |= {(metric, layer): value for metric, value in ranks.numbers(gram).items()}
        return _records(found)

    def _weights(self, at: Progress, events: list[EventRecord], tell: Tell) -> list[NetworkRecord]:
        """Norms, and distances to the weights at the start and at the boundary that was measured last."""
        tell("comparing weights", 0, 1)
        found = {
            (f"weight_norm{kind}", layer): sums.norm
            for (kind, layer), sums in weight_sums(self.policy.model).places.items()
        }
        compared: dict[tuple[str, int], float | None] = {}
        known: dict[int, WeightSums | None] = {}
        stages = {"base": 0, "prev": self.memory.stage}
        for of, stage in stages.items():
            if at.stage == 0 or stage is None:
                continue
            if stage not in known:
                known[stage] = self._compared(stage, events)
            if (sums := known[stage]) is not None:
                compared |= _distances(of, sums)
        return _records(found | compared)

    def _compared(self, stage: int, events: list[EventRecord]) -> WeightSums | None:
        folder = self.around.weights_of(stage)
        if folder is None:
            events += self._say(f"no distance to the weights after stage {stage}: no checkpoint that is there has them")
            return None
        # beside the adapters of before they were merged stood the model that the spec names
        named = files_of(self.around.spec.policy) if self.policy.has_own_base else None
        with saved_weights(folder, self.policy.model, named) as read:
            sums = weight_sums(self.policy.model, read)
        if sums.missing:
            where = f"{folder}" if named is None else f"{folder} and {named}"
            events += self._say(
                f"no distance to the weights after stage {stage}: {sums.missing[0]} is not in {where}, or is another "
                f"one there ({len(sums.missing)} tensors)"
            )
            return None
        return sums

    def _say(self, what: str) -> list[EventRecord]:
        """Say what cannot be told, once in a run."""
        if what in self.memory.told:
            return []
        self.memory.told.append(what)
        return [EventRecord("not measured", f"network: {what}")]


def _answers(group: Group) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(sample.ids, sample.mask) for sample in group.samples]


def _drift(of: str, drift: Drift, is_own_P: np.ndarray) -> dict[str, float]:
    if not is_own_P.any():
        return {}
    return {f"kl_{of}": float(drift.kl_P[is_own_P].mean()), f"flip_{of}": float(drift.flipped_P[is_own_P].mean())}


def _distances(of: str, sums: WeightSums) -> dict[tuple[str, int], float | None]:
    found: dict[tuple[str, int], float | None] = {}
    for (kind, layer), own in sums.places.items():
        found[f"weight_dist_rel_{of}{kind}", layer] = own.relative_distance
        if kind == MATRICES:
            found[f"weight_dist_{of}", layer] = own.distance
            found[f"weight_cos_{of}", layer] = own.cosine
    return found


def _records(found: Mapping[tuple[str, int], float | None]) -> list[NetworkRecord]:
    return [
        NetworkRecord(metric, value if value is not None and math.isfinite(value) else None, layer)
        for (metric, layer), value in found.items()
    ]
