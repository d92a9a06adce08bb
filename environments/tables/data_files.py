"""From a path in a spec to files of rows: a file, a list of them, a folder as Hugging Face saves or publishes it."""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from environments.contracts import EnvironmentFault
from environments.tables.arrow_rows import ArrowIpc, Parquet
from environments.tables.csv_rows import Csv, Tsv
from environments.tables.row_file import RowFile
from environments.tables.text_rows import BOM, JsonLines, TextRows, beside

FORMATS: Mapping[str, type[RowFile]] = {
    ".parquet": Parquet, ".jsonl": JsonLines, ".ndjson": JsonLines, ".csv": Csv, ".tsv": Tsv, ".arrow": ArrowIpc
}  # fmt: skip
SHARDS = (".parquet", ".jsonl", ".ndjson", ".csv", ".tsv")  # what a folder is looked through for
SAVED, SAVED_SPLITS = "state.json", "dataset_dict.json"  # of `save_to_disk`
SAVED_SHARDS = "_data_files"  # what the first of them lists
SHARD = re.compile(r"(?P<split>.+?)-\d{5}-of-\d{5}(-\w+)?")
SERIES = re.compile(r"(.+?-)(\d{5})-of-(\d{5})")
SPLITS = {"train", "test", "validation", "valid", "val", "dev", "eval"}
WORDS = re.compile(r"[-_.]")  # what stands between the words of a name
TABLES = {*FORMATS, ".json", ".feather", ".pq"}  # what may be meant as a part of a folder, read or not
PACKED = {".gz", ".bz2", ".xz", ".zst", ".zip"}
DESCRIPTIONS = {SAVED, SAVED_SPLITS, "dataset_info.json", "dataset_infos.json", "config.json"}
NAMED = 6  # files of a folder that are named
DEPTH, SEARCHED = 4, 1000  # of folders inside a folder that are looked through for rows, and how many
LFS, ZIP = b"version https://git-lfs", b"PK\3\4"  # what files begin with
# What packs a single file: the same, its name, its suffix, and what unpacks it.
PACKERS = (
    (re.compile(rb"\x1f\x8b"), "gzip", ".gz", "gunzip"),
    (re.compile(rb"BZh[1-9]1AY&SY"), "bzip2", ".bz2", "bunzip2"),
    (re.compile(rb"\xfd7zXZ\0"), "xz", ".xz", "unxz"),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "zstd", ".zst", "unzstd"),
)
HEAD = 2**16  # bytes of a text file by which it is known


@dataclass
class FoundFiles:
    """The files that a spec means, and what is to be said of how they were chosen."""

    files: list[RowFile] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def find_files(given: str | Sequence[str], split: str, folder: str | None, delimiter: str = ",") -> FoundFiles:
    """Find the files that a spec means, in its order; those of a folder by name, of its splits the one that is named.

    Relative paths begin in `folder`, None: the current one; `delimiter` is that of CSV. EnvironmentFault if something
    is not there, or no table.
    """
    start, found, remarks = Path(folder or "."), list[RowFile](), list[str]()
    for name in [given] if isinstance(given, str) else given:
        path = start / Path(name).expanduser()
        if path.is_dir():
            in_folder = _in_folder(path, name, split)
            found += in_folder.files
            remarks += in_folder.remarks
        elif path.is_file():
            found.append(_opened(path, name))
        elif path.is_symlink() or path.exists():
            what = "a link that leads to no file" if path.is_symlink() else "neither a file nor a folder"
            raise EnvironmentFault(f"{name} in {start.absolute()} is {what}: name the file itself")
        else:
            near = difflib.get_close_matches(path.name, _names(path.parent), n=1)
            hint = f"; did you mean {Path(name).parent / near[0]}?" if near else ""
            if set("*?[") & set(name):
                hint = "; patterns are not read: name the folder, whose files are then read together, or list the files"
            raise EnvironmentFault(f"there is no file or folder {name} in {start.absolute()}{hint}")
    for file in found:
        if isinstance(file, Csv) and not isinstance(file, Tsv):
            file.delimiter = delimiter
    return FoundFiles(found, remarks)


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


