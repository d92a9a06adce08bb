"""check-env: the checker of contracts, on the environments of a spec or on one by its type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from environments.checker import CheckReport, Finding, examine
from environments.display import clean
from orchestrator.cli.console import every_few_seconds, leaving, number, out, print_json
from orchestrator.cli.environment_targets import OnlyEnvironment, SetOption, Target, find_targets
from orchestrator.cli.options import AsJson
from orchestrator.cli.tables import table
from orchestrator.errors import YOUR_MISTAKE
from store.sentences import listed

STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}
POOLS = ("train", "anchor", "select", "final")


def check_env(
    spec: Target,
    environment: OnlyEnvironment = None,
    overrides: SetOption = None,
    tasks: Annotated[int, typer.Option(min=2, help="Tasks of each category that are looked at closely.")] = 32,
    patience: Annotated[float, typer.Option(min=0.1, help="Seconds that one call into it may take.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Check environments against their contract: each finding is one sentence and a remedy.

    An environment of your own is looked for in the current folder too. Exit code 2 if there are errors.
    """
    targets = find_targets(spec, environment, overrides or [])
    scoring = None if targets.spec is None else targets.spec.scoring
    reports = []
    for source in targets.sources:
        with leaving(f"stopped while {source.name} was checked; its processes are ended"):
            report = examine(source, tasks, scoring, patience, every_few_seconds(f"{source.name}: "))
        reports.append(report)
        if not as_json:
            print_report(report)
    if as_json:
        print_json([asdict(report) for report in reports])
    if any(report.errors for report in reports):
        raise typer.Exit(YOUR_MISTAKE)


def print_report(report: CheckReport) -> None:
    """Print facts, findings by rule, and a sum; whatever the environment wrote is text, never markup."""
    facts = [
        report.type,
        *([] if report.version is None else [f"version {report.version}"]),
        *(["closed: evaluated on the tasks that it trains on"] if report.closed else []),
        *(["scored in the trainer"] if report.scores_in_process else []),
    ]
    out.print(Text.assemble((report.environment, "bold"), f"  {clean(', '.join(facts))}"))
    if report.build_s is not None:
        took = f"built in {number(report.build_s)} s with {number(report.build_mib, 0)} MiB"
        a_score = "" if report.score_ms is None else f", {number(report.score_ms)} ms a score"
        out.print(Text(f"  {took}; {number(report.task_ms)} ms a task{a_score}"))
    if any(category.num_looked_at for category in report.categories):
        made = table("", "category", "tasks", "counted", "distinct", *POOLS)
        for category in report.categories:
            size = "endless" if category.size is None else str(category.size)
            pools = ("-" if report.closed else category.pools.get(pool, 0) for pool in POOLS)
            name = clean(category.name) + ("" if category.trainable else " (held out)")
            made.add_row(Text(name), size, *map(str, (category.num_looked_at, category.num_distinct, *pools)))
        out.print(made)
    short = [one for one in report.categories if one.num_tried < one.num_replies]
    if short:
        of = listed([f"{clean(one.name)} {one.num_tried} of {one.num_replies}" for one in short])
        out.print(Text(f"  not all replies could be tried in the time there was: {of}", style="yellow"))
    rules: dict[str, list[Finding]] = {}
    for finding in report.findings:
        rules.setdefault(f"{finding.severity} {finding.rule}", []).append(finding)
    for findings in rules.values():
        out.print(rule_text(findings))
    printed: list[str] = [findings[0].severity for findings in rules.values()]
    counts = [(printed.count(severity), severity) for severity in STYLES]
    said = ", ".join(f"{n} {severity}{'s' if n > 1 else ''}" for n, severity in counts if n)
    limit = " in what was tried" if short else ""
    style = "bold red" if report.errors else "bold green"
    out.print(Text(f"{report.environment}: {said or f'nothing found{limit}'}\n", style=style))


def rule_text(findings: Sequence[Finding]) -> Text:
    """Write the findings of one rule: the first in full, the other categories by name."""
    first = findings[0]
    others = [clean(str(finding.category)) for finding in findings[1:]]
    also = f"; the same holds for {', '.join(others[:5])}" + (f" and {len(others) - 5} more" if len(others) > 5 else "")
    return Text.assemble(
        (f"  {first.severity:<8}", STYLES[first.severity]),
        f"{first.place()}{first.text()}{also if others else ''}\n",
        (f"          {first.remedy}", "italic"),
    )
