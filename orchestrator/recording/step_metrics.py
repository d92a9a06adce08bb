"""The numbers of a step, by (environment, category) and pooled, from its groups and its update.

What each name means, its unit and what unhealthy looks like stands in `store.metrics`. The objective's controllers read
some of them: a step's entropy by category, and the numbers of its update.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.choosing.arm_states import ArmStates
from orchestrator.measurements.interim import InterimFindings
from orchestrator.played_group import Group, PlayedGroup
from orchestrator.rollout.batch import RolloutBatch
from orchestrator.stopwatch import Stopwatch
from policies.learner import UpdateReport
from policies.objectives.registry import load
from store.metrics import METRICS
from store.records import MetricRecord

Place = tuple[str | None, str | None]  # environment, category; None: all of them
Sums = Mapping[str, tuple[float, float]]  # "environment/category" -> (sum over tokens in nats, tokens)

RUN_LENGTH = 4  # tokens: what is counted as repeated
PARTS = ("draw", "play", "score", "wait", "update")  # of a step's time; the rest is "other"


@dataclass(frozen=True)
class StepResult:
    """A step: what was played, and what was learned from it."""

    batch: RolloutBatch
    arms: ArmStates  # as they stand after learning, before anything else is picked
    version: int  # of the weights that the update began with
    report: UpdateReport | None  # None: nothing could be scored
    update: Sequence[MetricRecord]  # the numbers of the update
    controlled: Mapping[str, float]  # what the objective's controllers log
    found: InterimFindings  # by an evaluation inside the stage
    left_out: str | None = None  # why a guard left out the update
    set_aside: Sequence[str] = ()  # what went into quarantine or came out of it


# A group's metric: the sum of one count over that of another, which `of_group` gives; sums add exactly.
RATIOS = {
    "reward": ("value", "scored"),
    "accuracy": ("correct", "scored"),
    "signal": ("signal", "signals"),
    "zero_var_groups": ("even", "compared"),
    "response_len": ("tokens", "samples"),
    "truncated_frac": ("truncated", "samples"),
    "num_turns": ("turns", "samples"),
    "entropy_token": ("entropy", "tokens"),
}


def of_group(group: PlayedGroup) -> dict[str, Any]:
    """What is counted of a group; only groups with at least two scored samples are compared."""
    values, turns = group.values, [sample.num_turns for sample in group.samples]
    is_compared = len(values) > 1
    return {
        "samples": len(group.samples),
        "scored": len(values),
        "correct": sum(group.correct),
        "tokens": group.num_tokens,
        "truncated": group.num_truncated,
        "turns": sum(turns),
        "has_turns": int(max(turns) > 1),
        "value": sum(values),
        "entropy": group.entropy_sum,
        "compared": int(is_compared),
        "even": int(is_compared and max(values) == min(values)),
        "signal": group.signal or 0.0,
        "signals": int(group.signal is not None),
    }


def of_batch(groups: Sequence[PlayedGroup], reads_texts: bool) -> list[MetricRecord]:
    """Metrics of what was played; `reads_texts`: also how much answers repeat themselves, which takes longer."""
    return [*of_groups(groups), *(of_repetition(groups) if reads_texts else [])]


def of_groups(groups: Sequence[PlayedGroup]) -> list[MetricRecord]:
    """Metrics of every (environment, category) present, of every environment, and of the whole batch.

    Those with nothing to count are left out, and turns where every sample has one.
    """
    tallies: dict[Place, Counter[str]] = defaultdict(Counter)
    for group in groups:
        own = of_group(group)
        for place in _places(group):
            tallies[place].update(own)
    records: list[MetricRecord] = []
    for place, sums in tallies.items():
        records += [
            MetricRecord(name, sums[total] / sums[count], *place, sums[count])
            for name, (total, count) in RATIOS.items()
            if sums[count] and (name != "num_turns" or sums["has_turns"])
        ]
        num_samples = sums["samples"]
        records.append(MetricRecord("num_unscorable", num_samples - sums["scored"], *place, num_samples))
    return records


def of_repetition(groups: Sequence[PlayedGroup]) -> list[MetricRecord]:
    """How much answers repeat themselves: the share of a sample's runs of tokens that stand in it before."""
    shares: dict[str | None, list[float]] = defaultdict(list)
    for group in groups:
        for sample in group.samples:
            written = sample.ids[sample.mask]
            if (num_runs := len(written) - RUN_LENGTH + 1) > 0:
                runs = np.lib.stride_tricks.sliding_window_view(written, RUN_LENGTH)
                share = 1 - len(np.unique(runs, axis=0)) / num_runs
                shares[group.slot.environment].append(share)
                shares[None].append(share)
    return [MetricRecord("repeated_frac", float(np.mean(own)), name, n=len(own)) for name, own in shares.items()]


