"""What the ledger knows of a run as such, kept beside its checkpoints: with it a run outlives its ledger.

    <run>/run.json    uid, name, spec, host, and what the run is to others
    <run>/slices.jsonl  which task is in which slice, of environments that the spec splits (docs/slices.md)
    <run>/removing    while the run is being removed, and where that was interrupted: its uid, if it is known

The spec is without the sections that say where things are: those may hold credentials, and places move.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from store.errors import HomeError
from store.files import write_text
from store.ledger import Reading
from store.records import LineageRecord, MemberRecord, RunRecord

FILE, REMOVING, SLICES = "run.json", "removing", "slices.jsonl"  # in a run's folder
PLACES = ("ledger", "tracker")  # the sections of a spec that are left out
FORMAT = 1


@dataclass(frozen=True)
class Identity:
    """What makes a run this one."""

    uid: str
    name: str
    spec: Mapping[str, Any]  # resolved, without `PLACES`
    host: Mapping[str, Any]
    lineage: LineageRecord | None
    member: MemberRecord | None
    baseline_of: str | None


def keep(reading: Reading, folder: Path, name: str, spec: Mapping[str, Any]) -> None:
    """Write down what the ledger knows of a run.

    `spec` is the run's with its keys in their order: it counts among environments, and the ledger does not keep it.
    """
    run = reading.run(name)
    lineage = LineageRecord(run.parent, run.parent_stage or 0) if run.parent else None
    members = reading.members(run.study) if run.study else []
    own = [MemberRecord(one.study, one.setting, one.changes) for one in members if one.run == name]
    member = own[0] if own else None
    write(folder, Identity(run.uid, name, spec, reading.host(name), lineage, member, run.baseline_of))


def announce(folder: Path, record: RunRecord) -> None:
    """Write down a run that is about to be entered in the ledger."""
    relations = record.lineage, record.member, record.baseline_of
    write(folder, Identity(record.uid, record.name, record.spec, record.host, *relations))


def write(folder: Path, identity: Identity) -> None:
    """Write a run's file durably, without `PLACES`; one that says so already stays as it is."""
    spec = {section: value for section, value in identity.spec.items() if section not in PLACES}
    path = folder / FILE
    text = json.dumps({"format": FORMAT, **asdict(identity), "spec": spec}, indent=1)
    if not path.is_file() or path.read_text("utf-8") != text:
        write_text(path, text)


def read(folder: Path) -> Identity | None:
    """Read it back; None where an earlier version made the run, or nothing was entered yet. Raises `HomeError`."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        raw = json.loads(path.read_bytes())
        if raw.pop("format") != FORMAT:
            raise HomeError(f"{path} was written by a later Evergreen. Install a newer evergreen-rl to use it.")
        raw["lineage"] = raw["lineage"] and LineageRecord(**raw["lineage"])
        raw["member"] = raw["member"] and MemberRecord(**raw["member"])
        return Identity(**raw)
    except (AttributeError, KeyError, TypeError, ValueError) as damaged:
        raise HomeError(
            f"{path} is damaged ({damaged}). Remove it: it is written again from the ledger, if that knows the run."
        ) from damaged


def begin_removal(folder: Path, uid: str | None) -> None:
    """Note, durably, that a run is being removed: from here on it is none."""
    write_text(folder / REMOVING, uid or "")


def is_half_removed(folder: Path) -> bool:
    """Whether a run is being removed, or that was interrupted."""
    return (folder / REMOVING).exists()
