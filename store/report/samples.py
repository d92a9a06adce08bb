"""Samples before and after: the same held-out tasks at the first and the last boundary.

Which tasks are shown is settled before looking: the first ones of every category, in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from store.ledger.query_rows import SampleRow, by_key
from store.report.report_data import ReportData
from store.report.templates import clipped
from store.sentences import number

SHOWN = 6  # tasks of an environment
LONGEST = 80  # characters of the reason why a sample has no score


@dataclass(frozen=True)
class Answer:
    """What the policy wrote, and how it was scored."""

    text: str
    verdict: str
    css: str


@dataclass(frozen=True)
class SamplePair:
    """One task, answered before and after."""

    category: str
    messages: Sequence[Mapping[str, Any]]
    before: Answer
    after: Answer | None  # None: there is no later boundary yet


def examples(data: ReportData) -> dict[str, list[SamplePair]]:
    """Choose and pair samples, by environment: the same number of every category; of many, evenly spaced ones."""
    first = data.boundaries[0].after_stage if data.boundaries else 0
    later = {_task(sample): _answer(sample) for sample in data.samples if sample.after_stage != first}
    found = {}
    for name in data.environments:
        own = (one for one in data.samples if one.environment == name and one.after_stage == first)
        by_category = by_key(own, lambda sample: sample.category)
        categories = list(by_category)
        if len(categories) > SHOWN:
            categories = [categories[i * len(categories) // SHOWN] for i in range(SHOWN)]
        each = max(1, SHOWN // max(1, len(categories)))
        pairs = [
            SamplePair(sample.category, sample.messages, _answer(sample), later.get(_task(sample)))
            for category in categories
            for sample in by_category[category][:each]
        ]
        if pairs and name in data.facts["environments"]:  # it may have been measured just now
            found[name] = pairs
    return found


def _task(sample: SampleRow) -> tuple[str, str, str, int]:
    return sample.environment, sample.category, sample.task_key, sample.sample


def _answer(sample: SampleRow) -> Answer:
    if sample.reason is not None:
        return Answer(sample.completion, f"not scored: {clipped(sample.reason, LONGEST)}", "unscored")
    verdict = "correct" if sample.correct else "wrong"
    is_partial = sample.value not in (0.0, 1.0)
    text = f"{verdict}, value {number(sample.value)}" if is_partial else verdict
    return Answer(sample.completion, text, verdict)
