"""methods: what a spec can name."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.completion import method_kinds, method_names
from orchestrator.cli.console import err, out, print_json
from orchestrator.cli.options import AsJson
from orchestrator.cli.tables import print_method, print_methods
from orchestrator.errors import UserError
from orchestrator.registry import describe, find, kinds, listing, require_kind, unusable

SPEC = "spec"  # stands among the kinds for the sections of a spec


def methods(
    kind: Annotated[
        str | None, typer.Argument(help="bandits, objectives, shapers, ..., or spec.", autocompletion=method_kinds)
    ] = None,
    name: Annotated[
        str | None, typer.Argument(help="One method: its whole story and its options.", autocompletion=method_names)
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="With `spec`: a JSON schema of the whole spec, for your editor.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List what a spec can name, a line and a source each; with KIND and NAME, one method with its options.

    `methods spec` lists the sections of a spec, `methods spec curriculum.stage` the fields of one with what they take,
    their defaults and meanings (docs/spec.md).

    The parts that objectives are made of are kinds too: plans, reward_maps, estimators, shapers, mismatch_weights,
    ratio_rules, terms, controllers.
    """
    if schema:
        if kind != SPEC or name is not None:
            raise UserError("--schema is of the whole spec: evergreen methods spec --schema")
        from orchestrator.spec.json_schema import spec_schema

        print_json(spec_schema())
        return
    if kind == SPEC:
        from orchestrator.spec import reference

        found, told = reference.listing(), None if name is None else reference.describe(name)
    else:
        if kind is not None:
            require_kind(kind, SPEC)
        found = [method for one in ([kind] if kind else kinds()) for method in listing(one)]
        told = None if kind is None or name is None else describe(find(kind, name))
    if told is not None:
        print_json(told) if as_json else print_method(out, told)
    elif as_json:
        print_json([{k: v for k, v in vars(method).items() if k != "module"} for method in found])
    elif found:
        print_methods(out, found)
    else:
        out.print(f"There are no {kind} but your own: name a function in a spec, `./file.py:create` (docs/extend.md).")
    if told is None and kind != SPEC:
        for text in (text for one in ([kind] if kind else kinds()) for text in unusable(one)):
            (err if as_json else out).print(text, markup=False)
    if kind is None and not as_json:
        out.print("What a spec says beside these, its sections and fields: `evergreen methods spec`.")
