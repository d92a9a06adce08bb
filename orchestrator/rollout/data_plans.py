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

from environments import NoTasks, Task
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

# By environment, or of all of them under "": the plans by name, as they hold in a step.
Plans = Mapping[str, Mapping[str, Any]]


class PlansInPlay:
    """What is to be done with one environment's groups."""

    def __init__(self, plans: Mapping[str, Any]) -> None:
        by_effect = {load("plans", name).info.plan: plan for name, plan in plans.items()}
        self.gvm: Gvm | None = by_effect.get("sizes_groups")
        self.dynamic: DynamicSampling | None = by_effect.get("drops_even_groups")
        self.tempered: Tempered | None = by_effect.get("adds_tempered_rows")


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
        self._sampling, self._group_sizes = spec.sampler.sampling, spec.group_sizes
        self._reads_value = spec.objective.reward == "value"
        self._step, self._plans, self._watch, self._sync = step, plans, watch, sync
        self._in_play = {name: PlansInPlay(own) for name, own in plans.items()}

    def play(self, slots: Sequence[Slot], tasks: Sequence[Task]) -> RolloutBatch:
        """Play all rounds, then the side rows."""
        batch, sides = self._rounds(slots, tasks), self._sides(tasks)
        passed_over = self._tasks.take_passed_over()
        names = dict.fromkeys(name for task in tasks for name in self._plans[self._key(task)])
        return replace(batch, sides=sides, plans=tuple(names), passed_over=passed_over)

    def _key(self, task: Task) -> str:
        """Under what the plans of a task's environment stand."""
        return task.environment if task.environment in self._plans else ""

    def _of(self, task: Task) -> PlansInPlay:
        return self._in_play[self._key(task)]

    def _rounds(self, slots: Sequence[Slot], tasks: Sequence[Task]) -> RolloutBatch:
        """Play all slots, then again those whose groups have no spread, while the plan has rounds left."""
        groups = latest = self._groups(tasks, slots, "train")
        again, num = slots, 1  # each with the place that it had at first: chance goes by that
        while True:
            again = [slot for slot, group in zip(again, latest, strict=True) if self._is_played_again(group, num)]
            if not again:
                break
            try:
                with self._watch("draw"):
                    tasks = self._tasks.draw(again, beside=[group.task for group in groups], has_others=True)
            except NoTasks:  # there is a batch without them
                break
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
        places: dict[str, list[int]] = {}
        for place, task in enumerate(tasks):
            places.setdefault(self._key(task), []).append(place)
        plans = [(self._in_play[key].tempered, own) for key, own in places.items()]
        return [side for plan, own in plans if plan is not None for side in self._sides_of(plan, tasks, own)]

    def _sides_of(self, plan: Tempered, tasks: Sequence[Task], places: Sequence[int]) -> list[TemperedRows]:
        """Do so with the tasks at these places of the batch."""
        at = [places[k] for k in plan.places(len(places))]
        sampling = replace(self._sampling, temperature=plan.temperature)
        chosen_tasks = [tasks[k] for k in at]
        groups = self._play(chosen_tasks, self._sizes(chosen_tasks), sampling, "tempered", [(k, 0) for k in at])
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
        pilots = [None if (plan := self._of(task).gvm) is None else plan.pilot for task in tasks]
        first = [pilot or size for pilot, size in zip(pilots, self._sizes(tasks), strict=True)]
        groups = self._play(tasks, first, self._sampling, stream, places)
        if at := [k for k, pilot in enumerate(pilots) if pilot is not None]:
            begun = [groups[k] for k in at]
            with self._watch("allocate"):
                sizes = self._sizes_behind(begun)
            behind = [(places[k][0], first[k]) for k in at]
            rest = self._play([tasks[k] for k in at], sizes, self._sampling, stream, behind)
            for k, one in zip(at, rest, strict=True):
                groups[k] = Group(one.task, groups[k].samples + one.samples)
        return [PlayedGroup(one.task, one.samples, slot) for one, slot in zip(groups, slots, strict=True)]

    def _sizes(self, tasks: Sequence[Task]) -> list[int]:
        """Say how many episodes each task's group has: as many as its environment's have."""
        return [self._group_sizes[task.environment] for task in tasks]

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
        plan = self._of(group.task).dynamic
        return plan is not None and plan.drops(group.rewards(self._reads_value))

    def _is_played_again(self, group: Group, num_rounds: int) -> bool:
        plan = self._of(group.task).dynamic
        return plan is not None and num_rounds < plan.rounds and self._is_dropped(group)

    def _sizes_behind(self, pilots: Sequence[Group]) -> list[int]:
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
            plan = self._of(pilots[at[0]].task).gvm
            assert plan is not None, "only such groups have a pilot"
            num = sum(self._sizes([pilots[k].task for k in at])) - plan.pilot * len(at)
            own = plan.sizes([rates[k] for k in at], [norms[k] for k in at], num)
            for place, size in zip(at, own, strict=True):
                sizes[place] = size
        return sizes
