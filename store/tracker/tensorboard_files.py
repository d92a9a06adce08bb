"""TensorBoard's side: a folder a run below the home's `tensorboard`, in it event files that only grow.

A page is appended, synced to disk, and then counted: what a killed process wrote beyond that is cut off before the
next page. Where a resumed run rewrote its history a new file begins, with the mark by which TensorBoard drops what
the files before it hold. Events are written with tensorboard's own records, without torch and TensorFlow.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from store.errors import TrackerError
from store.files import fsync
from store.tracker.names import MlflowValue
from store.tracker.sinks import Delivery, Destination, Kept, Portrait, told

FOLDER = "tensorboard"  # in the home folder
_EVENTS, _OURS = "events.out.tfevents", "evergreen"  # other programs' event files may lie beside


def has(to: Destination, run: str, kept: Kept) -> bool:
    """Whether the event file is there, and not shorter than what is certain of it."""
    path = Path(to.home) / FOLDER / run / kept.file
    return path.is_file() and path.stat().st_size >= kept.num_bytes


def send(to: Destination, folder: Path, delivery: Delivery) -> int:
    """Append what is missing; see `Sink`."""
    try:
        return _send(to, folder, delivery)
    except OSError as failed:
        raise TrackerError(f"Writing TensorBoard's files of {folder.name} failed: {failed}.") from failed


def forget(to: Destination, run: str, kept: Kept) -> bool:
    """Delete the event files that we wrote of a run, and its folder if nothing else is in it."""
    place = Path(to.home) / FOLDER / run
    found = _ours(place)
    for path in found:
        path.unlink(missing_ok=True)
    if place.is_dir() and not any(place.iterdir()):
        shutil.rmtree(place)
    return bool(found)


def _send(to: Destination, folder: Path, delivery: Delivery) -> int:
    place = Path(to.home) / FOLDER / folder.name
    place.mkdir(parents=True, exist_ok=True)
    kept = delivery.kept
    if delivery.is_new or not has(to, folder.name, kept):
        kept = _begin(place, replace(kept, cursor=type(kept.cursor)()), delivery.portrait)
        kept.write(folder, to.kind)
    num_values = 0
    with (place / kept.file).open("r+b") as file:
        file.truncate(kept.num_bytes)
        file.seek(kept.num_bytes)
        for page in delivery.history.pages(kept.cursor, delivery.until):
            if not delivery.is_wanted():
                return num_values
            file.write(_records(_scalars(key[0], row) for key, row in page.rows.items()))
            file.flush()
            os.fsync(file.fileno())
            kept = replace(told(kept, page.end), num_bytes=file.tell())
            kept.write(folder, to.kind)
            num_values += page.num_values
    told(kept, kept.cursor, delivery.status).write(folder, to.kind)
    return num_values


def _begin(place: Path, kept: Kept, portrait: Portrait) -> Kept:
    """Begin an event file behind those that are there, which it takes the place of."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    earlier = _ours(place)
    numbers = [int(path.name.rpartition(".")[2]) for path in earlier if path.name.rpartition(".")[2].isdecimal()]
    path = place / f"{_EVENTS}.{portrait.created_s:010.0f}.{_OURS}.{max(numbers, default=0) + 1:06}"
    events = [Event(wall_time=portrait.created_s, file_version="brain.Event:2")]
    if earlier:  # what they hold, from step 0 on, is void
        log = SessionLog(status=SessionLog.START)
        events.append(Event(wall_time=portrait.created_s, step=0, session_log=log))
    texts = {"params": _table(portrait.params), "tags": _table(portrait.tags), "note": portrait.note}
    events.append(Event(wall_time=portrait.created_s, step=0, summary=_texts(texts)))
    content = _records(events)
    path.write_bytes(content)
    fsync(path)
    fsync(place)
    return replace(kept, file=path.name, num_bytes=len(content))


def _ours(place: Path) -> list[Path]:
    """Find the event files that we wrote."""
    return sorted(place.glob(f"{_EVENTS}.*.{_OURS}.*"))


def _scalars(step: int, row: Iterable[MlflowValue]) -> Any:
    """Make an event of a row, at the time of the ledger's."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    points = list(row)
    summary = Summary(value=[Summary.Value(tag=one.name, simple_value=one.value) for one in points])
    return Event(wall_time=points[0].at_ms / 1000, step=step, summary=summary)


def _texts(texts: Mapping[str, str]) -> Any:
    """Make what TensorBoard's page of texts shows."""
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING

    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    return Summary(
        value=[
            Summary.Value(
                tag=f"{name}/text_summary",
                metadata=metadata,
                tensor=TensorProto(dtype=DT_STRING, tensor_shape=shape, string_val=[text.encode()]),
            )
            for name, text in texts.items()
        ]
    )


def _table(words: Mapping[str, str]) -> str:
    """Set words as a table of Markdown."""
    lines = [f"| {name} | {value.replace('|', '/')} |" for name, value in words.items()]
    return "\n".join(["| name | value |", "|---|---|", *lines])


def _records(events: Iterable[Any]) -> bytes:
    """Pack events as an event file holds them."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    packed = io.BytesIO()
    writer = RecordWriter(packed)
    for event in events:
        writer.write(event.SerializeToString())
    return packed.getvalue()
