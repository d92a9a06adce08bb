"""What went wrong and what was decided: samples without a score, skipped updates, events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from store.report.learning_curves import when
from store.report.report_data import ReportData
from store.report.safe_text import clipped

LISTED = 200  # events, the newest ones
LONGEST = 500  # characters of an event


@dataclass(frozen=True)
class EventRow:
    """An event as a row of a table."""

    when: str
    kind: str
    text: str


@dataclass(frozen=True)
class Events:
    """The newest events, and how many older ones are not listed."""

    rows: Sequence[EventRow]
    num_left_out: int


def events(material: ReportData) -> Events:
    """List events; those that a count already tells (skipped updates, unscorable samples of steps) apart."""
    told = [event for event in material.story["events"] if not _is_counted(event)]
    rows = [
        EventRow(_when(event), clipped(event["kind"], 40), clipped(event["text"], LONGEST))
        for event in told[-LISTED:]
    ]
    return Events(rows, max(0, len(told) - LISTED))


def _is_counted(event: Mapping[str, Any]) -> bool:
    is_of_step = event["after_stage"] is None
    return event["kind"] == "skipped update" or (event["kind"] == "unscorable" and is_of_step)


def _when(event: Mapping[str, Any]) -> str:
    return f"step {event['step']:,}" if event["after_stage"] is None else when(event["after_stage"])
