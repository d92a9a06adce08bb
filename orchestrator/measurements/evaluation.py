"""Evaluation: what the policy can do in every environment and category, on tasks it never trains on.

The tasks are the anchor pool's first ones, the same in every run, and the random numbers of a task's samples are
the same at every boundary: differences are paired. A closed environment is evaluated on its own tasks.

A scheduler whose reward is a change of scores looks at the `select` pool, in the same way; reports never do, so what it
selects by cannot flatter what is reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from typing_extensions import override

from environments import Environment, Task
from orchestrator.measurements.budget import EvaluationPlan, Lengths, of_evaluation
from orchestrator.measurements.contracts import Findings, HeldOut, Measurement, Tell
from orchestrator.played_group import Group, unscorable
from orchestrator.progress import Progress
from orchestrator.rollout.player import Player
from orchestrator.spec.sections import Evaluate
from orchestrator.stopwatch import Stopwatch
from policies.samplers.contracts import Sampling
from store.answers import counted, normalised, pass_at_k
from store.records import AnswerCount, CellRecord, HoldoutQueryRecord, ItemRecord, SampleRecord

BATCH = 512  # episodes that are played together, at least: what one category has by default
KEPT_SAMPLES = 20  # a category, of the first tasks: the same tasks at every boundary
AT_ONE = Sampling()  # temperature 1, nothing cut off, whatever training samples with
GREEDY = Sampling(greedy=True)


@dataclass(frozen=True, eq=False)
class Look:
    """Tasks of a category and how they are played: once greedily, or in groups, for reports or for a scheduler."""

    stream: Literal["evaluate", "greedy", "select"]  # of random numbers, with the category
    environment: str
    category: str
    tasks: Sequence[Task]
    group_size: int


class Evaluation(Measurement):
    """Accuracy (pass@1), pass@4 and token entropy at temperature 1; greedy accuracy under its own name if asked.

    `played` has the anchors' groups of the last run, of this evaluation or of a part of it, until `forget`: other
    measurements of the same boundary read them.
    """

    name, plays = "evaluation", True

    def __init__(
        self,
        section: Evaluate,
        environments: Mapping[str, Environment],
        held_out: Mapping[str, HeldOut],
        plan: EvaluationPlan | None = None,
        keeps_answers: bool = False,
        lengths: Lengths = MappingProxyType({}),
        upcoming: Callable[[], Collection[str]] = tuple,
    ) -> None:
        """`plan`: which environments a boundary has; None: all. `lengths`: of their samples; none: all alike.

        `upcoming`: names what a fixed order trains next, which the plan wants to know.
        """
        self._upcoming = upcoming
        self.section, self.environments, self.plan, self.keeps_answers = section, environments, plan, keeps_answers
        self.lengths = {name: lengths.get(name, 1.0) for name in environments}
        self.anchors, self.selects = held_out["anchor"], held_out.get("select")
        self.played: list[Group] = []  # groups of the last run on the anchors, for those who look at them next

    @override
    def is_due(self, at: Progress) -> bool:
        return at.is_at_boundary

    @override
    def of(self, environments: Sequence[str]) -> Evaluation:
        pools = {"anchor": self.anchors, **({} if self.selects is None else {"select": self.selects})}
        held_out = {pool: {name: tasks[name] for name in environments} for pool, tasks in pools.items()}
        part = Evaluation(self.section, self.environments, held_out, None, self.keeps_answers, self.lengths)
        part.played = self.played  # whoever looks here next sees what was played last
        return part

    @override
    def forget(self) -> None:
        self.played.clear()

    @override
    def run(self, player: Player, at: Progress, watch: Stopwatch, tell: Tell) -> Findings:
        names = self.anchors if self.plan is None else self.plan.at(at.stage, at.visited, self._upcoming())
        anchors = {name: self.anchors[name] for name in names}
        own_selects = {n: own for n, own in (self.selects or {}).items() if not self.environments[n].closed}
        self.passes = self._cost(anchors, own_selects)
        played: list[Group] = []
        samples: list[SampleRecord] = []
        own: dict[str, list[CellRecord]] = {name: [] for name in anchors}
        selected: dict[str, list[CellRecord]] = {name: [] for name in anchors}
        for look, groups in self._play(self._looks(anchors, own_selects), player, watch, tell):
            name, category = look.environment, look.category
            if look.stream == "select":  # the pool that a scheduler may look at: accuracy, and nothing else
                selected[name].append(self._cell(name, category, "pass_1", groups))
            elif look.stream == "greedy":
                own[name].append(self._cell(name, category, "greedy_accuracy", groups))
            else:
                played += groups
                samples += [sample_record(slot, 0, group) for slot, group in enumerate(groups[:KEPT_SAMPLES])]
                own[name] += [self._cell(name, category, metric, groups) for metric in MEASURES]
                # token mean over all samples, nats (plasticity metrics: token mean, T = 1)
                tokens = sum(group.num_tokens for group in groups)
                entropy = sum(group.entropy_sum for group in groups) / tokens if tokens else None
                own[name].append(
                    self._record(name, category, "entropy_token", entropy, None, len(groups), look.group_size)
                )
        cells: list[CellRecord] = []
        for name in anchors:
            cells += [*own[name], *self._means(name, own[name])]
            for_scheduler = (*selected[name], *self._means(name, selected[name]))
            cells += [replace(cell, split="select") for cell in for_scheduler]
        self.played[:] = played
        # a scheduler gets every environment's accuracy, if it asked; a closed one has only its own tasks
        shown = [
            (cell.environment, cell.split, cell.value)
            for cell in cells
            if self.selects is not None and cell.metric == "pass_1" and cell.category is None
            if cell.split != "anchor" and cell.environment is not None and cell.value is not None
        ]
        return Findings(
            config=self._config(player),
            cells=cells,
            items=[
                ItemRecord(
                    group.task.environment,
                    group.task.category,
                    group.task.key,
                    len(group.scored),
                    sum(group.correct),
                    sum(group.values),
                    group.entropy_sum,
                    group.num_tokens,
                    answers_of(self.environments[group.task.environment], group) if self.keeps_answers else (),
                )
                for group in played
            ],
            samples=samples,
            events=unscorable(played, " in evaluation"),
            entropies={
                f"{cell.environment}/{cell.category}": cell.value
                for cell in cells
                if cell.metric == "entropy_token" and cell.category is not None and cell.value is not None
            },
            queries=[HoldoutQueryRecord(name, None, split, "scheduler", value) for name, split, value in shown],
            scores={name: value for name, _, value in shown},
            components=self._components(played),
        )

    def _looks(self, anchors: HeldOut, selects: HeldOut) -> list[Look]:
        """List what is played, by environment; a category of which nothing was held out is never measured."""
        per_item, looks = self.section.samples, list[Look]()
        for name, by_category in anchors.items():
            for category, tasks in by_category.items():
                looks.append(Look("evaluate", name, category, tasks, per_item))
                if self.section.greedy:
                    looks.append(Look("greedy", name, category, tasks, 1))
            looks += [Look("select", name, *of, per_item) for of in selects.get(name, {}).items()]
        return [look for look in looks if look.tasks]

    def _play(
        self, looks: Sequence[Look], player: Player, watch: Stopwatch, tell: Tell
    ) -> Iterator[tuple[Look, list[Group]]]:
        """Play categories together, as many as make a batch; each has the random numbers that it has alone."""
        done, total = 0, sum(look.stream != "greedy" for look in looks)
        for batch in batches(looks):
            tell(said(batch), done, total)
            done += sum(look.stream != "greedy" for look in batch)
            groups: dict[Look, list[Group]] = {}
            for sampling, own in (
                (AT_ONE, [look for look in batch if look.stream != "greedy"]),
                (GREEDY, [look for look in batch if look.stream == "greedy"]),
            ):
                if not own:
                    continue
                every = [(look, place, task) for look in own for place, task in enumerate(look.tasks)]
                found = player.play(
                    [task for _, _, task in every],
                    [look.group_size for look, _, _ in every],
                    sampling,
                    [f"{look.stream}/{look.category}" for look, _, _ in every],
                    0,
                    watch,
                    places=[(place, 0) for _, place, _ in every],
                )
                for (look, _, _), group in zip(every, found, strict=True):
                    groups.setdefault(look, []).append(group)
            yield from ((look, groups[look]) for look in batch)

    def _cost(self, anchors: HeldOut, selects: HeldOut) -> float:
        """Passes of evaluating these tasks; the scheduler's are not played greedily."""
        costs = of_evaluation(self.section, num_tasks(anchors), self.lengths)
        selected = sum(num * self.lengths[name] for name, num in num_tasks(selects).items())
        return sum(costs.values()) + selected * self.section.samples

    def _config(self, player: Player) -> dict[str, Any]:
        """Everything that a value depends on beside the policy: values under other settings are other values.

        What belongs to an environment (its version, options, own token limit) is not here: another one of these is
        another environment, in the ledger too, and adding one must not make the others incomparable. Limits that
        nobody set are not here either: numbers from before there were any are still comparable.
        """
        shared = player.budgets.shared
        limits = shared.model_dump(include={"turn_tokens", "max_turns", "cut_off"}, exclude_defaults=True)
        return {
            "items": self.section.items,
            "samples": self.section.samples,
            "temperature": 1.0,
            "top_p": 1.0,
            "top_k": 0,
            "max_tokens": shared.max_tokens,
            "template": player.policy.template,
            **limits,
            **({} if player.sampler.entropy == "exact" else {"entropy": player.sampler.entropy}),
        }

    def _components(self, played: Sequence[Group]) -> dict[str, frozenset[str]]:
        """Name the components of the scores, by environment that has categories to train on."""
        found: dict[str, frozenset[str]] = {}
        for group in played:
            environment = self.environments[group.task.environment]
            if group.scored and any(category.trainable for category in environment.categories):
                here = (sample.score.components for sample in group.scored)
                found[environment.name] = found.get(environment.name, frozenset()).union(*here)
        return found

    def _cell(self, name: str, category: str, metric: str, groups: Sequence[Group]) -> CellRecord:
        """Mean over the items; the standard error is that of the mean over items."""
        measure = MEASURES.get(metric, _accuracy)
        values = [value for group in groups if (value := measure(group)) is not None]
        stderr = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
        per_item = len(groups[0].samples) if groups else 0
        return self._record(name, category, metric, _mean(values), stderr, len(values), per_item)

    def _record(
        self,
        name: str,
        category: str | None,
        metric: str,
        value: float | None,
        stderr: float | None,
        num_items: int,
        samples_per_item: int,
    ) -> CellRecord:
        split = "own" if self.environments[name].closed else "anchor"
        return CellRecord(name, category, metric, value, stderr, num_items, samples_per_item, split)

    def _means(self, name: str, cells: Sequence[CellRecord]) -> list[CellRecord]:
        return means(self.environments[name], cells)


