"""Samples before and after: the same held-out tasks at the first and the last boundary.

Which tasks are shown is settled before looking: the first ones of every category, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from store.ledger.query_rows import SampleRow
from store.report.report_data import ReportData
from store.report.safe_text import clipped
from store.sentences import number

SHOWN = 6  # tasks of an environment
LONGEST = 600  # characters of a message or a completion


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
    messages: Sequence[tuple[str, str]]  # role, text
    before: Answer
    after: Answer | None  # None: there is no later boundary yet


@dataclass(frozen=True)
class SampleExamples:
    """The pairs of an environment."""

    environment: str
    is_closed: bool  # its own tasks
    pairs: Sequence[SamplePair]


def examples(material: ReportData) -> list[SampleExamples]:
    """Choose and pair samples, by environment."""
    found = []
    for name in material.environments:
        pairs = _pairs(material, name)
        if pairs and name in material.story["environments"]:  # it may have been measured just now
            found.append(SampleExamples(name, material.story["environments"][name]["closed"], pairs))
    return found


def _pairs(material: ReportData, environment: str) -> list[SamplePair]:
    first = material.boundaries[0].after_stage if material.boundaries else 0
    own = [sample for sample in material.samples if sample.environment == environment]
    before = [sample for sample in own if sample.after_stage == first]
    later = {_task(sample): sample for sample in own if sample.after_stage != first}
    return [
        SamplePair(
            sample.category,
            [(message["role"], clipped(message["content"], LONGEST)) for message in sample.messages],
            _answer(sample),
            _answer(later[_task(sample)]) if _task(sample) in later else None,
        )
        for sample in _chosen(before)
    ]


def _chosen(samples: Sequence[SampleRow]) -> list[SampleRow]:
    """Take the same number of first tasks of every category; of many categories, evenly spaced ones."""
    by_category: dict[str, list[SampleRow]] = {}
    for sample in samples:
        by_category.setdefault(sample.category, []).append(sample)
    categories = list(by_category)
    if len(categories) > SHOWN:
        categories = [categories[i * len(categories) // SHOWN] for i in range(SHOWN)]
    each = max(1, SHOWN // max(1, len(categories)))
    return [sample for category in categories for sample in by_category[category][:each]]


def _task(sample: SampleRow) -> tuple[str, str, int]:
    return sample.category, sample.task_key, sample.sample


def _answer(sample: SampleRow) -> Answer:
    text = clipped(sample.completion, LONGEST)
    if sample.reason is not None:
        return Answer(text, f"not scored: {clipped(sample.reason, 80)}", "unscored")
    verdict = "correct" if sample.correct else "wrong"
    is_partial = sample.value not in (0.0, 1.0)
    return Answer(text, f"{verdict}, value {number(sample.value)}" if is_partial else verdict, verdict)
