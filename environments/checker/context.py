"""What the checks of one environment share, in the process that holds it; they add their findings to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from environments.checker.findings import SEVERITIES, CategoryFacts, Finding, Severity, finding_of
from environments.contracts import Category, Environment, Task, Turn
from environments.scoring import ScoringJob, ScoringOptions
from environments.sources import EnvironmentSource

ScoreElsewhere = Callable[[Sequence[ScoringJob]], list[Turn]]
Tell = Callable[[str], None]
Prints = Mapping[str, Mapping[str, list[str]]]  # category: index as text: fingerprints of the task's parts

LEAST_S = 0.5  # for one category, however many there are


@dataclass(frozen=True)
class CheckLimits:
    """How far an examination goes."""

    tasks: int = 32  # looked at closely in every category
    scan: int = 1000  # made in every category to count distinct ones and their pools
    patience_s: float = 60.0  # for a single call into the environment
    budget_s: float = 6.0  # for each round through the categories, which share it
    scoring: ScoringOptions = field(default_factory=ScoringOptions)  # as in the spec


class CheckContext:
    """What the checks share. Each attribute is filled by the check that is first to know it.

    `score_elsewhere` scores in a process of its own; `at` is called with what comes next before calls that could hang.
    """

    environment: Environment  # from the first check on: without one, no other check runs

    def __init__(
        self, source: EnvironmentSource, limits: CheckLimits, score_elsewhere: ScoreElsewhere, at: Tell
    ) -> None:
        self.source, self.limits, self.score_elsewhere, self.at = source, limits, score_elsewhere, at
        self.is_built = False
        self.categories: list[Category] = []  # those with a usable name
        self.sizes: dict[str, int | None] = {}  # of the categories whose size is usable
        self.tasks: dict[str, list[Task]] = {}  # the first ones of each category, well formed
        self.prints: dict[str, dict[str, list[str]]] = {}  # of these tasks, to compare with elsewhere
        self.counts: dict[str, CategoryFacts] = {}
        self.facts: dict[str, Any] = {}  # for the report, JSON
        self._reported: set[tuple[str, str | None]] = set()  # by earlier checks
        self._findings: dict[tuple[str, str | None], Finding] = {}

    def find(
        self,
        rule: str,
        sentence: str,
        category: str | None = None,
        index: int | None = None,
        excerpt: str | None = None,
        severity: Severity | None = None,
    ) -> None:
        """Add a finding, unless an earlier check did; of those alike in a category the worst is kept, and counted."""
        if (rule, category) in self._reported:
            return
        found = finding_of(rule, sentence, category, index, excerpt, severity)
        known = self._findings.get((rule, category))
        if known is not None:
            is_worse = SEVERITIES.index(found.severity) < SEVERITIES.index(known.severity)
            found = replace(found if is_worse else known, times=known.times + 1)
        self._findings[rule, category] = found

    def find_in(
        self, task: Task, rule: str, words: str, excerpt: str | None = None, severity: Severity | None = None
    ) -> None:
        """Add a finding about a task."""
        self.find(rule, words, task.category, task.index, excerpt, severity)

    def take(self) -> list[Finding]:
        """Hand over the findings since the last time."""
        findings = list(self._findings.values())
        self._reported |= {key for key in self._findings if key[0] != "raises"}  # may be about something else
        self._findings.clear()
        return findings

    def budget(self) -> Callable[[], bool]:
        """Start one category's share of the time; the answer says whether it is spent."""
        end = time.monotonic() + max(LEAST_S, self.limits.budget_s / max(1, len(self.categories)))
        return lambda: time.monotonic() > end
