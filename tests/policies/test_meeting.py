"""How ranks meet, and what is made of those who do not come or do not stay."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Thread

import pytest
import torch.distributed as dist

from policies import ranks
from policies.errors import RankLost
from policies.meeting import connecting, gist, meet_here
from policies.ranks import Ranks

SOURCE = "[/__w/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:537]"
ENDED = "rank 1 has ended with -9"


@pytest.mark.parametrize(
    ("said", "gives"),
    [
        (
            f"{SOURCE} Connection closed by peer [127.0.0.1]:14544. This is typically caused by a remote worker "
            "crashing. Check the logs of the remote worker before reporting an error. GLHF! 🏖️",
            "Connection closed by peer [127.0.0.1]:14544",
        ),
        (
            f"Gloo connectFullMesh failed with {SOURCE} timed out connecting: SO_ERROR: Connection refused",
            "timed out connecting: SO_ERROR: Connection refused",
        ),
        ("Wait timeout\nframe #0: c10::Error", "Wait timeout"),
        ("", ""),
    ],
)
def test_of_a_backends_error_the_first_sentence_is_told(said: str, gives: str) -> None:
    assert gist(RuntimeError(said)) == gives


@pytest.mark.parametrize(
    "error",
    [
        dist.DistStoreError("wait timeout after 5000ms"),
        dist.DistNetworkError("Broken pipe"),
        RuntimeError("Wait timeout"),
        RuntimeError(f"Gloo connectFullMesh failed with {SOURCE} timed out connecting"),
    ],
)
def test_one_that_came_and_is_not_there_to_be_connected_is_lost(error: RuntimeError) -> None:
    with pytest.raises(RankLost, match="a rank has ended before all were connected"), connecting(lambda: None):
        raise error
    with pytest.raises(RankLost, match=f"{ENDED}. `evergreen resume`"), connecting(lambda: ENDED):
        raise error


def test_a_network_that_is_not_there_is_no_lost_rank() -> None:
    with pytest.raises(RuntimeError, match="Unable to find address"), connecting(lambda: ENDED):
        raise RuntimeError("[enforce fail at gloo/transport/tcp/device.cc:84] Unable to find address for: nope")


def test_a_rank_of_this_machine_that_never_comes_is_not_waited_for_once_it_has_ended(tmp_path: Path) -> None:
    """Rank 0 waited for it in torch, for ever and deaf to signals."""
    told: Iterator[str | None] = iter([None, None, ENDED])
    with pytest.raises(RankLost, match=ENDED):
        Ranks.join(tmp_path / "meeting", 0, 2, lost=lambda: next(told))
    assert not dist.is_initialized()


def test_a_rank_that_ends_between_coming_and_being_connected_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "CONNECT", timedelta(seconds=0.5))
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    comes = Thread(target=meet_here, args=(tmp_path / "meeting", 1, 2, lambda: None))
    comes.start()
    with pytest.raises(RankLost, match="before all were connected"):
        Ranks.join(tmp_path / "meeting", 0, 2)
    comes.join()
    assert not dist.is_initialized()
    next_one = Ranks.join(tmp_path / "next", 0, 1)
    try:
        assert dist.distributed_c10d._get_default_group().group_name == "0", "as in a process whose first it is"
    finally:
        next_one.leave()
