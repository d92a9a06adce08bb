"""The numbers of a step, by (environment, category) and pooled, from its groups and its update.

What each name means, its unit and what unhealthy looks like stands in `store.metrics`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.choosing import Slot
from orchestrator.playing import Group
from orchestrator.stopwatch import Stopwatch
from policies.learner import UpdateReport
from store.records import MetricRecord

PARTS = ("draw", "play", "score", "update")  # of a step's time; the rest is "other"


@dataclass
class Tally:
    """Sums over some of a step's groups; ratios are taken last, so tallies add exactly."""

    num_groups: int = 0
    num_samples: int = 0
    num_scored: int = 0
    num_correct: int = 0
    num_tokens: int = 0
    num_truncated: int = 0
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
    tallies: dict[tuple[str | None, str | None], Tally] = {}
    for slot, group, signal in zip(slots, groups, signals, strict=True):
        for key in ((slot.environment, slot.category), (slot.environment, None), (None, None)):
            tallies.setdefault(key, Tally()).add(group, signal)
    return [record for key, tally in tallies.items() for record in tally.records(*key)]


def of_update(report: UpdateReport | None, entropy: Mapping[str, float]) -> list[MetricRecord]:
    """What the update and the controller did; what is not finite is kept as missing."""
    numbers: dict[str, float] = dict(entropy)
    if report is not None:
        numbers |= {name: total / count for name, (total, count) in report.sums.items() if count}
        numbers |= report.maxima
        numbers |= {"loss": report.loss, "grad_norm": report.grad_norm, "lr": report.lr}
        numbers["skipped_updates"] = report.num_skipped
    return [MetricRecord(name, value if math.isfinite(value) else None) for name, value in numbers.items()]


def of_time(watch: Stopwatch, num_tokens: int) -> list[MetricRecord]:
    """Where the step's time went, up to now."""
    seconds = {part: watch.seconds.get(part, 0.0) for part in PARTS}
    seconds["other"] = max(0.0, watch.total - sum(seconds.values()))
    return [
        *(MetricRecord(f"seconds_{part}", value) for part, value in seconds.items()),
        MetricRecord("tokens_per_s", num_tokens / watch.total),
    ]
