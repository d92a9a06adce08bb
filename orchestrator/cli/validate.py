"""validate, methods: what can be said before anything runs."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home, Set, SpecFile


def validate(
    spec: SpecFile,
    overrides: Set = None,
    home: Home = DEFAULT_HOME,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Refuse data with rows that cannot be used, and leaks if looked for."),
    ] = False,
    leaks: Annotated[
        bool, typer.Option("--leaks", help="Look for held-out tasks that are all but training tasks.")
    ] = False,
    threshold: Annotated[
        float, typer.Option(min=0.1, max=1.0, help="Similarity from which --leaks counts a pair.")
    ] = 0.8,
    as_json: AsJson = False,
) -> None:
    """Check a spec and print what it means: every field resolved, the plan, the disk it will take.

    Nothing is trained and no weights are read. Rows that cannot be used are listed; with --strict the exit code is 2
    if there are any. With --leaks, tasks of all environments are compared, held out against to train on: docs/leaks.md.
    """
    from dataclasses import asdict

    from orchestrator.cli.console import err, out, print_json
    from orchestrator.cli.validate_leaks import look_for_leaks, print_leaks, summary
    from orchestrator.errors import UserError
    from orchestrator.locations import refuse_plain_secrets
    from orchestrator.runs.catalog import refuse_run
    from orchestrator.runs.dry_run import make_plan
    from orchestrator.runs.kept_spec import as_yaml
    from orchestrator.spec import load_spec

    refuse_run(spec, home)
    checked = load_spec(spec, overrides or [])
    refuse_plain_secrets(checked.model_dump(mode="json", by_alias=True))
    plan = make_plan(checked, home, lambda text: err.print(text, markup=False))
    found = look_for_leaks(checked, threshold) if leaks else None
    if as_json:
        more = {"leaks": asdict(found)} if found else {}
        print_json({"spec": checked.kept(), **plan.facts(), **more})
    else:
        out.print(as_yaml(checked).rstrip(), markup=False)
        out.print()
        for line in plan.lines():
            out.print(line, markup=False)
        if found:
            print_leaks(out, found)
    if strict and plan.left_out:
        where = ", ".join(one.environment for one in plan.left_out)
        why = "".join(f"\n  {line}" for one in plan.left_out for line in one.told)
        raise UserError(f"--strict: there are rows of {where} that cannot be used; mend or remove them:{why}")
    if strict and found and found.num_leaks:
        raise UserError(f"--strict: {summary(found)}; remove them on one side")


def methods(
    kind: Annotated[str | None, typer.Argument(help="bandits, objectives, shapers, ...")] = None,
    name: Annotated[str | None, typer.Argument(help="One method: its whole story and its options.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what a spec can name, a line and a source each; with KIND and NAME, one method with its options.

    The parts that objectives are made of are kinds too: plans, reward_maps, estimators, shapers, mismatch_weights,
    ratio_rules, terms, controllers.
    """
    from orchestrator.cli.console import out, print_json
    from orchestrator.cli.tables import print_method, print_methods
    from orchestrator.registry import KINDS, describe, find, listing, require_kind

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
