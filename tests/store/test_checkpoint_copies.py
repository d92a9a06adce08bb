"""Copies of checkpoints elsewhere: whole or not there, whatever fails."""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from store import checkpoint_copies, checkpoints, identity
from store.checkpoint_copies import CheckpointCopier, CopyPlace, fetch
from store.checkpoints import OPTIMIZER, Component, json_component
from store.errors import HomeError
from store.files import remove_folder
from store.identity import Identity


class Flaky(LocalFileSystem):
    """A disk that refuses, tears and dawdles as a test says."""

    protocol = "flaky"
    cachable = False
    refuses: int = 0  # so many writes fail
    tears = False  # writes half of a file, without a word
    deletes_s = 0.0  # what a deletion takes
    keeps = False  # deletes nothing
    gate = threading.Event()  # no write goes on before

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).removeprefix("flaky://"))

    def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        Flaky.gate.wait(10)
        if Flaky.refuses:
            Flaky.refuses -= 1
            raise PermissionError("403 Forbidden")
        super().put_file(lpath, rpath, **options)
        if Flaky.tears:
            Flaky.tears = False
            Path(rpath).write_bytes(Path(rpath).read_bytes()[:-1])

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        if Flaky.keeps:
            raise PermissionError("403 Forbidden")
        time.sleep(Flaky.deletes_s)
        super().rm(path, recursive, maxdepth)


fsspec.register_implementation("flaky", Flaky, clobber=True)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_copies, "FIRST_PAUSE_S", 0.01)
    Flaky.refuses, Flaky.tears, Flaky.deletes_s, Flaky.keeps = 0, False, 0.0, False
    Flaky.gate.set()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / "words"
    folder.mkdir(parents=True)
    identity.write(folder, Identity("u1", "words", {}, {}, None, None, None))
    (folder / "spec.yaml").write_text("ledger: {url: postgresql://me@host/runs}\n")
    return folder


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there"


@pytest.fixture
def copier(run: Path, there: Path) -> Iterator[CheckpointCopier]:
    made = CheckpointCopier(f"flaky://{there}", run)
    yield made
    made.close()


def save(run: Path, step: int, content: int = 0) -> str:
    name = f"step-{step:06d}"
    weights = Component("weights", 1, lambda folder: (folder / "model").write_bytes(bytes([step % 256]) * 100))
    checkpoints.save(run, name, [weights, json_component(OPTIMIZER, 1, {"steps": step + content})])
    return name


def finish(copier: CheckpointCopier, patience_s: float = 5.0) -> list[str]:
    said: list[str] = []
    copier.finish(said.append, patience_s)
    return copier.take_news()


def test_checkpoints_are_there_as_they_are_here_and_come_back(
    run: Path, there: Path, copier: CheckpointCopier, tmp_path: Path
) -> None:
    names = [save(run, step) for step in (20, 10)]
    copier.want(names)
    assert finish(copier) == []
    for name in names:
        checkpoints.verify(there / "words" / "checkpoints" / name)
    assert not (there / "words" / "spec.yaml").exists(), "a login stands in it"

    told: list[str] = []
    assert fetch(f"flaky://{there}", "words", tmp_path / "new" / "words", told.append) == names
    assert identity.read(tmp_path / "new" / "words") == identity.read(run)
    for name in names:
        checkpoints.verify(tmp_path / "new" / "words" / "checkpoints" / name)
    with pytest.raises(HomeError, match="is there already"):
        fetch(f"flaky://{there}", "words", tmp_path / "new" / "words", told.append)


def test_a_spec_without_a_login_goes_along(run: Path, there: Path) -> None:
    (run / "spec.yaml").write_text("seed: 3\n")
    CheckpointCopier(f"flaky://{there}", run).close()
    assert (there / "words" / "spec.yaml").read_text() == "seed: 3\n"


def test_what_is_deleted_or_thinned_here_is_there_too_and_nothing_else(
    run: Path, there: Path, copier: CheckpointCopier
) -> None:
    (there / "words" / "checkpoints" / "mine").mkdir(parents=True)
    names = [save(run, step) for step in (30, 20, 10)]
    copier.want(names)
    wait_for(lambda: copier.newest == names[0] and len(CopyPlace(f"flaky://{there}", "words").checkpoints()) == 3)
    remove_folder(run / "checkpoints" / names[2])
    checkpoints.thin(run / "checkpoints" / names[1])
    copier.want(names[:2], thin=[names[1]])
    folder = there / "words" / "checkpoints"
    wait_for(lambda: not (folder / names[2]).exists() and not (folder / names[1] / OPTIMIZER).exists())
    checkpoints.verify(folder / names[0])
    checkpoints.verify(folder / names[1])
    assert (folder / "mine").is_dir()


