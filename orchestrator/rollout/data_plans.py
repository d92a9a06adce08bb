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
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from environments import PassedOver, Task
from orchestrator.choosing.choice import Slot
from orchestrator.rollout.player import Group, Place, Player
from orchestrator.rollout.task_sampler import TaskSampler
from orchestrator.rollout.think_tag import ThinkTag
from orchestrator.spec import Spec
from orchestrator.stopwatch import Stopwatch
from policies.gradients import gradient_norms
from policies.learner import Learner
from policies.objectives.padding import pad
from policies.objectives.plans.dynamic_sampling import DynamicSampling
from policies.objectives.plans.gvm import Gvm
from policies.objectives.plans.tempered import Tempered
from policies.objectives.registry import load
from policies.policy import Policy
from policies.samplers.contracts import Sampling
from policies.trajectories import Trajectory

Plans = Mapping[str, Any]  # by name, as they hold in a step


@dataclass(frozen=True)
class TemperedRows:
    """Side rows of one task: played at another temperature, no group of the batch."""

    group: Group
    taught: tuple[int, ...]  # which of its scored samples are learned from
    advantage: float  # of each
    temperature: float


@dataclass(frozen=True)
class RolloutBatch:
    """The batch of one step, played and scored."""

    step: int
    slots: Sequence[
        Slot
    ]  # one a group; where a pick was played again it comes again, at a place behind all others
    groups: Sequence[Group]  # all that were generated
    dropped: frozenset[int] = frozenset()  # places of groups that a plan leaves out of the update
    sides: Sequence[TemperedRows] = ()
    num_rounds: int = 1  # of generation
    plans: tuple[str, ...] = ()  # that shaped it
    passed_over: Mapping[str, PassedOver] = field(
        default_factory=dict
    )  # what was met and left out while it was drawn, by environment
    seconds: Mapping[str, float] = field(
        default_factory=dict
    )  # of the thread that played it; none: the step's

    def trajectories(self, reads_value: bool, policy: Policy) -> list[Trajectory]:
        """Give the learner what could be scored: the groups that were not dropped, then the side rows."""
        think_end = ThinkTag(policy).end
        rows = [
            trajectory
            for number, group in enumerate(self.groups)
            if number not in self.dropped
            for trajectory in group.trajectories(number, reads_value, think_end)
        ]
        for number, side in enumerate(self.sides, start=len(self.groups)):
            every = side.group.trajectories(number, reads_value, think_end)
            rows += [replace(every[k], advantage=side.advantage) for k in side.taught]
        return rows


class DataPlans:
    """Plays batches. The plans are given with each: they are those of its step."""

    def __init__(self, spec: Spec, tasks: TaskSampler, player: Player, learner: Learner) -> None:
        self.spec, self.tasks, self.player, self.learner = spec, tasks, player, learner

    def play(
        self,
        step: int,
        slots: Sequence[Slot],
        tasks: Sequence[Task],
        plans: Plans,
        watch: Stopwatch,
        *,
        sync: bool = True,
    ) -> RolloutBatch:
        """Play the batch of a step. `sync=False`: with the weights that the sampler has."""
        playing = _Playing(self, step, plans, watch, sync)
        played = playing.rounds(slots, tasks)
        sides, passed_over = playing.sides(tasks), self.tasks.take_passed_over()
        return replace(played, sides=sides, plans=tuple(plans), passed_over=passed_over)


