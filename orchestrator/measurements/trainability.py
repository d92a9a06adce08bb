"""Trainability: the copies that the probes of a spec train, and what is recorded of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from environments import Pool, Task
from orchestrator import random_streams
from orchestrator.measurements.contracts import Findings, Measurement, Tell
from orchestrator.measurements.probe_options import ProbeOptions, probe_passes
from orchestrator.measurements.probe_tasks import label_of, labels_of, left_out, nothing_to_tell, probe_tasks
from orchestrator.measurements.surroundings import Surroundings
from orchestrator.played_group import Group, unscorable
from orchestrator.progress import Progress
from orchestrator.rollout.batch import ThinkTag
from orchestrator.rollout.player import Player
from orchestrator.rollout.task_supply import PromptLimits
from orchestrator.stopwatch import Stopwatch
from policies.errors import NonFiniteLogits
from policies.objectives.contracts import Trajectory
from policies.plasticity import linear_probe, random_label_probe, rl_probe, supervised_probe
from policies.plasticity.copies import Copying, full_copy
from policies.plasticity.copy_fit import ordinary_tokens, rounds
from policies.plasticity.curves import BETAS, CLIP_NORM, WARMUP, Budget, Curve
from policies.policy import Policy
from policies.samplers.contracts import SamplerOptions, Sampling
from policies.samplers.transformers import Config as TransformersConfig
from policies.samplers.transformers import TransformersSampler
from store.records import EventRecord, ProbePoint, ProbeRecord

# Raised when a probe of the same options becomes another.
PROTOCOL = {"supervised": 1, "rl": 1, "random_labels": 1, "linear": 2}
PREFIX = "probe_"  # of the metrics
TOLD = "told.json"
AT_ONE = Sampling()


class Probe(Measurement):
    """One probe, at every boundary: its copies are trained one seed after the other, and none is left.

    `copying` makes what is trained; everything else of the run is only read.
    """

    def __init__(self, config: ProbeOptions, around: Surroundings, copying: Copying = full_copy) -> None:
        self.config, self.around, self.copying, self.is_asked = config, around, copying, True
        self.name, self.kind = config.name, config.kind
        self.passes = probe_passes(config, around)
        self._found: dict[Pool, list[Task]] = {}  # tasks by pool, the same at every boundary
        self._told: list[str] = []  # what was said of them in this run

    @override
    def is_due(self, at: Progress) -> bool:
        return at.is_at_boundary

    @override
    def of(self, environments: Sequence[str]) -> Probe:
        """The same if its environment is among them; otherwise one that finds nothing."""
        made = copy(self)
        made.is_asked = self.config.environment in environments
        return made

    @override
    def save(self, folder: Path) -> None:
        (folder / TOLD).write_text(json.dumps(self._told), "utf-8")

    @override
    def load(self, folder: Path) -> None:
        self._told = json.loads((folder / TOLD).read_text("utf-8"))

    @override
    def run(self, player: Player, at: Progress, watch: Stopwatch, tell: Tell) -> Findings:
        records: list[ProbeRecord] = []
        events: list[EventRecord] = []
        num_seeds, steps = (self.config.seeds or 1) * self.is_asked, self.budget.steps
        if self.kind == "linear" and self.is_asked:
            events += self._left_out(player)
        for seed in range(num_seeds):
            said = f"probe {self.kind} on {self.config.task}"
            tell(said, seed * steps, max(1, num_seeds * steps))
            curve, own, unscored = Curve(), Stopwatch(), list[Group]()
            with watch("probe"), self._trained(player.policy) as copy:
                try:
                    for step in self._steps(copy, curve, seed, player, own, unscored):
                        tell(said, seed * steps + step, max(1, num_seeds * steps))
                except NonFiniteLogits as diverged:
                    text = f"{said}, seed {seed}: its copy diverged, so its curve ends early: {diverged}"
                    events.append(EventRecord("probe", text))
            if curve.num_refused:
                num = curve.num_updates + curve.num_refused
                text = f"{curve.num_refused} of {num} updates were left out, their gradient was not finite"
                events.append(EventRecord("probe", f"{said}, seed {seed}: {text}"))
            events += unscorable(unscored, " in a probe")
            points = [ProbePoint(step, PREFIX + name, value) for (step, name), value in curve.points.items()]
            protocol = self.protocol(player)
            records.append(ProbeRecord(self.kind, self.config.task, seed, protocol, own.total, points))
        return Findings(config={}, cells=[], probes=records, events=events)

    def _trained(self, policy: Policy) -> AbstractContextManager[Policy]:
        """What the probe may do with as it likes: a copy, but where nothing of the policy is trained."""
        return nullcontext(policy) if self.kind == "linear" else self.copying(policy)

    def _steps(
        self, copy: Policy, curve: Curve, seed: int, player: Player, watch: Stopwatch, unscored: list[Group]
    ) -> Iterator[int]:
        """Train one copy; yields the steps done."""
        own, budget = self.config, self.budget
        stream = partial(random_streams.generator, seed, "probe", self.kind, own.task)
        if self.kind == "supervised":
            sizes = {"batch": own.batch, "items": own.items, "length": own.length}
            return supervised_probe.probe(copy, budget, curve, stream, **sizes)  # type: ignore[arg-type]
        if self.kind == "random_labels":
            prompts, labels = self._prompts(copy, player, stream), {"batch": own.batch, "classes": own.classes}
            return random_label_probe.probe(copy, budget, curve, stream, prompts=prompts, **labels)  # type: ignore[arg-type]
        if self.kind == "linear":
            return self._linear(copy, curve, player)
        tasks = self._tasks("train", player), self._tasks("anchor", player)
        reads_value = self.around.spec.objective.reward == "value"
        game = Game(copy, own, player, seed, watch, unscored, tasks, reads_value)
        recomputes = self.around.spec.learner.activation_checkpointing
        return rl_probe.probe(copy, budget, curve, game.play, game.look, recomputes)

    @cached_property
    def budget(self) -> Budget:
        """The steps of a copy and their learning rate; a linear probe takes none."""
        own, learner = self.config, self.around.learner
        lr = own.lr or (learner.lr if self.kind == "rl" else 1e-3 if self.around.spec.policy.kind == "tiny" else 1e-5)
        return Budget(own.steps or 0, lr, frozenset(own.looks), learner.passes.micro_tokens)

    def protocol(self, player: Player) -> dict[str, Any]:
        """All that a curve depends on beside the weights and the number of the seed."""
        own = self.config.model_dump(exclude={"type", "seeds"}, exclude_none=True)
        made: dict[str, Any] = {
            **own,
            "version": PROTOCOL[self.kind],
            "task": self.config.task,
            "vocabulary": len(player.policy.tokenizer),
        }
        if self.kind != "linear":
            made |= {"lr": self.budget.lr, "warmup": WARMUP, "betas": list(BETAS), "clip_norm": CLIP_NORM}
        if self.kind == "supervised":
            made["chance"] = math.log(supervised_probe.num_symbols(len(ordinary_tokens(player.policy))))
        if self.kind == "random_labels":
            num_tokens = len(ordinary_tokens(player.policy))
            made["classes"] = random_label_probe.num_classes(self.config.classes or 1, num_tokens)
            made["chance"] = math.log(made["classes"])
            if self.budget.steps % (self.config.eval_every or 1):
                made["looks"] = "from the end"
        if self.config.environment is not None:
            name = self.config.environment
            environment, section = self.around.environments[name], self.around.spec.environments[name]
            limits = player.budgets.shared.model_dump(include={"max_tokens", "turn_tokens", "max_turns", "cut_off"})
            made |= {
                "environment": [name, environment.version],
                "options": {"type": section.type, **section.measured},
                "template": player.policy.template,
                **(limits if self.kind == "rl" else {}),
            }
        if self._is_carried(player):
            made["order"] = "carried"
        if self.kind == "rl":
            made |= {"reward": self.around.spec.objective.reward, "objective": dict(rl_probe.OBJECTIVE)}
        return made

    def _is_carried(self, player: Player) -> bool:
        """Whether a batch has the rest of one round and the beginning of the next: batches do not divide the items."""
        own = self.config
        if self.kind not in ("rl", "random_labels"):
            return False
        pool: Pool = "train" if self.kind == "rl" else "anchor"
        num = len(self._tasks(pool, player)) if own.environment else own.items or 0
        batch = min(own.batch or 0, num)
        return num < (own.steps or 0) * batch and num % batch > 0

    def _tasks(self, pool: Pool, player: Player) -> list[Task]:
        """Tasks of the environment. It counts nothing for the run: an admission of its own leaves out long prompts."""
        if pool not in self._found:
            name, policy = str(self.config.environment), player.policy
            environment = self.around.environments[name]
            admission = PromptLimits(policy.encoder, policy.context, {name: environment}, player.budgets)
            self._found[pool] = probe_tasks(self.config, environment, pool, admission)
        return self._found[pool]

    def _prompts(
        self, copy: Policy, player: Player, stream: Callable[[str], np.random.Generator]
    ) -> list[tuple[int, ...]]:
        own = self.config
        if own.environment is None:
            return random_label_probe.random_prompts(
                ordinary_tokens(copy), own.items or 0, own.length or 0, stream("prompts")
            )
        return [copy.encode(task.messages) for task in self._tasks("anchor", player)]

    def _linear(self, policy: Policy, curve: Curve, player: Player) -> Iterator[int]:
        tasks = [task for task in self._tasks("anchor", player) if label_of(self.config, task) is not None]
        states = linear_probe.last_hidden_states(policy, [policy.encode(task.messages) for task in tasks])
        labels = labels_of(self.config, tasks)
        found = {layer: linear_probe.decodability(own, labels) for layer, own in states.items()}
        names = {"last": "score", "middle": "score_middle"}
        curve.look(0, {names[layer]: value for layer, value in found.items() if value is not None})
        yield 0

    def _left_out(self, player: Player) -> list[EventRecord]:
        """Say once in a run what a linear probe leaves out, or that it finds nothing."""
        tasks = self._tasks("anchor", player)
        nothing, some = nothing_to_tell(self.config, tasks), left_out(self.config, tasks)
        text = nothing or some
        if text is None or text in self._told:
            return []
        self._told.append(text)
        said = f"probe {self.kind} on {self.config.task}: {text}"
        return [EventRecord("probe" if nothing is None else "not measured", said)]


class Game:
    """One copy playing an environment: a player of its own, with the run's scorer, and streams of the probe's."""

    def __init__(
        self,
        copy: Policy,
        config: ProbeOptions,
        player: Player,
        seed: int,
        watch: Stopwatch,
        unscored: list[Group],
        tasks: tuple[Sequence[Task], Sequence[Task]],
        reads_value: bool,
    ) -> None:
        self.config, self.watch, self.unscored = config, watch, unscored
        (self.tasks, self.items), self.reads_value = tasks, reads_value
        rng = random_streams.generator(seed, "probe", "rl", config.task, "tasks")
        self.places = rounds(len(self.tasks), config.batch or 0, rng)
        self.think_end = ThinkTag(copy).end
        options = transformers_options(player.budgets.shared)
        own_seed = random_streams.integer(seed, "probe", "rl", config.task, "play")
        sampler = TransformersSampler(options, copy)
        budgets = replace(player.budgets, shared=options)
        self.player = Player(own_seed, copy, sampler, player.scorer, player.environments, budgets)

    def play(self, step: int) -> list[Trajectory]:
        """Play a step's tasks; those that could be scored come back."""
        tasks = [self.tasks[place] for place in next(self.places)]
        groups = self._played(tasks, self.config.group_size or 0, "train", step)
        return [
            trajectory
            for number, group in enumerate(groups)
            for trajectory in group.trajectories(number, self.reads_value, self.think_end)
        ]

    def look(self) -> dict[str, float]:
        """Measure accuracy and token entropy on the held-out tasks, with the same random numbers every time."""
        groups = self._played(self.items, self.config.samples or 0, "look", 0)
        shares = [sum(group.correct) / len(group.correct) for group in groups if group.correct]
        num_tokens = sum(group.num_tokens for group in groups)
        found = {"score": float(np.mean(shares))} if shares else {}
        if num_tokens:
            found["entropy"] = sum(group.entropy_sum for group in groups) / num_tokens
        return found

    def _played(self, tasks: Sequence[Task], size: int, stream: str, step: int) -> list[Group]:
        groups = self.player.play(tasks, size, AT_ONE, f"probe/{stream}", step, self.watch)
        self.unscored += [group for group in groups if len(group.scored) < len(group.samples)]
        return groups


def transformers_options(options: SamplerOptions) -> TransformersConfig:
    """The run's budgets for the sampler of a copy; an engine of another kind keeps what is only its own."""
    if isinstance(options, TransformersConfig):
        return options.model_copy(update={"ahead": 0, "temperature": 1.0})
    shared = options.model_dump(include={*SamplerOptions.model_fields})
    return TransformersConfig.model_validate({**shared, "ahead": 0, "temperature": 1.0})
