"""weights: a policy copied out of a run's checkpoint. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.console import out
from orchestrator.cli.options import DEFAULT_HOME, Home, RunName
from orchestrator.errors import UserError
from orchestrator.runs.catalog import export_weights, opened


def weights(
    run: RunName,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder to make.")],
    stage: Annotated[
        int | None, typer.Option(help="The policy after this stage; default: the newest checkpoint.")
    ] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Copy a policy's weights and tokenizer out, in the layout that transformers' from_pretrained reads."""
    with opened(home, run) as (place, ledger):
        try:
            export_weights(ledger, place, run, stage, folder)
        except OSError as failed:
            raise UserError(f"{folder} cannot be written: {failed.strerror or failed}") from failed
    out.print(f'Weights are in {folder}: AutoModelForCausalLM.from_pretrained("{folder}") loads them.')