class _Playing:
    """One step's batch in the making."""

    def __init__(self, of: DataPlans, step: int, plans: Plans, watch: Stopwatch, sync: bool) -> None:
        self._of, self._step, self._watch, self._sync = of, step, watch, sync
        self._sampling, self._size = of.spec.sampler.sampling, of.spec.step.group_size
        self._reads_value = of.spec.objective.reward == "value"
        by_effect = {load("plans", name).info.plan: plan for name, plan in plans.items()}
        self._gvm: Gvm | None = by_effect.get("sizes_groups")
        self._dynamic: DynamicSampling | None = by_effect.get("drops_even_groups")
        self._tempered: Tempered | None = by_effect.get("adds_tempered_rows")

    def rounds(self, slots: Sequence[Slot], tasks: Sequence[Task]) -> RolloutBatch:
        """Play all slots, then again those whose groups have no spread, while the plan has rounds left."""
        groups = self._groups(tasks, slots, "train")
        if self._dynamic is None:
            return RolloutBatch(self._step, slots, groups)
        entered, latest, num = [*slots], zip(slots, groups, strict=True), 1
        while num < self._dynamic.rounds and (again := [s for s, group in latest if self._is_dropped(group)]):
            with self._watch("draw"):
                tasks = self._of.tasks.draw(again, beside=[group.task for group in groups])
            played = self._groups(tasks, again, f"train/{num}")
            entered += [replace(slot, index=len(entered) + k) for k, slot in enumerate(again)]
            groups, latest, num = groups + played, zip(again, played, strict=True), num + 1
        dropped = frozenset(place for place, group in enumerate(groups) if self._is_dropped(group))
        return RolloutBatch(self._step, entered, groups, dropped, num_rounds=num)

    def sides(self, tasks: Sequence[Task]) -> list[TemperedRows]:
        """Play some of the batch's tasks at the other temperature, and choose what is learned from."""
        plan = self._tempered
        if plan is None:
            return []
        at = plan.places(len(tasks))
        sampling = replace(self._sampling, temperature=plan.temperature)
        groups = self._play([tasks[k] for k in at], self._size, sampling, "tempered", [(k, 0) for k in at])
        chosen = plan.chosen([self._outcomes(group) for group in groups], self._sampling.temperature)
        return [
            TemperedRows(group, tuple(k for g, k in chosen if g == number), plan.weight, plan.temperature)
            for number, group in enumerate(groups)
        ]

    def _groups(self, tasks: Sequence[Task], slots: Sequence[Slot], stream: str) -> list[Group]:
        """Play a group of every task, all of one size, or as the pilots say."""
        places = [(slot.index, 0) for slot in slots]
        if self._gvm is None:
            return self._play(tasks, self._size, self._sampling, stream, places)
        pilot = self._gvm.pilot
        begun = self._play(tasks, pilot, self._sampling, stream, places)
        with self._watch("allocate"):
            sizes = self._further(self._gvm, begun)
        rest = self._play(tasks, sizes, self._sampling, stream, [(number, pilot) for number, _ in places])
        return [Group(a.task, a.samples + b.samples) for a, b in zip(begun, rest, strict=True)]

    def _play(
        self,
        tasks: Sequence[Task],
        sizes: int | Sequence[int],
        sampling: Sampling,
        stream: str,
        places: Sequence[Place],
    ) -> list[Group]:
        return self._of.player.play(
            tasks, sizes, sampling, stream, self._step, self._watch, sync=self._sync, places=places
        )

    def _is_dropped(self, group: Group) -> bool:
        return self._dynamic is not None and self._dynamic.drops(group.rewards(self._reads_value))

    def _outcomes(self, group: Group) -> list[tuple[float, bool]]:
        """What each scored sample earned, and whether it is correct and can be learned from."""
        return [
            (float(reward), bool(sample.score.correct) and sample.can_teach)
            for sample, reward in zip(group.scored, group.rewards(self._reads_value), strict=True)
        ]

    def _further(self, plan: Gvm, pilots: Sequence[Group]) -> list[int]:
        """Say how many samples each task gets behind its pilot; an arm's tasks share what is the arm's."""
        rates = [sum(group.correct) / max(1, len(group.correct)) for group in pilots]
        norms = self._gradient_norms(pilots)
        arms: dict[str, list[int]] = {}
        for place, group in enumerate(pilots):
            arms.setdefault(group.arm, []).append(place)
        sizes = [0] * len(pilots)
        for at in arms.values():
            num = (self._size - plan.pilot) * len(at)
            for place, size in zip(
                at, plan.sizes([rates[k] for k in at], [norms[k] for k in at], num), strict=True
            ):
                sizes[place] = size
        return sizes

    def _gradient_norms(self, pilots: Sequence[Group]) -> list[float]:
        """Mean gradient norm of each pilot's correct samples; 0 where there is none."""
        rows = [
            sample.trajectory(number, 1.0)
            for number, group in enumerate(pilots)
            for sample in group.scored
            if sample.score.correct and sample.can_teach
        ]
        if not rows:
            return [0.0] * len(pilots)
        norms: dict[int, list[float]] = {}
        for row, norm in zip(rows, gradient_norms(self._of.learner.passes, pad(rows)).tolist(), strict=True):
            norms.setdefault(row.group, []).append(norm)
        return [fmean(norms[k]) if k in norms else 0.0 for k in range(len(pilots))]
