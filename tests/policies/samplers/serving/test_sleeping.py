"""Servers on the learner's GPUs: they sleep while it updates, and are woken before the next batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import orchestrator
from orchestrator.callbacks import Callback
from policies.samplers import transformers
from policies.samplers.contracts import Generation, Request, Sampling
from policies.samplers.transformers import TransformersSampler
from tests.orchestrator.specs import small
from tests.policies.samplers.serving.fakes import FakeServer, Make
from tests.policies.samplers.serving.test_playing import agree, expected, rows


def test_servers_sleep_between_batches(make: Make, servers: list[FakeServer]) -> None:
    for server in servers:
        server.may_sleep = True
    sampler = make(sleeps=True)
    requests = rows(sampler.policy)
    for version in (1, 2):
        agree(sampler.generate(requests, Sampling()), expected(requests))
        assert not any(server.is_sleeping for server in servers)
        sampler.rest()
        assert all(server.is_sleeping for server in servers)
        sampler.sync(version)
    assert sampler.take_news() == []


def test_a_server_that_cannot_sleep_is_told_and_plays(make: Make, servers: list[FakeServer]) -> None:
    servers[0].may_sleep = True
    sampler = make(sleeps=True)
    requests = rows(sampler.policy)
    sampler.generate(requests, Sampling())
    sampler.rest()
    agree(sampler.generate(requests, Sampling()), expected(requests))
    (news,) = sampler.take_news()
    assert news.startswith(f"{servers[1].url} keeps its GPU's memory while the learner updates: ")
    assert "--enable-sleep-mode" in news


def test_without_the_option_nobody_is_asked_to_sleep(make: Make, servers: list[FakeServer]) -> None:
    sampler = make()
    sampler.generate(rows(sampler.policy), Sampling())
    sampler.rest()
    assert not {"/sleep", "/is_sleeping"} & {path for server in servers for path in server.called}


def test_servers_that_a_killed_run_left_asleep_are_woken(make: Make, servers: list[FakeServer]) -> None:
    for server in servers:
        server.may_sleep = server.is_sleeping = True
    sampler = make(sleeps=True)
    requests = rows(sampler.policy)
    agree(sampler.generate(requests, Sampling()), expected(requests))


def test_the_learner_is_given_room_before_it_updates(tmp_path: Path) -> None:
    order: list[str] = []

    class Resting(TransformersSampler):
        def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation]:
            order.append("plays")
            return super().generate(requests, sampling)

        def rest(self) -> None:
            order.append("rests")

    class Noting(Callback):
        def step(self, at: Any, record: Any) -> None:
            order.append("updated")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(transformers, "TransformersSampler", Resting)
        orchestrator.run(small("rests"), home=tmp_path, until_step=2, watcher=Noting())
    steps = [at for at, what in enumerate(order) if what == "updated"]
    assert len(steps) == 2
    assert all("rests" in order[max(0, at - 2) : at] for at in steps)
