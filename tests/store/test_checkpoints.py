from __future__ import annotations

import errno
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from store import checkpoints, files
from store.checkpoints import Component, json_component
from store.errors import CheckpointError
from store.records import CheckpointRecord

STATE = {"values": [0.1, 1 / 3, 1e-320], "rng": 2**127 + 1, "name": "é"}


def _write_weights(folder: Path) -> None:
    (folder / "shards").mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "shards" / "1.safetensors").write_bytes(bytes(range(256)))


WEIGHTS = Component("weights", 1, _write_weights)
COMPONENTS = (WEIGHTS, json_component("bandits", 2, STATE))
EXPECTED = {"weights": 1, "bandits": 2}


def _record(
    folder: str, sha256: str = "", kind: str = "periodic", step: int = 1, num_boundaries: int = 1
) -> CheckpointRecord:
    return CheckpointRecord(step, num_boundaries, kind, folder, sha256, 0)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / checkpoints.save(tmp_path, "step-1", COMPONENTS).folder


# --- saving and opening ----------------------------------------------------------------------------------


def test_what_was_saved_comes_back_exactly(folder: Path) -> None:
    checkpoints.verify(folder)
    checkpoint = checkpoints.open_checkpoint(folder, EXPECTED)
    assert checkpoint.read_json("bandits") == STATE
    assert (checkpoint.components["weights"] / "shards" / "1.safetensors").read_bytes() == bytes(range(256))


def test_the_same_state_gives_the_same_bytes_whenever_and_wherever_it_is_saved(tmp_path: Path) -> None:
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
    one = checkpoints.save(tmp_path / "one", "early", COMPONENTS)
    two = checkpoints.save(tmp_path / "two", "late", reversed(COMPONENTS))
    assert (one.sha256, one.num_bytes) == (two.sha256, two.num_bytes)


def test_size_and_checksum_are_those_on_disk(tmp_path: Path) -> None:
    saved = checkpoints.save(tmp_path, "step-1", COMPONENTS)
    paths = [path for path in (tmp_path / saved.folder).rglob("*") if path.is_file()]
    assert saved.num_bytes == sum(path.stat().st_size for path in paths)
    manifest = (tmp_path / saved.folder / "manifest.json").read_bytes()
    assert saved.sha256 == hashlib.sha256(manifest).hexdigest()


def test_a_component_that_fails_leaves_no_checkpoint(tmp_path: Path) -> None:
    def fail(_: Path) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        checkpoints.save(tmp_path, "step-1", [WEIGHTS, Component("optimiser", 1, fail)])
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_checkpoint_of_the_same_name_is_replaced(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, "step-1", COMPONENTS)
    saved = checkpoints.save(tmp_path, "step-1", [json_component("bandits", 2, {})])
    checkpoints.verify(tmp_path / saved.folder, saved.sha256)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-1"]


@pytest.mark.parametrize(
    ("components", "message"),
    [
        ([WEIGHTS, WEIGHTS], "Two components"),
        ([replace(WEIGHTS, name="../weights")], "cannot name a component"),
        ([replace(WEIGHTS, name="manifest.json")], "cannot name a component"),
    ],
)
def test_components_have_names_of_their_own(tmp_path: Path, components: list[Component], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        checkpoints.save(tmp_path, "step-1", components)


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({**EXPECTED, "optimiser": 1}, "optimiser is missing"),
        ({"weights": 1}, "bandits is unexpected"),
        ({"weights": 2, "bandits": 2}, "weights has version 1, expected 2"),
    ],
)
def test_opening_is_strict_in_both_directions(folder: Path, expected: dict[str, int], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        checkpoints.open_checkpoint(folder, expected)


# --- verifying -------------------------------------------------------------------------------------------


def _damage(folder: Path, how: str) -> None:
    weights = folder / "weights" / "config.json"
    manifest = folder / "manifest.json"
    if how == "missing":
        weights.unlink()
    elif how == "longer":
        weights.write_text("{ }")
    elif how == "flipped":
        weights.write_text("[]")
    elif how == "extra":
        (folder / "weights" / "more.json").touch()
    elif how == "no manifest":
        manifest.unlink()
    elif how == "torn manifest":
        manifest.write_text(manifest.read_text()[:50])
    elif how == "spoilt manifest":
        manifest.write_text(manifest.read_text().replace("sha256", "sha257"))
    elif how == "later manifest":
        manifest.write_text(json.dumps({"format": 2}))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", r"weights/config.json is missing"),
        ("longer", r"weights/config.json has changed"),
        ("flipped", r"weights/config.json has changed"),
        ("extra", r"weights/more.json does not belong"),
        ("no manifest", r"manifest.json is missing"),
        ("torn manifest", r"manifest.json is damaged"),
        ("spoilt manifest", r"manifest.json is damaged"),
        ("later manifest", r"manifest.json is not a manifest of format 1"),
    ],
)
def test_damage_is_found_and_the_file_is_named(folder: Path, how: str, message: str) -> None:
    _damage(folder, how)
    with pytest.raises(CheckpointError, match=message):
        checkpoints.verify(folder)


