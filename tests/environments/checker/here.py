"""Checks for tests that need no processes: all in this one, with a second build for the other process."""

from __future__ import annotations

from functools import cache

from environments import EnvironmentSource
from environments.checker import Finding
from environments.checker.checker import CHECKS, run_check
from environments.checker.findings import CheckContext, CheckLimits
from environments.scoring.jobs import play
from environments.scoring.kept_episodes import KeptEpisodes

BAD = "tests.environments.checker.bad:create"
BUSY = ("scan-short",)  # what a machine that does something else makes of any environment
FEW = CheckLimits(tasks=8, scan=120, budget_s=1.0)


def findings_here(source: EnvironmentSource, limits: CheckLimits = FEW) -> list[Finding]:
    second, kept = cache(source.create), KeptEpisodes()
    context = CheckContext(source, limits, lambda jobs: [play(second(), job, kept) for job in jobs], lambda words: None)
    findings = []
    for name, check in CHECKS.items():
        if name == "build" or context.is_built:
            findings += run_check(check, context)
    return [found for found in findings if found.rule not in BUSY]


def bad(fault: str) -> EnvironmentSource:
    return EnvironmentSource("sums", BAD, {"fault": fault})