def of_update(report: UpdateReport | None) -> list[MetricRecord]:
    """What the update did; what is not finite is kept as missing."""
    if report is None:
        return []
    records = [_of_objective(name, value) for name, value in report.metrics.items()]
    for arm, (total, count) in report.covariance.items():
        environment, _, category = arm.partition("/")
        if count:
            place = (environment or None, category or None)
            records.append(MetricRecord("covariance", total / count, *place, int(count)))
    return records


def of_controllers(logged: Mapping[str, float], update: Sequence[MetricRecord]) -> list[MetricRecord]:
    """What the objective's controllers log, but for what the update says itself."""
    told = {(one.name, one.environment) for one in update if one.category is None}
    records = [_of_objective(key, value) for key, value in logged.items()]
    return [one for one in records if (one.name, one.environment) not in told]


def readable(update: Sequence[MetricRecord]) -> dict[str, float]:
    """The numbers of an update as controllers read them, by name; those that are not finite are left out.

    Those of an environment go by "name/environment".
    """
    whole = [one for one in update if one.value is not None and one.category is None]
    return {"/".join(filter(None, (one.name, one.environment))): one.value for one in whole if one.value is not None}


def entropies(groups: Sequence[Group], report: UpdateReport | None, source: str) -> Sums:
    """The entropies of a step's tokens, from the objective's source (`entropy` in its section).

    The sampler's and the surprisal are those of all tokens that the batch holds. The surprisal that is weighed by the
    learner is that of the rows which it was given: without what could not be scored, or what a plan left out.
    """
    if source == "surprisal_iw":
        return {} if report is None else report.surprisal
    sums: dict[str, tuple[float, float]] = {}
    for group in groups:
        if source == "surprisal":
            own = -sum(float(sample.logprobs[sample.mask].sum(dtype=np.float64)) for sample in group.samples)
        else:
            own = group.entropy_sum
        total, count = sums.get(group.arm, (0.0, 0))
        sums[group.arm] = (total + own, count + group.num_tokens)
    return sums


def _known(name: str) -> str:
    """The ledger's name for what an objective tells; parts, of which some are a user's own, have names of their own."""
    return name if name in METRICS or name.startswith("force_") else f"part_{name}"


def _of_objective(key: str, value: float) -> MetricRecord:
    """Record what an objective tells, of one environment where its key ends with one: "name/environment"."""
    name, _, environment = key.partition("/")
    return MetricRecord(_known(name), value if math.isfinite(value) else None, environment or None)


def _places(group: PlayedGroup) -> tuple[Place, Place, Place]:
    return (group.slot.environment, group.slot.category), (group.slot.environment, None), (None, None)


def of_plans(batch: RolloutBatch) -> list[MetricRecord]:
    """What the objective's data plans did; nothing without them."""
    records: list[MetricRecord] = []
    effects = {load("plans", name).info.plan for name in batch.plans}
    if "drops_even_groups" in effects:  # what was generated and what was kept are to be of one mix
        records.append(MetricRecord("generation_rounds", batch.num_rounds))
        generated = Counter(place for group in batch.groups for place in _places(group))
        dropped = Counter(place for number in batch.dropped for place in _places(batch.groups[number]))
        for place, num in generated.items():
            records.append(MetricRecord("groups_generated", num, *place))
            records.append(MetricRecord("groups_kept", num - dropped[place], *place))
    if "sizes_groups" in effects:
        sizes = [len(group.samples) for group in batch.groups]
        records += [MetricRecord("smallest_group", min(sizes)), MetricRecord("largest_group", max(sizes))]
    if batch.sides:
        num_rows = sum(len(side.taught) for side in batch.sides)
        num_samples = sum(len(side.group.samples) for side in batch.sides)
        records.append(MetricRecord("tempered_rows", num_rows, n=num_samples))
        temperatures = {side.group.task.environment: side.temperature for side in batch.sides}
        is_one = len(set(temperatures.values())) == 1  # else each environment's objective has its own
        places = {None: batch.sides[0].temperature} if is_one else temperatures
        records += [MetricRecord("tempered_temperature", value, name) for name, value in places.items()]
    return records


def of_passed_over(batch: RolloutBatch) -> list[MetricRecord]:
    """How many tasks were met and left out while the batch was drawn; nothing where none was."""
    nums: dict[str | None, int] = {name: passed.num for name, passed in batch.passed_over.items()}
    if nums:
        nums[None] = sum(nums.values())
    return [MetricRecord("passed_over", num, name) for name, num in nums.items()]


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
    of_update = {"tokens_per_s_update": num_tokens[None], "tokens_fed_per_s": report.num_tokens_fed} if report else {}
    return [
        *(MetricRecord(f"seconds_{part}", value) for part, value in own.items()),
        MetricRecord("seconds_other", max(0.0, watch.total - sum(own.values()))),
        MetricRecord("tokens_per_s", num_tokens[None] / watch.total),
        *(MetricRecord("tokens_per_s_play", num / played_s, name) for name, num in num_tokens.items() if played_s),
        *(MetricRecord(name, num / own["update"]) for name, num in of_update.items()),
    ]
