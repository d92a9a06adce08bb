from __future__ import annotations

import hashlib
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from policies.errors import CheckpointError
from policies.tensor_files import _DTYPES, Piece, SavedTensors, write

ROWS = torch.arange(21, dtype=torch.float32).view(7, 3)


def test_the_bytes_are_those_of_the_library_whatever_the_dtype_and_shape(tmp_path: Path) -> None:
    raw = torch.arange(48, dtype=torch.uint8) % 2
    tensors = {f"{dtype} of é.\n": raw.clone().view(dtype) for dtype in _DTYPES}
    tensors |= {f"row {dtype}": raw.clone().view(dtype)[0] for dtype in _DTYPES}
    tensors |= {"empty": torch.empty(0, 3), "a": torch.empty(2, 0, dtype=torch.bool), "z": ROWS.T.contiguous()}
    save_file(tensors | {"turned": ROWS.T.contiguous()}, tmp_path / "theirs")
    sha256 = write(tmp_path / "ours", tensors | {"turned": ROWS.T})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert sha256 == hashlib.sha256((tmp_path / "ours").read_bytes()).hexdigest()


def test_a_file_of_nothing_is_the_librarys_too(tmp_path: Path) -> None:
    save_file({}, tmp_path / "theirs")
    write(tmp_path / "ours", {})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def write_pieces(folder: Path, sizes: list[int]) -> list[Path]:
    """Spread rows over files, so many to each."""
    begin, files = 0, []
    for number, size in enumerate(sizes):
        files.append(folder / f"{number}.safetensors")
        write(files[-1], {"rows": ROWS[begin : begin + size]}, {"rows": Piece((7, 3), (begin, 0))})
        begin += size
    return files


@pytest.mark.parametrize("sizes", [[7], [4, 3], [3, 3, 1, 0], [0, 7, 0]])
def test_any_part_is_read_of_however_many_pieces(tmp_path: Path, sizes: list[int]) -> None:
    with ExitStack() as stack:
        saved = SavedTensors(write_pieces(tmp_path, sizes), stack)
        assert saved.shapes == {"rows": (7, 3)}
        assert torch.equal(saved.read("rows"), ROWS)
        for begin in range(8):
            for end in range(begin, 8):
                assert torch.equal(saved.read("rows", (begin, 0), (end - begin, 3)), ROWS[begin:end])
        assert torch.equal(saved.read("rows", (2, 1), (4, 2)), ROWS[2:6, 1:3])
        assert saved.read("rows").untyped_storage().nbytes() == 84, "and nothing else of the file is kept"


def test_tensors_without_dimensions_and_without_rows_are_read(tmp_path: Path) -> None:
    write(tmp_path / "a", {"count": torch.tensor(3.0), "none": torch.empty(0, 2, dtype=torch.bfloat16)})
    with ExitStack() as stack:
        saved = SavedTensors([tmp_path / "a"], stack)
        assert float(saved.read("count")) == 3.0
        assert (saved.read("none").shape, saved.read("none").dtype) == ((0, 2), torch.bfloat16)


def test_a_piece_that_is_missing_is_told(tmp_path: Path) -> None:
    files = write_pieces(tmp_path, [4, 3])
    with (
        ExitStack() as stack,
        pytest.raises(CheckpointError, match=r"rows is not whole in .*0.safetensors: 12 of its 21"),
    ):
        SavedTensors(files[:1], stack)
    write(files[1], {"rows": ROWS[:3]}, {"rows": Piece((8, 3), (4, 0))})
    with ExitStack() as stack, pytest.raises(CheckpointError, match="a piece of another rows"):
        SavedTensors(files, stack)
