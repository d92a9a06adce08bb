"""methods: what a spec can name."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.completion import method_kinds, method_names
from orchestrator.cli.console import out, print_json
from orchestrator.cli.options import AsJson
from orchestrator.cli.tables import print_method, print_methods
from orchestrator.registry import describe, find, kinds, listing, require_kind


def methods(
    kind: Annotated[
        str | None, typer.Argument(help="bandits, objectives, shapers, ...", autocompletion=method_kinds)
    ] = None,
    name: Annotated[
        str | None, typer.Argument(help="One method: its whole story and its options.", autocompletion=method_names)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what a spec can name, a line and a source each; with KIND and NAME, one method with its options.

    The parts that objectives are made of are kinds too: plans, reward_maps, estimators, shapers, mismatch_weights,
    ratio_rules, terms, controllers.
    """
    if kind is not None:
        require_kind(kind)
    if kind is not None and name is not None:
        method = describe(find(kind, name))
        print_json(method) if as_json else print_method(out, method)
        return
    found = [method for one in ([kind] if kind else kinds()) for method in listing(one)]
    if as_json:
        print_json([{k: v for k, v in vars(method).items() if k != "module"} for method in found])
    elif found:
        print_methods(out, found)
    else:
        out.print(f"There are no {kind} but your own: name a function in a spec, `./file.py:create` (docs/extend.md).")