def _opened(path: Path, name: str) -> RowFile:
    if not path.is_file():
        raise EnvironmentFault(f"{name} is missing, which its folder says is there: copy the folder again")
    with path.open("rb") as file:
        head = file.read(HEAD)
    start = head.removeprefix(BOM).lstrip()
    if start.startswith(LFS):
        raise EnvironmentFault(f"{name} is a pointer of Git LFS, not the file itself: run `git lfs pull`")
    for mark, packer, suffix, unpack in PACKERS:
        if mark.match(start):
            packed, quoted = path.suffix.lower() == suffix, shlex.quote(name)
            command = (
                f"{unpack} -k {quoted}" if packed else f"mv {quoted} {quoted}{suffix} && {unpack} {quoted}{suffix}"
            )
            raise EnvironmentFault(f"{name} is packed by {packer}: unpack it (`{command}`)")
    if start.startswith(ZIP):
        raise EnvironmentFault(f"{name} is a zip archive, as tables of Excel are: unpack it, or save the table as CSV")
    format_ = FORMATS.get(path.suffix.lower())
    if format_ is None or issubclass(format_, TextRows):
        _require_text(head, name, format_ or (JsonLines if start[:1] in (b"{", b"[") else None))
    marks = ((b"{", JsonLines), (b"PAR1", Parquet), (b"ARROW1", ArrowIpc))
    format_ = format_ or next((one for mark, one in marks if start.startswith(mark)), None)
    if format_ is None:
        known = ", ".join(FORMATS)
        raise EnvironmentFault(f"{name} is no table that can be read; expected one of {known}, unpacked")
    return format_(path, name)


def _require_text(head: bytes, name: str, format_: type[RowFile] | None) -> None:
    """Refuse a file that begins as no rows of text do: another encoding, line ends of CR alone, JSON in one piece."""
    quoted = shlex.quote(name)
    is_marked = head.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff"))  # with the order of its bytes
    is_wide = is_marked or (format_ is not None and b"\0" in head[:2])
    if is_wide and head.strip(b"\0"):
        encoding = "UTF-32" if b"\0\0" in head[:4] else "UTF-16"
        encoding += "" if is_marked else "BE" if head.startswith(b"\0") else "LE"
        command = f"iconv -f {encoding} -t UTF-8 {quoted} > {beside(name, 'utf8')}"
        raise EnvironmentFault(f"{name} is {encoding}: save it as UTF-8 (`{command}`)")
    if format_ is not None and b"\n" not in head and b"\r" in head.strip():
        command = f"tr '\\r' '\\n' < {quoted} > {beside(name, 'lf')}"
        raise EnvironmentFault(f"{name} ends its lines by CR alone, as old Macs did: write LF instead (`{command}`)")
    if format_ is JsonLines:
        _require_lines(head.removeprefix(BOM).lstrip(), name)


def _require_lines(start: bytes, name: str) -> None:
    """Refuse JSON that is not an object a line: a list, or objects of several lines."""
    quoted, target = shlex.quote(name), beside(name, "rows" if name.endswith(".jsonl") else "", ".jsonl")
    first, _, rest = start.partition(b"\n")
    if first.startswith(b"[") and (not rest.strip() or not _is_json(first)):
        raise EnvironmentFault(
            f"{name} holds one JSON list, which would have to be read as a whole: write one object a line"
            f" (`jq -c '.[]' {quoted} > {target}`)"
        )
    if first.strip() == b"{" and rest.lstrip().startswith(b'"'):
        raise EnvironmentFault(
            f"{name} holds JSON objects of several lines: write one object a line (`jq -c . {quoted} > {target}`)"
        )


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _in_folder(path: Path, name: str, split: str) -> FoundFiles:
    if (path / SAVED_SPLITS).is_file():
        splits = [str(one) for one in _json(path / SAVED_SPLITS).get("splits", [])]
        _require(split, splits, name)
        return _in_folder(path / split, f"{name}/{split}", split)
    if _is_saved(path):
        shards = [str(one["filename"]) for one in _json(path / SAVED)[SAVED_SHARDS]]
        return FoundFiles([_opened(path / shard, f"{name}/{shard}") for shard in shards])
    names = _names(path)
    shards = [one for one in names if _is_shard(path / one)]
    if not shards and (path / "data").is_dir():  # as data sets lie in a repository of the hub
        return _in_folder(path / "data", f"{name}/data", split)
    if not shards:
        raise EnvironmentFault(
            f"the folder {name} holds no table: no {', '.join(SHARDS)}, no {SAVED}{_hint(path, name)}"
        )
    read = _of_split(shards, split, name)
    others = [one for one in names if one not in read and _is_passed_over(path / one, split)]
    remarks = [f"reads {_listed(read)} of {name}; passed over: {_listed(others)}"] if others else []
    remarks += [f"{name} lacks {_listed(missing)}: was it copied as a whole?"] if (missing := _missing(read)) else []
    found = FoundFiles(remarks=remarks)
    for one in read:
        if (path / one).is_dir():  # as Spark writes a table
            inner = _in_folder(path / one, f"{name}/{one}", split)
            found.files += inner.files
            found.remarks += inner.remarks
        else:
            found.files.append(_opened(path / one, f"{name}/{one}"))
    return found


