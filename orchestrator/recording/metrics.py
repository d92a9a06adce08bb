"""The numbers of a step, by (environment, category) and pooled, from its groups and its update.

What each name means, its unit and what unhealthy looks like stands in `store.metrics`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.choosing.choice import Slot
from orchestrator.rollout.data_plans import RolloutBatch
from orchestrator.rollout.player import Group
from orchestrator.stopwatch import Stopwatch
from policies.learner import UpdateReport
from policies.objectives.registry import load
from store.metrics import METRICS
from store.records import MetricRecord

PARTS = ("draw", "play", "score", "wait", "update")  # of a step's time; the rest is "other"


@dataclass
class GroupTally:
    """Sums over some of a step's groups; ratios are taken last, so tallies add exactly."""

    num_groups: int = 0
    num_samples: int = 0
    num_scored: int = 0
    num_correct: int = 0
    num_tokens: int = 0
    num_truncated: int = 0
    num_turns: int = 0
    most_turns: int = 0  # of one sample
    num_zero_var: int = 0  # of the groups with at least two scored samples
    num_compared: int = 0  # those groups
    value_sum: float = 0.0
    entropy_sum: float = 0.0
    signal_sum: float = 0.0
    num_signals: int = 0

    def add(self, group: Group, signal: float | None) -> None:
        """Take a group in."""
        values = group.values
        self.num_groups += 1
        self.num_samples += len(group.samples)
        self.num_scored += len(values)
        self.num_correct += sum(group.correct)
        self.num_tokens += group.num_tokens
        self.num_truncated += group.num_truncated
        self.num_turns += sum(sample.num_turns for sample in group.samples)
        self.most_turns = max(self.most_turns, *(sample.num_turns for sample in group.samples))
        self.value_sum += sum(values)
        self.entropy_sum += group.entropy_sum
        if len(values) > 1:
            self.num_compared += 1
            self.num_zero_var += max(values) == min(values)
        if signal is not None:
            self.signal_sum, self.num_signals = self.signal_sum + signal, self.num_signals + 1

    def records(self, environment: str | None, category: str | None) -> Iterable[MetricRecord]:
        """Yield this tally's metrics; those with nothing to count are left out."""
        for name, total, count in (
            ("reward", self.value_sum, self.num_scored),
            ("accuracy", self.num_correct, self.num_scored),
            ("signal", self.signal_sum, self.num_signals),
            ("zero_var_groups", self.num_zero_var, self.num_compared),
            ("response_len", self.num_tokens, self.num_samples),
            ("truncated_frac", self.num_truncated, self.num_samples),
            ("num_turns", self.num_turns, self.num_samples if self.most_turns > 1 else 0),
            ("entropy_token", self.entropy_sum, self.num_tokens),
        ):
            if count:
                yield MetricRecord(name, total / count, environment, category, count)
        unscorable = self.num_samples - self.num_scored
        yield MetricRecord("num_unscorable", unscorable, environment, category, self.num_samples)


def of_groups(
    slots: Sequence[Slot], groups: Sequence[Group], signals: Sequence[float | None]
) -> list[MetricRecord]:
    """Metrics of every (environment, category) present, of every environment, and of the whole batch."""
    tallies: dict[tuple[str | None, str | None], GroupTally] = {}
    for slot, group, signal in zip(slots, groups, signals, strict=True):
        for key in ((slot.environment, slot.category), (slot.environment, None), (None, None)):
            tallies.setdefault(key, GroupTally()).add(group, signal)
    return [record for key, tally in tallies.items() for record in tally.records(*key)]


def of_update(report: UpdateReport | None, entropy: Mapping[str, float]) -> list[MetricRecord]:
    """What the update and the controller did; what is not finite is kept as missing."""
    numbers = {known(name): value for name, value in entropy.items()}
    if report is not None:
        numbers |= {known(name): value for name, value in report.metrics.items()}
    records = [MetricRecord(name, value if math.isfinite(value) else None) for name, value in numbers.items()]
    return records if report is None else [*records, *_of_covariance(report)]