def test_what_an_earlier_process_left_goes_once_what_is_wanted_is_there(run: Path, there: Path) -> None:
    first = CheckpointCopier(f"flaky://{there}", run)
    names = [save(run, step) for step in (1_000_000, 999_999, 30)]
    first.want(names)
    assert finish(first) == []
    first.close()
    shutil.rmtree(run / "checkpoints" / names[0])
    second = CheckpointCopier(f"flaky://{there}", run)
    second.want([names[1]])
    wait_for(lambda: CopyPlace(f"flaky://{there}", "words").checkpoints() == [names[1]])
    second.close()


def test_half_a_copy_that_a_killed_process_left_goes_too(run: Path, there: Path) -> None:
    left = there / "words" / "checkpoints" / "step-000030" / "weights"
    left.mkdir(parents=True)
    (left / "model").write_bytes(b"half")
    copier = CheckpointCopier(f"flaky://{there}", run)
    copier.want([save(run, 40)])
    assert finish(copier) == []
    assert not left.parent.exists()
    copier.close()


def test_the_end_waits_for_deletions_and_tells_of_those_that_fail(
    run: Path, there: Path, copier: CheckpointCopier, monkeypatch: pytest.MonkeyPatch
) -> None:
    copier.want([save(run, 10), save(run, 20)])
    assert finish(copier) == []
    Flaky.deletes_s = 0.1
    copier.want(["step-000020"])
    assert finish(copier) == []
    assert CopyPlace(f"flaky://{there}", "words").begun_checkpoints() == ["step-000020"]
    Flaky.keeps = True
    copier.want([save(run, 30)])
    monkeypatch.setattr(checkpoint_copies, "DELETING_S", 0.2)
    failed, kept = finish(copier)
    assert "is tried again: 403 Forbidden" in failed
    assert re.search(r"1 checkpoints that the run does not keep are still at .* \(step-000020\): 403 Forbidden", kept)


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_run_that_goes_back_leaves_no_copy_of_the_course_it_left(run: Path, there: Path, is_gone: bool) -> None:
    first = CheckpointCopier(f"flaky://{there}", run)
    names = [save(run, step) for step in (30, 20, 10)]
    first.want(names)
    assert finish(first) == []
    first.close()
    for name in names[:2]:
        if is_gone:
            shutil.rmtree(run / "checkpoints" / name)
    second = CheckpointCopier(f"flaky://{there}", run)
    second.go_back_to(names[2])
    wait_for(lambda: CopyPlace(f"flaky://{there}", "words").checkpoints() == names[2:])
    save(run, 20, content=1)
    second.want(names[1:])
    assert finish(second) == []
    second.close()
    checkpoints.verify(there / "words" / "checkpoints" / names[1], checkpoints.describe(run, names[1]).sha256)


def test_without_a_checkpoint_here_the_copies_stay_until_there_is_one_of_the_new_course(run: Path, there: Path) -> None:
    first = CheckpointCopier(f"flaky://{there}", run)
    names = [save(run, step) for step in (20, 10)]
    first.want(names)
    assert finish(first) == []
    first.close()
    shutil.rmtree(run / "checkpoints")
    second = CheckpointCopier(f"flaky://{there}", run)
    assert CopyPlace(f"flaky://{there}", "words").checkpoints() == names
    save(run, 10, content=1)
    second.want(names[1:])
    assert finish(second) == []
    wait_for(lambda: CopyPlace(f"flaky://{there}", "words").checkpoints() == names[1:])
    second.close()
    checkpoints.verify(there / "words" / "checkpoints" / names[1], checkpoints.describe(run, names[1]).sha256)


def test_what_is_replaced_by_another_of_its_name_is_copied_anew_also_when_its_copy_is_under_way(
    run: Path, there: Path, copier: CheckpointCopier
) -> None:
    name = save(run, 10)
    for is_under_way in (False, True):
        if is_under_way:
            Flaky.gate.clear()
        copier.want([name])
        if not is_under_way:
            assert finish(copier) == []
        copier.drop(name)
        save(run, 10, content=1 + is_under_way)
        copier.want([name])
        Flaky.gate.set()
        assert finish(copier) == []
        checkpoints.verify(there / "words" / "checkpoints" / name, checkpoints.describe(run, name).sha256)


