"""The weights of a run's policy, copied out for others. Loads torch only to merge adapters."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from orchestrator.errors import UserError
from orchestrator.runs.catalog import find_run
from orchestrator.runs.forks import no_boundary
from orchestrator.runs.stop_reasons import healthy_under, last_divergence
from store import checkpoints
from store.files import copy_content, new_folder
from store.home import Home
from store.ledger import Ledger


def export_weights(
    ledger: Ledger, home: Home, run: str, stage: int | None, folder: Path, *, as_adapter: bool = False
) -> None:
    """Copy the weights of a healthy checkpoint into a new folder; adapters merged into one model, unless asked for."""
    find_run(ledger, run)
    if folder.exists():
        raise UserError(f"{folder} is there already: name a folder to make")
    records = ledger.reading.checkpoints(run)
    if stage is not None:
        records = [r for r in records if r.kind == "boundary" and r.num_boundaries == stage + 1]
    is_healthy = healthy_under(last_divergence(ledger.reading.events(run)))
    record, skipped = checkpoints.newest_valid(home.run_folder(run), records, is_healthy)
    if record is None:
        why = f": {skipped[0].reason.removesuffix('.')}" if skipped else ""
        if stage is not None and not records:
            arguments = [quote(str(folder)), *(["--adapter"] if as_adapter else [])]
            raise UserError(no_boundary(ledger.reading, run, stage, "weights", *arguments))
        raise UserError(f"{run} has no whole checkpoint{'' if stage is None else f' after stage {stage}'}{why}")
    source = home.run_folder(run) / record.folder / checkpoints.WEIGHTS
    policy = ledger.reading.spec(run)["policy"]
    if as_adapter and policy.get("adapter") is None:
        raise UserError(f"{run} trains all weights and has no adapters: leave out --adapter")
    with new_folder(folder.resolve()) as aside:
        if as_adapter or policy.get("adapter") is None:
            copy_content(source, aside)
            if as_adapter:
                from policies.adapters import name_base
                from policies.config import BASE

                if (aside / BASE).is_dir():  # no name stands for the model that they stand beside
                    name_base(aside, str(folder.resolve() / BASE))
        else:
            from policies.config import PolicyConfig
            from policies.models.loader import write_merged

            write_merged(PolicyConfig.model_validate(policy), source, aside)