def known(name: str) -> str:
    """The ledger's name for what an objective tells; parts, of which some are a user's own, have names of their own."""
    return name if name in METRICS or name.startswith("force_") else f"part_{name}"


def _of_covariance(report: UpdateReport) -> Iterable[MetricRecord]:
    for arm, (total, count) in report.covariance.items():
        environment, _, category = arm.partition("/")
        if count:
            yield MetricRecord("covariance", total / count, environment or None, category or None, int(count))


def of_plans(played: RolloutBatch) -> list[MetricRecord]:
    """What the objective's data plans did; nothing without them."""
    records: list[MetricRecord] = []
    effects = {load("plans", name).info.plan for name in played.plans}
    if "drops_even_groups" in effects:
        records += [MetricRecord("generation_rounds", played.num_rounds), *_of_mix(played)]
    if "sizes_groups" in effects:
        sizes = [len(group.samples) for group in played.groups]
        records += [MetricRecord("smallest_group", min(sizes)), MetricRecord("largest_group", max(sizes))]
    if played.sides:
        num_rows = sum(len(side.taught) for side in played.sides)
        num_samples = sum(len(side.group.samples) for side in played.sides)
        records.append(MetricRecord("tempered_rows", num_rows, n=num_samples))
        records.append(MetricRecord("tempered_temperature", played.sides[0].temperature))
    return records


def of_drawing(played: RolloutBatch) -> list[MetricRecord]:
    """How many tasks were met and left out while the batch was drawn; nothing where none was."""
    nums: dict[str | None, int] = {name: passed.num for name, passed in played.passed_over.items()}
    if nums:
        nums[None] = sum(nums.values())
    return [MetricRecord("passed_over", num, name) for name, num in nums.items()]


def _of_mix(played: RolloutBatch) -> list[MetricRecord]:
    """Count what was generated and what was kept, by (environment, category) and in all: they are to be alike."""
    counts: dict[tuple[str | None, str | None], list[int]] = {}
    for place, slot in enumerate(played.slots):
        for key in ((slot.environment, slot.category), (slot.environment, None), (None, None)):
            count = counts.setdefault(key, [0, 0])
            count[0] += 1
            count[1] += place not in played.dropped
    return [
        MetricRecord(name, number, *key)
        for key, numbers in counts.items()
        for name, number in zip(("groups_generated", "groups_kept"), numbers, strict=True)
    ]


def of_versions(groups: Sequence[Group], version: int) -> list[MetricRecord]:
    """How old the weights were that wrote the batch, on weights of this version."""
    spans = [span for group in groups for sample in group.samples for span in sample.spans]
    behind = sum((version - span.version) * (span.end - span.start) for span in spans)
    total = sum(span.end - span.start for span in spans)
    return [MetricRecord("versions_behind", behind / total, n=total)] if total else []


def of_time(watch: Stopwatch, groups: Sequence[Group], report: UpdateReport | None) -> list[MetricRecord]:
    """Where the step's time went, up to now, and how many of the policy's tokens passed in a second.

    What another thread did at the same time is no part of the step's time, but it is the time that playing took.
    """
    own = {part: watch.seconds.get(part, 0.0) for part in PARTS}
    num_tokens: dict[str | None, int] = {None: 0}
    for group in groups:
        for name in (None, group.task.environment):
            num_tokens[name] = num_tokens.get(name, 0) + group.num_tokens
    played_s = own["play"] + watch.beside.get("play", 0.0)
    return [
        *(MetricRecord(f"seconds_{part}", value) for part, value in own.items()),
        MetricRecord("seconds_other", max(0.0, watch.total - sum(own.values()))),
        MetricRecord("tokens_per_s", num_tokens[None] / watch.total),
        *(
            MetricRecord("tokens_per_s_play", num / played_s, name)
            for name, num in num_tokens.items()
            if played_s
        ),
        *(_of_update_time(num_tokens[None], report, own["update"]) if report else []),
    ]


def _of_update_time(num_tokens: int, report: UpdateReport, seconds: float) -> list[MetricRecord]:
    return [
        MetricRecord("tokens_per_s_update", num_tokens / seconds),
        MetricRecord("tokens_fed_per_s", report.num_tokens_fed / seconds),
    ]