def means(environment: Environment, cells: Sequence[CellRecord], conditional: Collection[str] = ()) -> list[CellRecord]:
    """Give an environment's own value of every metric: the equal-weight mean over its trainable categories.

    One that trains on none has the mean over all of them. Those without a held-out task have no cells and are left out
    at every boundary alike. It is undefined where the value of another is: a mean over the rest would be none of the
    same thing at two boundaries. Only metrics that are `conditional`, which not every task has, are over the categories
    that have them.
    """
    trainable = {c.name for c in environment.categories if c.trainable} or {c.name for c in environment.categories}
    split = "own" if environment.closed else "anchor"
    found = []
    for metric in dict.fromkeys(cell.metric for cell in cells):
        every = [c for c in cells if c.metric == metric and c.category in trainable]
        of = [c for c in every if c.value is not None]
        of = of if len(of) == len(every) or metric in conditional else []
        errors = [c.stderr for c in of if c.stderr is not None]
        is_known = of and len(errors) == len(of)
        stderr = math.sqrt(sum(e * e for e in errors)) / len(of) if is_known else None
        value = _mean([c.value for c in of if c.value is not None])
        per_item, num_items = max((c.samples_per_item for c in of), default=0), sum(c.num_items for c in of)
        found.append(CellRecord(environment.name, None, metric, value, stderr, num_items, per_item, split))
    return found


