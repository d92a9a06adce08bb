"""check-env: the referee, on the environments of a spec or on one by its type."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import AsJson

if TYPE_CHECKING:
    from environments import EnvironmentSource, ScoringOptions
    from environments.checker import CheckReport

EVERY_S = 3.0  # between two lines of progress


def check_env(
    spec: Annotated[
        str, typer.Argument(metavar="SPEC", help="A spec file; or package.module:factory, or a type's name.")
    ],
    environment: Annotated[
        str | None, typer.Argument(metavar="ENV", help="Only this environment of the spec.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A field of the spec; without a spec: an option, in YAML."
        ),
    ] = None,
    tasks: Annotated[
        int, typer.Option(min=2, help="Tasks of each category that are looked at closely.")
    ] = 32,
    patience: Annotated[float, typer.Option(min=0.1, help="Seconds that one call into it may take.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Check environments against their contract: each finding is one sentence and a remedy.

    An environment of your own is looked for in the current folder too. Exit code 2 if there are errors.
    """
    from orchestrator.cli.check_env_report import print_report
    from orchestrator.cli.console import out, print_json
    from orchestrator.errors import YOUR_MISTAKE

    sources, scoring = _find(spec, environment, overrides or [])
    reports = []
    for source in sources:
        report = _examine(source, scoring, tasks, patience)
        reports.append(report)
        if not as_json:
            print_report(out, report)
    if as_json:
        print_json([asdict(report) for report in reports])
    if any(report.errors for report in reports):
        raise typer.Exit(YOUR_MISTAKE)


def _examine(
    source: EnvironmentSource, scoring: ScoringOptions | None, tasks: int, patience: float
) -> CheckReport:
    from rich.text import Text

    from environments.checker import examine
    from orchestrator.cli.console import err, problem
    from orchestrator.os_signals import exit_code_of

    said, said_at = "", time.monotonic()

    def progress(words: str) -> None:
        nonlocal said, said_at
        if words != said and time.monotonic() - said_at > EVERY_S:
            said, said_at = words, time.monotonic()
            err.print(Text(f"{source.name}: {words} ..."))

    try:
        return examine(source, tasks, scoring, patience, progress)
    except KeyboardInterrupt as signal:
        problem(f"stopped while {source.name} was checked; its processes are ended")
        raise typer.Exit(exit_code_of(signal)) from None


def _find(
    target: str, name: str | None, overrides: Sequence[str]
) -> tuple[list[EnvironmentSource], ScoringOptions | None]:
    """Find out what is to be checked, building nothing."""
    from environments import EnvironmentSource
    from orchestrator.errors import UserError
    from orchestrator.registry import listing, nearest
    from orchestrator.spec import load_spec

    types = [method.name for method in listing("environments")]
    if not Path(target).is_file() and (":" in target or target in types):
        if name is not None:
            raise UserError(f"{name!r}: an environment is named after a spec; {target} is one environment")
        called = target.partition(":")[0].rpartition(".")[2]
        return [EnvironmentSource(called, target, _options(overrides), str(Path.cwd()))], None
    spec = load_spec(Path(target), overrides)
    if name is not None and name not in spec.environments:
        known = ", ".join(spec.environments)
        raise UserError(
            f"{target} has no environment {name!r}; it has: {known}{nearest(name, spec.environments)}"
        )
    return [
        EnvironmentSource(called, section.type, section.options, spec.resources.search_path)
        for called, section in spec.environments.items()
        if name in (None, called)
    ], spec.scoring


def _options(overrides: Sequence[str]) -> dict[str, Any]:
    """Read options as `key=value`, values in YAML."""
    import yaml

    from orchestrator.errors import UserError

    options = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set wants key=value, for example --set lengths='[3, 4]', not {override!r}")
        try:
            options[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"--set {override}: the value is not valid YAML") from error
    return options