def _is_shard(path: Path) -> bool:
    """Say whether a part of a folder may hold rows, by its name: not `._a.jsonl`, what macOS notes of a.jsonl."""
    return path.suffix.lower() in SHARDS and not path.name.startswith(".")


def _is_saved(path: Path) -> bool:
    """Say whether `save_to_disk` wrote a folder: other programs keep their state under that name too."""
    return (path / SAVED).is_file() and SAVED_SHARDS.encode() in (path / SAVED).read_bytes()


def _missing(shards: Sequence[str]) -> list[str]:
    """Name the shards that are not there of those that the others' names count: 00001 beside train-00000-of-00002."""
    there: dict[tuple[str, str], set[int]] = {}
    for match in filter(None, map(SERIES.match, shards)):
        there.setdefault((match[1], match[3]), set()).add(int(match[2]))
    return [f"{start}{i:05}-of-{num}" for (start, num), of in there.items() for i in range(int(num)) if i not in of]


def _hint(path: Path, name: str) -> str:
    """Say where else the rows of a folder without any may be: in folders inside it, or in files to be named."""
    if inside := [f"{name}/{one}" for one in _with_rows(path)]:
        which = "one of them" if len(inside) > 1 else "that one"
        return f"; there are rows in {_listed(inside)}: name {which}"
    if others := [one for one in _names(path) if _is_table(path / one)]:
        return f"; there is {_listed(others)}: name the files that are meant, unpacked"
    return ""


def _with_rows(path: Path) -> Iterator[str]:
    """Give the folders inside a folder that hold rows, by their paths from there; links are not followed."""
    for folder, inner, names in islice(os.walk(path), SEARCHED):
        here = Path(folder).relative_to(path)
        inner[:] = sorted(one for one in inner if not one.startswith(".")) if len(here.parts) < DEPTH else []
        holds = {SAVED, SAVED_SPLITS} & {*names} or any(_is_shard(Path(one)) for one in names)
        if here.parts and holds:
            inner.clear()
            yield here.as_posix()


def _is_passed_over(path: Path, split: str) -> bool:
    """Say whether a file that is not read could be meant: a table, and of no other split."""
    stem = _unpacked(path).stem
    return _is_table(path) and (_split_of(stem) or _split_among_words(stem) or split) == split


def _is_table(path: Path) -> bool:
    """Say whether a file may hold rows, by its name."""
    is_other = path.name in DESCRIPTIONS or path.name.startswith(".") or path.is_dir()
    return not is_other and _unpacked(path).suffix.lower() in TABLES


def _unpacked(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() in PACKED else path


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:NAMED])} and {more:,} more"


def _json(path: Path) -> dict[str, list[dict[str, object]]]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise EnvironmentFault(f"{path} is not as `save_to_disk` writes it: {error}") from error


def _of_split(shards: Sequence[str], split: str, folder: str) -> list[str]:
    kinds = sorted({Path(shard).suffix for shard in shards})
    if len(kinds) > 1:
        found = " and ".join(kinds)
        raise EnvironmentFault(f"the folder {folder} holds {found}: name the files that are meant")
    splits = {shard: _split_of(Path(shard).stem) for shard in shards}
    if not any(splits.values()):  # then by a word of the name: gsm_train, train-0-of-3
        splits = {shard: _split_among_words(Path(shard).stem) for shard in shards}
    if not any(splits.values()):
        return list(shards)
    _require(split, sorted(set(filter(None, splits.values()))), folder)
    return [shard for shard in shards if splits[shard] == split]


def _split_of(stem: str) -> str | None:
    match = SHARD.fullmatch(stem)
    return match["split"] if match else stem if stem in SPLITS else None


def _split_among_words(stem: str) -> str | None:
    return next((word for word in reversed(WORDS.split(stem.lower())) if word in SPLITS), None)


def _require(split: str, splits: Sequence[str], folder: str) -> None:
    if split not in splits:
        raise EnvironmentFault(f"the folder {folder} has no split {split!r}; it has: {', '.join(splits)}")