def answers_of(environment: Environment, group: Group) -> tuple[AnswerCount, ...]:
    """Count the answers of a task's scored samples; one that was cut off without being correct gave none."""
    read = (
        (None if sample.was_cut_off and not correct else environment.answer_in(group.task, sample.completion), correct)
        for sample, correct in zip(group.scored, group.correct, strict=True)
    )
    return counted((normalised(text), correct) for text, correct in read)


def batches(looks: Sequence[Look]) -> Iterator[list[Look]]:
    """Cut into batches of whole categories, each of `BATCH` episodes or somewhat more, the last perhaps of fewer.

    Which environments are evaluated beside one changes its batch, and so at most the last bits of what is summed there.
    """
    batch, size = list[Look](), 0
    for look in looks:
        batch.append(look)
        size += len(look.tasks) * look.group_size
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def said(batch: Sequence[Look]) -> str:
    """Say what is evaluated."""
    first = batch[0]
    what = f"evaluating {first.environment}.{first.category}{' for the scheduler' * (first.stream == 'select')}"
    others = len({(look.environment, look.category) for look in batch}) - 1
    return f"{what} and {others} more" if others else what


def num_tasks(held_out: HeldOut) -> dict[str, int]:
    """Count the tasks of every environment."""
    return {name: sum(len(tasks) for tasks in own.values()) for name, own in held_out.items()}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _accuracy(group: Group) -> float | None:
    return _mean([float(c) for c in group.correct])


def pass_4(group: Group) -> float | None:
    """pass@4 of a task; None when fewer than 4 of its samples could be scored."""
    return pass_at_k(len(group.correct), sum(group.correct), 4) if len(group.correct) >= 4 else None


MEASURES: dict[str, Callable[[Group], float | None]] = {  # by metric, in the order of their cells
    "pass_1": _accuracy,
    "value": lambda group: _mean(group.values),
    "pass_4": pass_4,
    "truncated_frac": lambda group: _mean([float(sample.was_cut_off) for sample in group.samples]),
}


def sample_record(slot: int, number: int, group: Group) -> SampleRecord:
    """Keep one completion of a group for people to read."""
    sample = group.samples[number]
    return SampleRecord(
        slot,
        number,
        group.task.environment,
        group.task.category,
        group.task.key,
        [dict(message) for message in sample.messages],
        sample.completion,
        sample.score.value,
        sample.score.correct,
        sample.score.reason,
    )
