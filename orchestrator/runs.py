"""Runs from outside: found, read, asked to stop, copied out. Nothing here loads torch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

import yaml

from orchestrator.errors import UserError
from orchestrator.places import Sections, ledger_url
from store import checkpoints
from store.files import new_folder
from store.home import Home
from store.ledger import Ledger
from store.ledger.patience import Patience
from store.lock import holder
from store.lock import request_stop as ask_to_stop

SPEC_FILE = "spec.yaml"  # in a run's folder: its resolved spec


@contextmanager
def opened(
    path: Path, run: str | None = None, patience: Patience | None = None
) -> Iterator[tuple[Home, Ledger]]:
    """Open a home for reading, with its own ledger or the one that a run's spec names."""
    home = Home(path, create=False)
    with Ledger.open(_ledger_url(home, run), create=False, patience=patience) as ledger:
        yield home, ledger


def upgrade_ledgers(path: Path) -> list[str]:
    """Bring the home's ledger, and those that its runs' specs name, to our schema; returns their URLs."""
    home = Home(path, create=False)
    named = {_ledger_url(home, spec.parent.name) for spec in home.path.glob(f"*/{SPEC_FILE}")}
    urls = sorted({home.ledger_url, *named})
    for url in urls:
        Ledger.upgrade(url)
    return urls


def _ledger_url(home: Home, run: str | None) -> str:
    if run is None:
        return home.ledger_url
    own = home.run_folder(run) / SPEC_FILE
    of_study = sorted(home.path.glob(f"{escape(run)}.*/{SPEC_FILE}"))  # its runs begin with its name
    spec = next((path for path in (own, *of_study) if path.is_file()), None)
    if spec is None:
        return home.ledger_url
    return ledger_url(sections_of(spec), home.ledger_url)


def sections_of(spec: Path) -> Sections:
    """Read the sections of a run's resolved spec, unchecked. Raises UserError."""
    try:
        sections = yaml.safe_load(spec.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as failed:
        raise UserError(f"{spec} cannot be read: {failed}") from failed
    if not isinstance(sections, dict) or not isinstance(sections.get("ledger") or {}, dict):
        raise UserError(f"{spec} is not the spec of a run: it names no ledger")
    return sections


def find_run(ledger: Ledger, name: str) -> None:
    """Refuse a run that is not there, and list those that are."""
    names = [run.name for run in ledger.reading.runs()]
    if name not in names:
        raise UserError(f"there is no run {name!r}; there are: {', '.join(names) or 'none yet'}")


def known_environment(ledger: Ledger, run: str, name: str) -> None:
    """Refuse an environment that the run does not have."""
    names = list(ledger.reading.spec(run)["environments"])
    if name not in names:
        raise UserError(f"{run} has no environment {name!r}; it has: {', '.join(names)}")


def export_weights(ledger: Ledger, home: Home, run: str, stage: int | None, folder: Path) -> None:
    """Copy the weights of a checkpoint into a new folder."""
    find_run(ledger, run)
    if folder.exists():
        raise UserError(f"{folder} is there already: name a folder to make")
    records = ledger.reading.checkpoints(run)
    if stage is not None:
        records = [r for r in records if r.kind == "boundary" and r.num_boundaries == stage + 1]
    record, skipped = checkpoints.newest_valid(home.run_folder(run), records)
    if record is None:
        why = f": {skipped[0].reason}" if skipped else ""
        done = max((r.num_boundaries for r in ledger.reading.checkpoints(run)), default=0) - 1
        raise UserError(
            f"{run} has no checkpoint after stage {stage}{why}; its stages done so far: {max(done, 0)}"
        )
    source = home.run_folder(run) / record.folder / "weights"
    with new_folder(folder) as aside:
        shutil.copytree(source, aside, dirs_exist_ok=True)


def request_stop(name: str, home: str | Path = "runs") -> str:
    """Ask the process that runs this run to stop; says what will happen."""
    folder = existing(Home(home, create=False), name)
    who = holder(folder)
    if who is None:
        raise UserError(f"{name} is not running; `evergreen resume {name}` would go on with it")
    ask_to_stop(folder)
    return f"{name} ({who}) finishes its step, saves and stops. `evergreen resume {name}` goes on."


def refuse_run(path: Path, home: Path) -> None:
    """Refuse a run's name where a spec file is wanted."""
    own = home / path / SPEC_FILE
    if path.name == str(path) and not os.path.exists(path) and os.path.isfile(own):
        raise UserError(
            f"{path} is a run, and a spec file is wanted: `evergreen resume {path}` goes on with it, {own} is its spec"
        )


def existing(place: Home, name: str) -> Path:
    """Find a run's folder, or list the runs there are."""
    folder = place.run_folder(name)
    if not (folder / SPEC_FILE).is_file():
        known = sorted(path.parent.name for path in place.path.glob(f"*/{SPEC_FILE}"))
        raise UserError(f"there is no run {name!r} in {place.path}; there are: {', '.join(known) or 'none'}")
    return folder
