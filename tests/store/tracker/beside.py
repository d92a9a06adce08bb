"""What TensorBoard and Weights & Biases hold, read from their files."""

from __future__ import annotations

import struct
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from store.tracker.pages import Cursor, HistoryPages, covered
from store.tracker.sinks import Destination
from store.tracker.sync import Source
from store.tracker.wandb_runs import STEP

Series = dict[str, list[tuple[int, float]]]  # by name: step, value as a float of 32 bits

_BLOCK, _HEADER, _FULL, _FIRST, _MIDDLE, _LAST = 32768, 7, 1, 2, 3, 4


def at(home: Path, kind: str) -> Destination:
    return Destination(kind, str(home), "evergreen")


def expected(source: Source) -> Series:
    """All values that a checkpoint covers, each once."""
    history = HistoryPages(source.read, source.read.run(source.run))
    found: Series = defaultdict(list)
    for page in history.pages(Cursor(), covered(source.read, source.run)):
        for (step, _), row in page.rows.items():
            for value in row:
                found[value.name].append((step, single(value.value)))
    return dict(found)


def single(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])


def in_tensorboard(home: Path, run: str) -> Series:
    """As TensorBoard's own reader sees it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(home / "tensorboard" / run), size_guidance={"scalars": 0})
    reader.Reload()
    return {name: [(one.step, one.value) for one in reader.Scalars(name)] for name in reader.Tags()["scalars"]}


def wandb_files(home: Path) -> list[Path]:
    return sorted((home / "wandb").glob("*run-*/*.wandb"))


def in_wandb(path: Path) -> Series:
    """The rows of a file of theirs, which is a log of records like LevelDB's."""
    import json

    from wandb.proto.wandb_internal_pb2 import Record

    found: Series = defaultdict(list)
    numbers: Counter[int] = Counter()
    for packed in _records(path.read_bytes()):
        record = Record.FromString(packed)
        if record.WhichOneof("record_type") == "history":
            row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            numbers[row.pop("_step", record.history.step.num)] += 1
            step = row.pop(STEP)
            for name, value in row.items():
                if not name.startswith("_"):
                    found[name].append((step, single(value)))
    assert not [number for number, times in numbers.items() if times > 1], "two rows have one number"
    return dict(found)


def kinds_in_wandb(path: Path) -> Counter[str]:
    from wandb.proto.wandb_internal_pb2 import Record

    return Counter(Record.FromString(packed).WhichOneof("record_type") for packed in _records(path.read_bytes()))


def _records(log: bytes) -> Iterator[bytes]:
    at, parts = _HEADER, b""
    while at + _HEADER <= len(log):
        left = _BLOCK - at % _BLOCK
        if left < _HEADER:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", log[at : at + _HEADER])
        at += _HEADER
        parts = parts + log[at : at + length] if kind in (_MIDDLE, _LAST) else log[at : at + length]
        at += length
        if kind in (_FULL, _LAST):
            yield parts
