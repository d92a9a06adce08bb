"""Damaged Arrow files: an error in words or rows that are left out, and never the end of the process."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from environments import EnvironmentFault
from environments.tables.arrow_rows import ArrowIpc
from tests.environments.rows.making import make, questions, write_parquet

ROWS = [
    {
        "question": f"What is {i} + 1?" * (1 + i % 3),
        "kind": ("a", "bb", "ccc")[i % 3],
        "messages": [{"role": "user", "content": f"é{i}"}] * (i % 3),
        "number": i / 7,
    }
    for i in range(60)
]
# Reads each damage, and says how that went: "read", "refused" in words that name the file, or something else.
READER = """
import random, resource, signal, sys
from pathlib import Path
from environments import EnvironmentFault
from environments.tables.row_file import InvalidRow
from environments.tables.data_files import FORMATS

path = Path(sys.argv[1])
good, damaged = path.read_bytes(), path.with_name(f"damaged{path.suffix}")
kind = FORMATS[path.suffix]

def read():
    file = kind(damaged, damaged.name)
    file.head(5)
    used = [place for place, (_, row) in enumerate(file.rows()) if not isinstance(row, InvalidRow)]
    for place in used[::7]:
        file.row(place)

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for turn in range(int(sys.argv[2])):
    signal.alarm(20)
    rng = random.Random(turn)
    content = bytearray(good)
    for place in rng.sample(range(len(good)), rng.choice([1, 1, 4])):
        content[place] = rng.choice([0, 0x7f, 0x80, 0xff])
    damaged.write_bytes(content if turn % 8 else content[: rng.randrange(len(content))])
    try:
        read()
        print("read")
    except EnvironmentFault as fault:
        print("refused" if damaged.name in str(fault) else "nameless")
    except BaseException as error:
        print(type(error).__name__)
"""


def write(path: Path, kind: str) -> None:
    table = pa.Table.from_pylist(ROWS)
    table = table.set_column(1, "kind", table["kind"].dictionary_encode())
    pairs = pa.FixedSizeListArray.from_arrays(pa.array(range(2 * len(ROWS)), pa.int32()), 2)
    tensors = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.int32(), [2]), pairs)
    table = table.append_column("tensor", tensors)
    table = table.append_column("tensors", pa.StructArray.from_arrays([tensors], names=["tensor"]))
    if kind == "parquet":
        write_parquet(path, ROWS)
        return
    new = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as sink, new(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=20)


@pytest.mark.parametrize("kind", ["stream", "file", "parquet"])
def test_no_damage_ends_the_process(tmp_path, kind):
    path = tmp_path / ("rows.parquet" if kind == "parquet" else "rows.arrow")
    write(path, kind)
    done = subprocess.run(
        [sys.executable, "-c", READER, str(path), "40"],
        cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True,
    )  # fmt: skip
    ends = Counter(done.stdout.split())
    assert ends["read"] + ends["refused"] == 40, ends
    assert min(ends["read"], ends["refused"]) > 5, ends


def test_a_text_that_is_no_utf_8_costs_its_row_only(tmp_path):
    path = tmp_path / "rows.arrow"
    write(path, "stream")
    path.write_bytes(path.read_bytes().replace(b"What is 7 +", b"What is \xff +"))
    rows = [row for _, row in ArrowIpc(path, path.name).rows()]
    assert len(rows) == 60
    assert str(rows[7]).startswith("a value cannot be read")


def test_a_file_that_was_cut_off_says_what_to_do(tmp_path):
    path = tmp_path / "rows.arrow"
    write(path, "file")
    path.write_bytes(path.read_bytes()[:-100])
    said = r"rows.arrow cannot be read: .*\. It may be damaged or cut off: copy or write it again"
    with pytest.raises(EnvironmentFault, match=said):
        list(ArrowIpc(path, path.name).rows())


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_a_file_that_is_written_over_while_it_is_in_use_is_refused(tmp_path, kind):
    path = tmp_path / "rows.arrow"
    write(path, kind)
    file = ArrowIpc(path, path.name)
    rows = file.rows()
    next(rows)
    os.truncate(path, 0)
    said = "rows.arrow was written over while it was in use: start again, with a file that stays as it is"
    with pytest.raises(EnvironmentFault, match=said):
        list(rows)
    with pytest.raises(EnvironmentFault, match=said):
        file.row(0)


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_a_file_whose_place_another_takes_stays_as_it_was(tmp_path, kind):
    path = tmp_path / "rows.arrow"
    write(path, kind)
    file = ArrowIpc(path, path.name)
    rows = [row for _, row in file.rows()]
    (tmp_path / "other").write_bytes(b"")
    os.replace(tmp_path / "other", path)
    assert [file.row(n) for n in range(60)] == rows
    path.unlink()
    assert file.row(0) == rows[0]


def far(type_: pa.DataType, value: int) -> pa.Array:
    """Three values of which Python can hold no more than the first two."""
    return pa.array([0, 1, value], pa.int64()).cast(type_)


UNREADABLE = {
    "timestamp": far(pa.timestamp("s"), 2**40),
    "duration": far(pa.duration("s"), 2**60),
    "date": pa.array([0, 1, 2**30], pa.int32()).cast(pa.date32()),
    "zone": pa.array([0, None, None], pa.int64()).cast(pa.timestamp("us", tz="Mars/Base")),
    "struct": pa.StructArray.from_arrays([pa.array([1] * 3), pa.array([2] * 3)], names=["a", "a"]),
}


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [*(("arrow", kind) for kind in UNREADABLE), *(("parquet", kind) for kind in UNREADABLE if kind != "struct")],
)
def test_values_that_python_cannot_hold_cost_their_rows_where_they_are_read(tmp_path, kind, suffix):
    table = pa.table({"question": ["0?", "1?", "2?"], "answer": list("012"), "x": UNREADABLE[kind]})
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    unread = make(tmp_path, train=path.name)
    assert questions(unread) == ["0?", "1?", "2?"]
    assert unread.left_out == ()
    with pytest.raises(EnvironmentFault, match="a value cannot be read: "):
        make(tmp_path, train=path.name, truth="x | string", strict=True)
