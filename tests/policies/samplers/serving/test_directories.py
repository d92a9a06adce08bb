from __future__ import annotations

import errno
import fcntl
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from policies.errors import CheckpointError, PolicyError
from policies.samplers.serving.weight_files import MANIFEST, OWNER, PREFIX, WeightFiles, require_valid, write
from policies.samplers.testing import random_policy

FILE = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(random_policy().save_merged, tmp_path / "0-mine")
    return tmp_path / "0-mine"


def test_a_directory_appears_whole_and_holds_what_from_pretrained_reads(folder: Path) -> None:
    require_valid(folder)
    assert list(folder.parent.iterdir()) == [folder]
    policy = random_policy(seed=1)
    policy.load_weights(folder)
    ours = random_policy().model.state_dict()
    assert all(tensor.equal(ours[name]) for name, tensor in policy.model.state_dict().items())


def cut_short(folder: Path) -> None:
    (folder / FILE).write_bytes((folder / FILE).read_bytes()[:-4])


def lose_a_tensor(folder: Path) -> None:
    save_file(dict(list(load_file(folder / FILE).items())[1:]), folder / FILE)


def reshape(folder: Path) -> None:
    save_file({name: tensor.reshape(-1) for name, tensor in load_file(folder / FILE).items()}, folder / FILE)


def empty(folder: Path) -> None:
    (folder / FILE).unlink()
    (folder / MANIFEST).write_text(json.dumps({}))


@pytest.mark.parametrize(
    "spoil",
    [
        cut_short,
        lose_a_tensor,
        reshape,
        empty,
        lambda f: (f / FILE).unlink(),
        lambda f: (f / MANIFEST).unlink(),
    ],
)
def test_what_a_worker_would_die_of_is_refused(folder: Path, spoil: object) -> None:
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(CheckpointError, match="named to no server"):
        require_valid(folder)


def test_the_last_two_are_kept_and_all_go_in_the_end(tmp_path: Path) -> None:
    shelf, policy = WeightFiles(tmp_path / "weights"), random_policy()
    folders = [shelf.put(policy.save_merged, str(version)) for version in range(4)]
    assert [folder.exists() for folder in folders] == [False, False, True, True]
    shelf.close()
    assert list((tmp_path / "weights").iterdir()) == [], "the folder that the user named stays"


def test_without_a_folder_it_makes_one_and_takes_it_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shelf = WeightFiles(None)
    folder = shelf.put(random_policy().save_merged, "0")
    assert folder.is_relative_to(tmp_path)
    assert folder.parent.stat().st_mode & 0o077 == 0, "it is nobody else's"
    shelf.close()
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, sys
from pathlib import Path
from policies.samplers.serving.weight_files import WeightFiles
print(WeightFiles(Path(sys.argv[1])).put(lambda folder: (folder / "w").touch(), "0"), flush=True)
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_process_left_goes_when_the_next_one_writes(tmp_path: Path) -> None:
    def left() -> Path:
        said = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, check=False)
        return Path(said.stdout.decode().strip())

    first, other = WeightFiles(tmp_path), WeightFiles(tmp_path)
    mine = first.put(lambda folder: None, "0")
    (tmp_path / "notes").mkdir()
    killed = left()
    (unknown := tmp_path / f"{PREFIX}1").mkdir()
    (elsewhere := left()).with_name(OWNER).write_text("another host")
    assert not killed.exists(), "the next one that was killed has removed it"
    gone = left()
    assert gone.exists()
    also_mine = other.put(lambda folder: None, "0")
    assert not gone.parent.exists()
    assert all(folder.exists() for folder in (mine, also_mine, tmp_path / "notes", unknown, elsewhere))
    first.close()
    assert not mine.parent.exists()
    assert also_mine.exists()
    other.close()
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "notes", unknown, elsewhere.parent])


def test_where_there_are_no_locks_nobody_removes_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*about: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", unsupported)
        folder = WeightFiles(tmp_path).put(lambda folder: None, "0")
    WeightFiles(tmp_path).put(lambda folder: None, "1")
    assert folder.exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PolicyError, match=r"file.*sampler\.weights"):
        WeightFiles(tmp_path / "file").put(random_policy().save_merged, "0")


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from safetensors.numpy import save_file
from policies.errors import PolicyError
from policies.samplers.serving.weight_files import WeightFiles
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    WeightFiles(Path(sys.argv[1])).put(lambda folder: save_file({"w": np.zeros(10000)}, folder / "w.safetensors"), "0")
except PolicyError as error:
    print(error)
"""


def test_a_disk_that_takes_no_more_is_told_with_the_option_that_names_its_folder(tmp_path: Path) -> None:
    """What safetensors raises then is no OSError."""
    said = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("the weights cannot be written for the servers: ")
    assert "File too large" in said.stdout
    assert "sampler.weights names the folder" in said.stdout
