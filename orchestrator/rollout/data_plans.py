"""Playing a batch as the objective's data plans say: what is played again, what is left out, what is played beside it.

    gvm               a pilot of every task first; the rest of each arm's samples go where they help most
    dynamic_sampling  groups without spread are left out of the update, and their places filled from the same arm
    tempered          some tasks a second time, at another temperature; what was right becomes side rows

What to do is decided in `policies/objectives/plans`; here it is carried out. Without plans a batch is one call of
`Player.play`. All chance comes from the names of samples: the first round is the stream "train" as without plans, round
r "train/r", side rows "tempered". A pilot's samples are the first of their groups, whoever plays the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from environments import Task
from orchestrator.played_group import Group, PlayedGroup, Slot
from orchestrator.rollout.batch import RolloutBatch, TemperedRows
from orchestrator.rollout.player import Place, Player
from orchestrator.rollout.task_sampler import TaskSampler
from orchestrator.spec import Spec
from orchestrator.stopwatch import Stopwatch
from policies.gradients import gradient_norms
from policies.learner import Learner
from policies.objectives.padding import pad
from policies.objectives.plans.dynamic_sampling import DynamicSampling
from policies.objectives.plans.gvm import Gvm
from policies.objectives.plans.tempered import Tempered
from policies.objectives.registry import load
from policies.samplers.contracts import Sampling

Plans = Mapping[str, Any]  # by name, as they hold in a step


class BatchInPlay:
    """The batch of a step, played with the plans of that step. `sync=False`: with the weights that the sampler has."""

    def __init__(
        self,
        spec: Spec,
        tasks: TaskSampler,
        player: Player,
        learner: Learner,
        step: int,
        plans: Plans,
        watch: Stopwatch,
        sync: bool = True,
    ) -> None:
        self._tasks, self._player, self._learner = tasks, player, learner
        self._sampling, self._size = spec.sampler.sampling, spec.step.group_size
        self._reads_value = spec.objective.reward == "value"
        self._step, self._plans, self._watch, self._sync = step, plans, watch, sync
        by_effect = {load("plans", name).info.plan: plan for name, plan in plans.items()}
        self._gvm: Gvm | None = by_effect.get("sizes_groups")
        self._dynamic: DynamicSampling | None = by_effect.get("drops_even_groups")
        self._tempered: Tempered | None = by_effect.get("adds_tempered_rows")

    def play(self, slots: Sequence[Slot], tasks: Sequence[Task]) -> RolloutBatch:
        """Play all rounds, then the side rows."""
        batch, sides = self._rounds(slots, tasks), self._sides(tasks)
        passed_over = self._tasks.take_passed_over()
        return replace(batch, sides=sides, plans=tuple(self._plans), passed_over=passed_over)

    def _rounds(self, slots: Sequence[Slot], tasks: Sequence[Task]) -> RolloutBatch:
        """Play all slots, then again those whose groups have no spread, while the plan has rounds left."""
        groups = latest = self._groups(tasks, slots, "train")
        if self._dynamic is None:
            return RolloutBatch(self._step, groups)
        again, num = slots, 1  # each with the place that it had at first: chance goes by that
        while num < self._dynamic.rounds:
            again = [slot for slot, group in zip(again, latest, strict=True) if self._is_dropped(group)]
            if not again:
                break
            with self._watch("draw"):
                tasks = self._tasks.draw(again, beside=[group.task for group in groups])
            latest = self._groups(tasks, again, f"train/{num}")
            groups = groups + [
                replace(group, slot=replace(group.slot, index=place))
                for place, group in enumerate(latest, start=len(groups))
            ]
            num += 1
        dropped = frozenset(place for place, group in enumerate(groups) if self._is_dropped(group))
        return RolloutBatch(self._step, groups, dropped, num_rounds=num)

    def _sides(self, tasks: Sequence[Task]) -> list[TemperedRows]:
        """Play some of the batch's tasks at the other temperature, and choose what is learned from."""
        plan = self._tempered
        if plan is None:
            return []
        at = plan.places(len(tasks))
        sampling = replace(self._sampling, temperature=plan.temperature)
        groups = self._play([tasks[k] for k in at], self._size, sampling, "tempered", [(k, 0) for k in at])
        outcomes = [
            [
                (float(reward), bool(sample.score.correct) and sample.can_teach)
                for sample, reward in zip(group.scored, group.rewards(self._reads_value), strict=True)
            ]
            for group in groups
        ]
        chosen = plan.chosen(outcomes, self._sampling.temperature)
        return [
            TemperedRows(group, tuple(k for g, k in chosen if g == number), plan.weight, plan.temperature)
            for number, group in enumerate(groups)
        ]

    def _groups(self, tasks: Sequence[Task], slots: Sequence[Slot], stream: str) -> list[PlayedGroup]:
        places = [(slot.index, 0) for slot in slots]
        if self._gvm is None:
            groups = self._play(tasks, self._size, self._sampling, stream, places)
        else:
            pilot = self._gvm.pilot
            begun = self._play(tasks, pilot, self._sampling, stream, places)
            with self._watch("allocate"):
                sizes = self._sizes_behind(self._gvm, begun)
            rest = self._play(tasks, sizes, self._sampling, stream, [(number, pilot) for number, _ in places])
            groups = [Group(a.task, a.samples + b.samples) for a, b in zip(begun, rest, strict=True)]
        return [PlayedGroup(one.task, one.samples, slot) for one, slot in zip(groups, slots, strict=True)]

    def _play(
        self,
        tasks: Sequence[Task],
        sizes: int | Sequence[int],
        sampling: Sampling,
        stream: str,
        places: Sequence[Place],
    ) -> list[Group]:
        return self._player.play(
            tasks, sizes, sampling, stream, self._step, self._watch, sync=self._sync, places=places
        )

    def _is_dropped(self, group: Group) -> bool:
        return self._dynamic is not None and self._dynamic.drops(group.rewards(self._reads_value))

    def _sizes_behind(self, plan: Gvm, pilots: Sequence[Group]) -> list[int]:
        """Say how many samples each task gets behind its pilot; an arm's tasks share what is the arm's.

        They are divided by the pilot's pass rate and the mean gradient norm of its correct samples, 0 without any.
        """
        rows = [
            sample.trajectory(number, 1.0)
            for number, group in enumerate(pilots)
            for sample in group.scored
            if sample.score.correct and sample.can_teach
        ]
        found: dict[int, list[float]] = {}
        self._player.sampler.make_room()
        found_norms = gradient_norms(self._learner.passes, pad(rows)).tolist() if rows else ()
        for row, norm in zip(rows, found_norms, strict=True):
            found.setdefault(row.group, []).append(norm)
        norms = [fmean(found[k]) if k in found else 0.0 for k in range(len(pilots))]
        rates = [sum(group.correct) / max(1, len(group.correct)) for group in pilots]
        arms: dict[str, list[int]] = {}
        for place, group in enumerate(pilots):
            arms.setdefault(group.arm, []).append(place)
        sizes = [0] * len(pilots)
        for at in arms.values():
            num = (self._size - plan.pilot) * len(at)
            own = plan.sizes([rates[k] for k in at], [norms[k] for k in at], num)
            for place, size in zip(at, own, strict=True):
                sizes[place] = size
        return sizes
