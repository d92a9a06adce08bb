from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from policies import joint_saving
from policies.errors import PolicyError, RankLost

FILE = "optimizer-00002-of-00002.safetensors"


def save(folder: Path) -> dict[str, str]:
    (folder / FILE).write_bytes(b"moments")
    return {FILE: hashlib.sha256(b"moments").hexdigest()}


def nobody() -> None:
    return None


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """Where shares are written, and where they belong."""
    joint_saving.begin(tmp_path / "aside")
    (tmp_path / "target").mkdir()
    return tmp_path / "aside", tmp_path / "target"


def test_shares_are_waited_for_and_moved(places: tuple[Path, Path]) -> None:
    aside, target = places
    late = Thread(target=joint_saving.write_share, args=(save, aside, 1))
    joint_saving.write_share(lambda folder: {}, aside, 2)  # one whose shards are another's, too
    late.start()
    hashed = joint_saving.collect(aside, target, 3, nobody)
    late.join()
    assert hashed == {FILE: hashlib.sha256(b"moments").hexdigest()}
    assert [path.name for path in target.iterdir()] == [FILE]


def test_a_full_disk_is_the_same_error_here_and_leaves_nothing(places: tuple[Path, Path]) -> None:
    def fail(folder: Path) -> dict[str, str]:
        save(folder)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    joint_saving.write_share(fail, places[0], 1)
    with pytest.raises(OSError, match="No space left") as failed:
        joint_saving.collect(*places, 2, nobody)
    assert failed.value.errno == errno.ENOSPC
    assert not list(places[0].rglob(FILE))


def test_what_else_a_rank_failed_of_is_told(places: tuple[Path, Path]) -> None:
    def fail(folder: Path) -> dict[str, str]:
        raise MemoryError("no room for a copy")

    joint_saving.write_share(fail, places[0], 1)
    with pytest.raises(PolicyError, match="rank 1 could not write its share of a checkpoint: no room for a copy"):
        joint_saving.collect(*places, 2, nobody)


def test_a_rank_that_ended_is_not_waited_for(places: tuple[Path, Path]) -> None:
    with pytest.raises(RankLost, match="rank 1 has ended with -9, while a checkpoint was written"):
        joint_saving.collect(*places, 2, lambda: "rank 1 has ended with -9")


def test_a_rank_that_is_silent_is_waited_for_so_long(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joint_saving, "SILENCE_S", 0.1)
    with pytest.raises(RankLost, match="rank 1 has written nothing of its share"):
        joint_saving.collect(*places, 2, nobody)


def test_a_share_that_is_seen_in_part_is_refused(places: tuple[Path, Path]) -> None:
    joint_saving.write_share(save, places[0], 1)
    (places[0] / FILE).write_bytes(b"mom")
    with pytest.raises(PolicyError, match=f"rank 1 wrote 7 bytes of {FILE}, and rank 0 sees 3"):
        joint_saving.collect(*places, 2, nobody)


UNABLE = """
import sys
from pathlib import Path
from policies import joint_saving
def refuse(path, told):
    raise OSError(28, "No space left on device")
joint_saving._leave = refuse
joint_saving.write_share(lambda folder: {}, Path(sys.argv[1]), 1)
"""


def test_a_rank_that_cannot_say_why_ends_with_last_words_unless_nobody_waits(places: tuple[Path, Path]) -> None:
    command = [sys.executable, "-c", UNABLE]
    ended = subprocess.run([*command, str(places[0])], capture_output=True, text=True)
    assert ended.returncode == 1
    assert f"{places[0]} cannot be written: [Errno 28] No space left on device" in ended.stderr
    left = subprocess.run([*command, str(places[0] / "gone")], capture_output=True, text=True)
    assert (left.returncode, left.stderr) == (0, "")
