"""Tensors in safetensors files: written one after another, spread over several files, read in part.

A file that holds pieces of tensors says in its metadata, under `pieces`, where each lies in the whole one:
`{"NAME": {"whole": [rows, ...], "offset": [row, ...]}}`. A tensor that is not named there is whole.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from policies.errors import CheckpointError

PIECES = "pieces"
_DTYPES = {  # as the format names them, in the order in which it lays tensors out: what wants most alignment first
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.complex64: "C64",
    torch.float32: "F32",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e8m0fnu: "F8_E8M0",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_TORCH = {name: dtype for dtype, name in _DTYPES.items()}
_ORDER = {dtype: place for place, dtype in enumerate(_DTYPES)}
_ALIGNMENT = 8  # of the header's end, bytes

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """Where a part of a tensor lies in it."""

    whole: Sizes  # shape of the tensor
    offset: Sizes  # its first element, by dimension


def write(path: Path, tensors: Mapping[str, Tensor], pieces: Mapping[str, Piece] | None = None) -> str:
    """Write a file, the bytes of `safetensors.torch.save_file`, with one tensor at a time on the host; give its sha256.

    `pieces`: which of the tensors are parts of larger ones. Raises OSError, a disk that takes no more.
    """
    ordered = sorted(tensors.items(), key=lambda item: (_ORDER[item[1].dtype], item[0]))
    contents: Iterable[bytes | memoryview] = chain(
        [_header(ordered, pieces or {})], (_raw(tensor) for _, tensor in ordered)
    )
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for content in contents:
            file.write(content)
            digest.update(content)
    return digest.hexdigest()


def _raw(tensor: Tensor) -> memoryview:
    """See a tensor's bytes, on the host."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _header(ordered: list[tuple[str, Tensor]], pieces: Mapping[str, Piece]) -> bytes:
    described: dict[str, Any] = {}
    if pieces:
        placed = {name: {"whole": piece.whole, "offset": piece.offset} for name, piece in sorted(pieces.items())}
        described["__metadata__"] = {PIECES: json.dumps(placed)}  # one key: of two the order would be chance
    end = 0
    for name, tensor in ordered:
        start, end = end, end + tensor.numel() * tensor.element_size()
        described[name] = {"dtype": _DTYPES[tensor.dtype], "shape": [*tensor.shape], "data_offsets": [start, end]}
    text = json.dumps(described, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


class SavedTensors:
    """The tensors of some files, by name, whole or in any number of pieces; nothing is read before it is asked for."""

    def __init__(self, files: list[Path], stack: ExitStack) -> None:
        """Open files, and have them closed with the stack; raises CheckpointError: not all pieces are there."""
        self.shapes: dict[str, Sizes] = {}
        self._dtypes: dict[str, torch.dtype] = {}
        self._pieces: dict[str, list[tuple[Any, Sizes, Sizes]]] = {}  # by name: file, offset, shape
        for path in files:
            file = stack.enter_context(safe_open(path, framework="pt"))
            placed = json.loads((file.metadata() or {}).get(PIECES, "{}"))
            for name in file.keys():  # noqa: SIM118, it is no mapping
                found = file.get_slice(name)
                shape, self._dtypes[name] = tuple(found.get_shape()), _TORCH[found.get_dtype()]
                own = placed.get(name, {"whole": shape, "offset": [0] * len(shape)})
                if self.shapes.setdefault(name, tuple(own["whole"])) != tuple(own["whole"]):
                    raise CheckpointError(f"{path} holds a piece of another {name} than the files beside it")
                self._pieces.setdefault(name, []).append((file, tuple(own["offset"]), shape))
        for name, shape in self.shapes.items():
            num = sum(_numel(piece) for _, _, piece in self._pieces[name])
            if num != _numel(shape):
                raise CheckpointError(
                    f"{name} is not whole in {', '.join(map(str, files))}: {num} of its {_numel(shape)} numbers"
                )

    def read(self, name: str, offset: Sizes | None = None, shape: Sizes | None = None) -> Tensor:
        """Read a tensor, or the part of this shape that begins at an offset; other parts are not read."""
        start = offset or (0,) * len(self.shapes[name])
        size = self.shapes[name] if shape is None else shape
        read = torch.empty(size, dtype=self._dtypes[name])  # what a file gives is a view of all of it
        for file, own_start, own_size in self._pieces[name]:
            first = tuple(map(max, start, own_start))
            last = tuple(min(a + n, b + m) for a, n, b, m in zip(start, size, own_start, own_size, strict=True))
            if any(a >= b for a, b in zip(first, last, strict=True)):
                continue
            here, there = (
                tuple(slice(a - begin, b - begin) for a, b, begin in zip(first, last, begins, strict=True))
                for begins in (start, own_start)
            )
            read[here] = file.get_slice(name)[there] if there else file.get_tensor(name)
        return read


def _numel(shape: Sizes) -> int:
    return torch.Size(shape).numel()