def test_a_file_that_the_disk_does_not_give_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> str:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(checkpoints, "sha256_of", fail)
    with pytest.raises(CheckpointError, match=r"cannot be read: Input/output error"):
        checkpoints.verify(folder)


def test_what_a_file_manager_leaves_in_a_checkpoint_spoils_nothing(folder: Path) -> None:
    for place in (folder, folder / "weights"):
        (place / ".DS_Store").write_bytes(b"x")
    checkpoints.verify(folder)


def test_a_checkpoint_that_was_exchanged_is_not_the_one_recorded(tmp_path: Path, folder: Path) -> None:
    sha256 = checkpoints.save(tmp_path, "step-2", [WEIGHTS]).sha256
    with pytest.raises(CheckpointError, match="not the one that the ledger recorded"):
        checkpoints.verify(folder, sha256)


def test_the_newest_checkpoint_that_verifies_is_taken_and_the_others_are_explained(tmp_path: Path) -> None:
    saved = [checkpoints.save(tmp_path, f"step-{i}", COMPONENTS) for i in (3, 2, 1)]
    records = [_record(s.folder, s.sha256) for s in saved]
    _damage(tmp_path / saved[0].folder, "flipped")
    found, skipped = checkpoints.newest_valid(tmp_path, records)
    assert found == records[1]
    assert [s.record for s in skipped] == records[:1]
    assert "config.json has changed" in skipped[0].reason


