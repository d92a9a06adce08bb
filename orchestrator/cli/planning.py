"""validate, methods: what can be said before anything runs."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home, Set, SpecFile


def validate(
    spec: SpecFile, overrides: Set = None, home: Home = DEFAULT_HOME, as_json: AsJson = False
) -> None:
    """Check a spec and print what it means: every field resolved, the plan, the disk it will take.

    Nothing is trained and no weights are read.
    """
    from orchestrator.cli.console import out, print_json
    from orchestrator.plan import make_plan
    from orchestrator.running import as_yaml
    from orchestrator.spec import load_spec

    checked = load_spec(spec, overrides or [])
    plan = make_plan(checked, home)
    if as_json:
        print_json({"spec": checked.model_dump(mode="json", by_alias=True), **plan.facts()})
        return
    out.print(as_yaml(checked).rstrip(), markup=False)
    out.print()
    for line in plan.lines():
        out.print(line, markup=False)


def methods(
    kind: Annotated[str | None, typer.Argument(help="bandits, schedulers, objectives, ...")] = None,
    name: Annotated[str | None, typer.Argument(help="One method: its whole story and its options.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what a spec can name, a line and a source each; with KIND and NAME, one method with its options."""
    from orchestrator.cli.console import out, print_json
    from orchestrator.cli.tables import print_method, print_methods
    from orchestrator.methods import KINDS, describe, find, listing, require_kind

    if kind is not None:
        require_kind(kind)
    if kind is not None and name is not None:
        method = describe(find(kind, name))
        print_json(method) if as_json else print_method(out, method)
        return
    found = [method for one in ([kind] if kind else KINDS) for method in listing(one)]
    if as_json:
        print_json([{k: v for k, v in vars(method).items() if k != "module"} for method in found])
    else:
        print_methods(out, found)
