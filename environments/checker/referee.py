"""The referee: every check of an environment, made where it cannot hurt, and put together into a report."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from environments.checker.checks import CHECKS, ELSEWHERE, Check
from environments.checker.context import CheckLimits
from environments.checker.findings import (
    SEVERITIES,
    CategoryFacts,
    CheckReport,
    Finding,
    from_plain,
    shown,
    told,
)
from environments.checker.rules import RULES
from environments.checker.sandbox_process import Answer, Lost, SandboxProcess
from environments.scoring import ScoringOptions
from environments.sources import EnvironmentSource

Progress = Callable[[str], None]


def check(
    source: EnvironmentSource,
    *,
    tasks: int = 32,
    scoring: ScoringOptions | None = None,
    patience_s: float = 60.0,
    progress: Progress | None = None,
) -> list[Finding]:
    """Check an environment, in processes of its own; errors come first.

    Nothing the environment does reaches the caller: what crashes, hangs, prints or exits becomes a finding.

    Args:
        source: its recipe: name, type, options.
        tasks: how many tasks of each category are looked at closely.
        scoring: the limits that scores will have; default: those of a spec that says nothing.
        patience_s: how long a single call into the environment may take, building included.
        progress: told, in words, what is being done.
    """
    return list(examine(source, tasks, scoring, patience_s, progress).findings)


def examine(
    source: EnvironmentSource,
    tasks: int = 32,
    scoring: ScoringOptions | None = None,
    patience_s: float = 60.0,
    progress: Progress | None = None,
) -> CheckReport:
    """Do the same and report the facts too: sizes, distinct tasks, pools, times."""
    limits = CheckLimits(tasks, patience_s=patience_s, scoring=scoring or ScoringOptions())
    try:
        pickle.dumps(source)
    except Exception as error:  # the options are the caller's objects and may fail in any way
        finding = _finding("build", f"its options cannot be sent to the scoring processes: {told(error)}")
        return CheckReport(source.name, source.type, findings=(finding,))
    return _Examination(source, limits, progress or (lambda words: None)).report()


class _Examination:
    """One examination: findings and the last answer, as they come in."""

    def __init__(self, source: EnvironmentSource, limits: CheckLimits, progress: Progress) -> None:
        self._source, self._limits, self._progress = source, limits, progress
        self._findings: list[Finding] = []
        self._answer: Answer = {"facts": {}, "counts": [], "prints": {}}

    def report(self) -> CheckReport:
        self._look()
        if self._answer["prints"]:
            self._look_elsewhere(self._answer["prints"])
        return CheckReport(
            self._source.name,
            self._source.type,
            categories=tuple(CategoryFacts(**counts) for counts in self._answer["counts"]),
            findings=tuple(sorted(self._findings, key=lambda found: SEVERITIES.index(found.severity))),
            **self._answer["facts"],
        )

    def _look(self) -> None:
        """Make all checks in one process; if it is lost, the others are left out: they would fare no better."""
        with SandboxProcess(self._source, self._limits, self._at, hash_seed=1) as witness:
            for name, check in CHECKS.items():
                answer = self._ask(witness, name, check)
                if answer is None:
                    self._findings.append(_finding("left-out", "the checks after that were not made"))
                    return
                self._answer = answer
                if not answer["is_built"]:
                    return

    def _look_elsewhere(self, prints: Answer) -> None:
        """Make the same tasks in another process, its hashes seeded otherwise."""
        with SandboxProcess(self._source, self._limits, self._at, hash_seed=2) as witness:
            self._ask(witness, "elsewhere", ELSEWHERE, prints)

    def _ask(self, witness: SandboxProcess, name: str, check: Check, *arguments: Any) -> Answer | None:
        """Have a check made and keep what it found; None when the process is lost."""
        self._doing = check.doing
        self._progress(check.doing)
        try:
            answer = witness.ask(name, *arguments)
        except Lost as lost:
            self._findings.append(_finding(lost.rule, f"{check.doing}: {lost}"))
            return None
        for plain in answer["findings"]:
            self._add(from_plain(plain))
        printed = witness.printed().strip()
        if printed:
            self._add(_finding("prints", f"it writes to the terminal ({check.doing})", shown(printed)))
        return answer

    def _add(self, finding: Finding) -> None:
        """Keep a finding unless another check or process found the same."""
        known = {(other.rule, other.category) for other in self._findings}
        if finding.rule == "raises" or (finding.rule, finding.category) not in known:
            self._findings.append(finding)

    def _at(self, where: str) -> None:
        self._progress(f"{self._doing}: {where}" if where else self._doing)


def _finding(rule: str, sentence: str, excerpt: str | None = None) -> Finding:
    return Finding(RULES[rule].severity, rule, sentence, RULES[rule].remedy, excerpt=excerpt)
