"""How `check-env` prints a report: facts, then findings by rule, then one line that sums up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from environments.foreign_text import clean
from orchestrator.cli.console import number
from orchestrator.cli.tables import table

if TYPE_CHECKING:
    from environments.checker import CheckReport, Finding

STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}
POOLS = ("train", "anchor", "select", "final")


def print_report(out: Console, report: CheckReport) -> None:
    """Print one environment's report; whatever the environment wrote in it is text, never markup."""
    out.print(Text.assemble((report.environment, "bold"), f"  {_what(report)}"))
    if report.build_s is not None:
        out.print(Text(f"  {_cost(report)}"))
    if any(category.num_looked_at for category in report.categories):
        out.print(_categories(report))
    rules: dict[str, list[Finding]] = {}
    for finding in report.findings:
        rules.setdefault(f"{finding.severity} {finding.rule}", []).append(finding)
    for findings in rules.values():
        out.print(_rule(findings))
    out.print(
        Text(f"{report.environment}: {_sum(report)}\n", style="bold red" if report.errors else "bold green")
    )


def _what(report: CheckReport) -> str:
    facts = [report.type]
    facts += [] if report.version is None else [f"version {report.version}"]
    facts += ["closed: evaluated on its own tasks"] if report.closed else []
    facts += ["scored in the trainer"] if report.scores_in_process else []
    return clean(", ".join(facts))


def _cost(report: CheckReport) -> str:
    took = f"built in {number(report.build_s)} s with {number(report.build_mib, 0)} MiB"
    return f"{took}; {number(report.task_ms)} ms a task, {number(report.score_ms)} ms a score"


def _categories(report: CheckReport) -> Table:
    made = table("", "category", "tasks", "counted", "distinct", *POOLS)
    for category in report.categories:
        size = "endless" if category.size is None else str(category.size)
        counts = (
            category.num_looked_at,
            category.num_distinct,
            *("-" if report.closed else category.pools.get(pool, 0) for pool in POOLS),
        )
        name = clean(category.name) + ("" if category.trainable else " (held out)")
        made.add_row(Text(name), size, *map(str, counts))
    return made


def _rule(findings: Sequence[Finding]) -> Text:
    """Write the findings of one rule: the first in full, the other categories by name."""
    first = findings[0]
    others = [clean(str(finding.category)) for finding in findings[1:]]
    also = f"; also in {', '.join(others[:5])}" + (f" and {len(others) - 5} more" if len(others) > 5 else "")
    return Text.assemble(
        (f"  {first.severity:<8}", STYLES[first.severity]),
        f"{first.place()}{first.text()}{also if others else ''}\n",
        (f"          {first.remedy}", "italic"),
    )


def _sum(report: CheckReport) -> str:
    counts = {
        severity: sum(finding.severity == severity for finding in report.findings) for severity in STYLES
    }
    said = [f"{n} {severity}{'s' if n > 1 else ''}" for severity, n in counts.items() if n]
    return ", ".join(said) if said else "nothing found"