def test_a_checkpoint_is_whole_without_the_optimisers_state_that_was_taken_out(tmp_path: Path) -> None:
    optimizer = Component("optimizer", 1, lambda folder: (folder / "moments").write_bytes(bytes(1000)))
    saved = checkpoints.save(tmp_path, "step-1", [WEIGHTS, optimizer])
    folder = tmp_path / saved.folder
    assert not checkpoints.is_thin(folder)
    later = []
    checkpoints.thin(folder, later.append)
    assert checkpoints.is_thin(folder)
    checkpoints.verify(folder, saved.sha256)
    assert set(checkpoints.open_checkpoint(folder, {"weights": 1, "optimizer": 1}).components) == {"weights"}
    assert checkpoints.describe(tmp_path, "step-1").num_bytes == saved.num_bytes - 1000
    (leftover,) = files.leftovers(folder.parent)
    assert (leftover / "moments").is_file()
    later[0]()
    assert not files.leftovers(folder.parent)
    checkpoints.thin(folder)
    (folder / "weights" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        checkpoints.verify(folder, saved.sha256)


def test_half_an_optimisers_state_is_damage(tmp_path: Path) -> None:
    optimizer = Component("optimizer", 1, lambda folder: (folder / "moments").write_bytes(bytes(1000)))
    folder = tmp_path / checkpoints.save(tmp_path, "step-1", [WEIGHTS, optimizer]).folder
    (folder / "optimizer" / "moments").unlink()
    with pytest.raises(CheckpointError, match="moments is missing"):
        checkpoints.verify(folder)


def test_without_a_valid_checkpoint_there_is_none(tmp_path: Path) -> None:
    found, skipped = checkpoints.newest_valid(tmp_path, [_record("checkpoints/gone")])
    assert found is None
    assert "missing" in skipped[0].reason


def test_the_hash_of_the_weights_sees_the_weights_alone(tmp_path: Path, folder: Path) -> None:
    other = checkpoints.save(tmp_path, "other", [WEIGHTS, json_component("bandits", 3, {})])

    def write_other_weights(folder: Path) -> None:
        _write_weights(folder)
        (folder / "config.json").write_text("[]")

    changed = checkpoints.save(tmp_path, "changed", [Component("weights", 1, write_other_weights)])
    mine = checkpoints.weights_sha256(folder)
    assert checkpoints.weights_sha256(tmp_path / other.folder) == mine
    assert checkpoints.weights_sha256(tmp_path / changed.folder) != mine


# --- pruning ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep", "boundaries", "deleted"),
    [
        (3, None, []),
        (1, None, ["p4", "s2"]),
        (0, None, ["p4", "s2"]),  # the newest stays
        (1, 0, ["p4", "i3", "b3", "s2", "b0"]),
        (1, 1, ["p4", "s2", "b0"]),
    ],
)
def test_so_many_between_boundaries_and_of_them_stay_and_the_newest(
    keep: int, boundaries: int | None, deleted: list[str]
) -> None:
    kinds = {"p": "periodic", "b": "boundary", "s": "stop", "i": "intervention"}
    names = ("p5", "p4", "i3", "b3", "s2", "b0")
    records = [_record(name, kind=kinds[name[0]], num_boundaries=1 + (int(name[1]) > 2)) for name in names]
    chosen = checkpoints.superfluous(records, keep, boundaries)
    assert [record.folder for record in chosen] == deleted
    needed = checkpoints.read_by_interventions(records)
    assert needed == {"b3", "b0"}
    chosen = checkpoints.superfluous(records, keep, boundaries, needed)
    assert [record.folder for record in chosen] == [name for name in deleted if name not in needed]


@pytest.mark.parametrize(
    ("names", "thinned"),
    [
        ("b4 p3 b3 b2 b1 b0", "b2 b1"),
        ("i4 b4 p4 i3 b3 b2 i1 b1 b0", "b2 i1 b1"),  # before and after an intervention is one boundary
        ("b1 b0", ""),
    ],
)
def test_the_two_newest_boundaries_are_not_thinned_nor_the_first(names: str, thinned: str) -> None:
    kinds = {"p": "periodic", "b": "boundary", "i": "intervention"}
    records = [
        _record(name, kind=kinds[name[0]], step=int(name[1]), num_boundaries=1 + int(name[1])) for name in names.split()
    ]
    assert [record.folder for record in checkpoints.thinnable(records)] == thinned.split()


def test_of_a_checkpoint_that_lies_elsewhere_only_the_link_is_deleted(tmp_path: Path, folder: Path) -> None:
    elsewhere = folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(elsewhere)
    records = [_record("checkpoints/newer"), _record("checkpoints/step-1")]
    checkpoints.verify(folder)
    checkpoints.delete(tmp_path, records[1:])
    assert list((tmp_path / "checkpoints").iterdir()) == []
    checkpoints.verify(elsewhere)


def test_pruning_deletes_folders_and_may_be_repeated_after_a_crash(tmp_path: Path) -> None:
    names = ("three", "two", "one")
    records = [_record(checkpoints.save(tmp_path, name, COMPONENTS).folder) for name in names]
    for _ in range(2):
        checkpoints.delete(tmp_path, records[1:])
        assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["three"]


def test_files_that_a_manifest_names_elsewhere_are_not_the_checkpoints(folder: Path) -> None:
    own, manifest = checkpoints.files(folder), folder / checkpoints.MANIFEST
    beside = folder.parent / "mine.txt"
    beside.write_text("mine")
    content = json.loads(manifest.read_text())
    content["components"][".."] = {"version": 1, "files": {beside.name: {"sha256": "", "num_bytes": 4}}}
    manifest.write_text(json.dumps(content))
    assert sorted(checkpoints.files(folder)) == sorted(own)