def test_while_another_of_its_name_is_copied_there_is_none(
    run: Path, there: Path, copier: CheckpointCopier, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = save(run, 10)
    copier.want([name])
    assert finish(copier) == []
    copier.close()
    save(run, 10, content=1)
    later = CheckpointCopier(f"flaky://{there}", run)
    real, whole = CopyPlace.put, list[list[str]]()

    def put(self: CopyPlace, file: Path, path: str) -> None:
        real(self, file, path)
        whole.append(self.checkpoints())

    monkeypatch.setattr(CopyPlace, "put", put)
    later.want([name])
    assert finish(later) == []
    later.close()
    assert len(whole) > 1
    assert whole == [[] for _ in whole[1:]] + [[name]]


def test_a_later_process_copies_anew_what_was_replaced_and_what_is_dropped_goes(run: Path, there: Path) -> None:
    first = CheckpointCopier(f"flaky://{there}", run)
    names = [save(run, step) for step in (20, 10)]
    first.want(names)
    assert finish(first) == []
    first.close()
    save(run, 10, content=1)
    second = CheckpointCopier(f"flaky://{there}", run)
    second.want(names)
    assert finish(second) == []
    checkpoints.verify(there / "words" / "checkpoints" / names[1], checkpoints.describe(run, names[1]).sha256)
    second.drop(names[0])
    wait_for(lambda: CopyPlace(f"flaky://{there}", "words").checkpoints() == names[1:])
    second.close()


def wait_for(holds: Any) -> None:
    until = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_what_fails_is_told_once_tried_again_and_told_to_go_on(
    run: Path, there: Path, copier: CheckpointCopier
) -> None:
    Flaky.refuses = 3
    copier.want([save(run, 10)])
    news = finish(copier)
    assert [text.partition(str(there))[2] for text in news] == [
        " failed, and is tried again: 403 Forbidden",
        " goes on",
    ]
    checkpoints.verify(there / "words" / "checkpoints" / "step-000010")


def test_a_torn_file_is_written_again(run: Path, there: Path, copier: CheckpointCopier) -> None:
    Flaky.tears = True
    copier.want([save(run, 10)])
    assert "bytes there and" in finish(copier)[0]
    checkpoints.verify(there / "words" / "checkpoints" / "step-000010")


def test_what_could_not_be_copied_is_told_at_the_end(run: Path, copier: CheckpointCopier) -> None:
    Flaky.refuses = 10**6
    copier.want([save(run, 10)])
    assert "1 checkpoints are not at" in finish(copier, 0.3)[-1]


def test_one_that_is_deleted_while_it_is_copied_is_not_missed(run: Path, there: Path, copier: CheckpointCopier) -> None:
    Flaky.gate.clear()
    first, second = save(run, 10), save(run, 20)
    copier.want([first])
    time.sleep(0.05)
    remove_folder(run / "checkpoints" / first)
    Flaky.gate.set()
    copier.want([second])
    assert not [text for text in finish(copier) if "not at" in text]
    assert CopyPlace(f"flaky://{there}", "words").checkpoints() == [second]


def test_half_a_checkpoint_is_none(run: Path, there: Path, copier: CheckpointCopier, tmp_path: Path) -> None:
    names = [save(run, step) for step in (30, 20, 10)]
    copier.want(names)
    assert finish(copier) == []
    folder = there / "words" / "checkpoints"
    (folder / names[0] / "manifest.json").unlink()
    (folder / names[1] / "weights" / "model").write_bytes(b"x" * 100)
    told: list[str] = []
    assert fetch(f"flaky://{there}", "words", tmp_path / "new" / "words", told.append) == names[2:]
    assert any(f"the copy of {names[1]} is not used" in text for text in told)
    (folder / names[2] / "weights" / "model").unlink()
    with pytest.raises(HomeError, match=r"no checkpoint of words at .* is whole"):
        fetch(f"flaky://{there}", "words", tmp_path / "other" / "words", told.append)
    assert not (tmp_path / "other" / "words").exists()


def test_the_place_of_another_run_is_refused(run: Path, there: Path) -> None:
    (there / "words").mkdir(parents=True)
    (there / "words" / "run.json").write_text(json.dumps({"uid": "u2"}))
    with pytest.raises(HomeError, match="holds another run words"):
        CheckpointCopier(f"flaky://{there}", run)


def test_a_place_that_cannot_be_written_is_told_before_the_run(run: Path, there: Path) -> None:
    Flaky.refuses = 1
    with pytest.raises(HomeError, match=r"checkpoint\.copy_to: .* cannot be written: 403 Forbidden"):
        CheckpointCopier(f"flaky://{there}", run)


def test_a_driver_that_is_missing_is_named(run: Path) -> None:
    with pytest.raises(HomeError, match=r"checkpoint\.copy_to: s3://bucket/runs: Install s3fs"):
        CheckpointCopier("s3://bucket/runs", run)


def test_there_is_nothing_to_fetch(there: Path, tmp_path: Path) -> None:
    there.mkdir()
    with pytest.raises(HomeError, match="there is no run words with a whole checkpoint at"):
        fetch(f"file://{there}", "words", tmp_path / "new" / "words", print)
