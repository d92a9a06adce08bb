"""check-env: the checker of contracts, on the environments of a spec or on one by its type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from environments import EnvironmentSource, ScoringOptions
from environments.checker import CheckReport, Finding, examine
from environments.display import clean
from environments.user_code import without_function
from orchestrator.cli.console import every_few_seconds, leaving, number, out, print_json
from orchestrator.cli.options import AsJson
from orchestrator.cli.tables import table
from orchestrator.errors import YOUR_MISTAKE, UserError
from orchestrator.registry import listing, nearest
from orchestrator.spec import load_spec
from orchestrator.spec.load import key_and_value

STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}
POOLS = ("train", "anchor", "select", "final")


def check_env(
    spec: Annotated[
        str,
        typer.Argument(
            metavar="SPEC",
            help="A spec file; or package.module:factory, ./file.py:factory, or a type's name.",
        ),
    ],
    environment: Annotated[str | None, typer.Argument(metavar="ENV", help="Only this environment of the spec.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A field of the spec; without a spec: an option, in YAML."),
    ] = None,
    tasks: Annotated[int, typer.Option(min=2, help="Tasks of each category that are looked at closely.")] = 32,
    patience: Annotated[float, typer.Option(min=0.1, help="Seconds that one call into it may take.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Check environments against their contract: each finding is one sentence and a remedy.

    An environment of your own is looked for in the current folder too. Exit code 2 if there are errors.
    """
    sources, scoring = sources_of(spec, environment, overrides or [])
    reports = []
    for source in sources:
        with leaving(f"stopped while {source.name} was checked; its processes are ended"):
            report = examine(source, tasks, scoring, patience, every_few_seconds(f"{source.name}: "))
        reports.append(report)
        if not as_json:
            print_report(report)
    if as_json:
        print_json([asdict(report) for report in reports])
    if any(report.errors for report in reports):
        raise typer.Exit(YOUR_MISTAKE)


def sources_of(
    target: str, name: str | None, overrides: Sequence[str]
) -> tuple[list[EnvironmentSource], ScoringOptions | None]:
    """Find out what is to be checked, building nothing."""
    types = [method.name for method in listing("environments")]
    if not Path(target).is_file() and (":" in target or target in types):
        if name is not None:
            raise UserError(f"{name!r}: an environment is named after a spec; {target} is one environment")
        place = target.partition(":")[0]
        called = Path(place).stem if "/" in place else place.rpartition(".")[2]
        return [EnvironmentSource(called, target, options_of(overrides), str(Path.cwd()))], None
    if (lacking := without_function(target)) is not None:
        raise UserError(lacking)
    spec = load_spec(Path(target), overrides)
    if name is not None and name not in spec.environments:
        known = ", ".join(spec.environments)
        raise UserError(f"{target} has no environment {name!r}; it has: {known}{nearest(name, spec.environments)}")
    return [
        EnvironmentSource(called, section.type, section.options, spec.resources.search_path)
        for called, section in spec.environments.items()
        if name in (None, called)
    ], spec.scoring


def options_of(overrides: Sequence[str]) -> dict[str, Any]:
    """Read options as `key=value`, values in YAML."""
    return dict(key_and_value(override, "lengths='[3, 4]'") for override in overrides)


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
    rules: dict[str, list[Finding]] = {}
    for finding in report.findings:
        rules.setdefault(f"{finding.severity} {finding.rule}", []).append(finding)
    for findings in rules.values():
        out.print(rule_text(findings))
    printed: list[str] = [findings[0].severity for findings in rules.values()]
    counts = [(printed.count(severity), severity) for severity in STYLES]
    said = ", ".join(f"{n} {severity}{'s' if n > 1 else ''}" for n, severity in counts if n)
    style = "bold red" if report.errors else "bold green"
    out.print(Text(f"{report.environment}: {said or 'nothing found'}\n", style=style))


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
