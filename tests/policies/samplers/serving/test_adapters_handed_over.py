"""Adapters that reach servers alone, a name a version, beside weights that are handed over once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from orchestrator.errors import SpecError
from orchestrator.spec import load_spec
from policies import adapters
from policies.config import AdapterConfig
from policies.errors import PolicyError
from policies.policy import Policy
from policies.samplers.contracts import Sampling
from policies.samplers.testing import fresh_logprobs, random_policy
from policies.samplers.vllm_server import Config, VllmServerSampler
from tests.orchestrator.specs import small
from tests.policies.samplers.serving.fakes import FakeServer
from tests.policies.samplers.serving.test_playing import rows

RANK = 4


@pytest.fixture
def policy() -> Policy:
    made = random_policy()
    made.put_adapters(AdapterConfig(rank=RANK), 1, has_own_base=True)
    return made


@pytest.fixture
def able(servers: list[FakeServer]) -> list[FakeServer]:
    """Servers that load adapters."""
    for server in servers:
        server.largest_rank = 8
    return servers


@pytest.fixture
def closing() -> Iterator[list[VllmServerSampler]]:
    made: list[VllmServerSampler] = []
    yield made
    for sampler in made:
        sampler.close()


def make(
    policy: Policy, servers: list[FakeServer], closing: list[VllmServerSampler], **options: object
) -> VllmServerSampler:
    config = Config.model_validate({"urls": [server.url for server in servers], "probe_every": 1, **options})
    closing.append(VllmServerSampler(config, policy))
    return closing[-1]


def learn(policy: Policy, seed: int) -> None:
    """Move the adapters, and nothing else."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for one in adapters.adapter_weights(policy.model).values():
            one.add_(0.03 * torch.randn(one.shape, generator=generator))
    policy.version += 1


def require_played(sampler: VllmServerSampler) -> None:
    """Compare what servers play with the policy as it is."""
    requests = rows(sampler.policy)
    for request, generation in zip(requests, sampler.generate(requests, Sampling()), strict=True):
        assert {span.version for span in generation.spans} == {sampler.policy.version}
        fresh = fresh_logprobs(sampler.policy, request, generation, 1.0)
        assert generation.logprobs == pytest.approx(fresh, abs=1e-4)


@pytest.mark.slow
def test_weights_go_once_and_adapters_with_each_version(
    policy: Policy, able: list[FakeServer], closing: list[VllmServerSampler]
) -> None:
    sampler = make(policy, able, closing)
    require_played(sampler)
    for seed in range(3):
        learn(policy, seed)
        sampler.sync(policy.version)
        require_played(sampler)
    for server in able:
        assert len(server.loaded) == 1
        assert len(server.adapters) == 1, "older ones were let go"
    assert sampler.take_news() == []


def test_what_is_merged_goes_whole_and_adapters_begin_anew(
    policy: Policy, able: list[FakeServer], closing: list[VllmServerSampler]
) -> None:
    sampler = make(policy, able, closing, hand_over="adapter")
    learn(policy, 1)
    policy.merge_adapters(torch.Generator().manual_seed(2))
    sampler.sync(policy.version)
    require_played(sampler)
    assert [len(server.loaded) for server in able] == [2, 2]


def test_a_server_that_restarts_is_given_both(
    policy: Policy, able: list[FakeServer], closing: list[VllmServerSampler]
) -> None:
    sampler = make(policy, able, closing)
    learn(policy, 1)
    sampler.sync(policy.version)
    able[0].restart()
    require_played(sampler)
    assert [len(server.loaded) for server in able] == [2, 1]
    (news,) = sampler.take_news()
    assert "restarted?" in news


def test_a_server_that_restarts_in_mid_batch_costs_retries_and_no_row(
    policy: Policy, able: list[FakeServer], closing: list[VllmServerSampler]
) -> None:
    """It says that there is no such model, which would otherwise be our mistake."""
    sampler = make(policy, able[:1], closing)
    learn(policy, 1)
    sampler.sync(policy.version)
    num = len(able[0].bodies)
    able[0].before_completion = lambda number: able[0].forget() if number == num + 3 else None
    require_played(sampler)
    assert len(able[0].loaded) == 2
    news = sampler.take_news()
    assert any("it has no adapter evergreen-1-" in text for text in news), news


def test_a_server_that_loads_no_adapters_is_told_and_weights_go_whole(
    policy: Policy, servers: list[FakeServer], closing: list[VllmServerSampler]
) -> None:
    servers[0].largest_rank = 8
    sampler = make(policy, servers, closing)
    learn(policy, 1)
    sampler.sync(policy.version)
    require_played(sampler)
    assert [len(server.loaded) for server in servers] == [2, 2]
    (news,) = sampler.take_news()
    assert news.startswith(f"weights go to the servers whole: {servers[1].url} loads no adapters of rank {RANK}")


def test_where_adapters_are_asked_for_such_a_server_is_left_out(
    policy: Policy, servers: list[FakeServer], closing: list[VllmServerSampler]
) -> None:
    servers[0].largest_rank = 8
    sampler = make(policy, servers, closing, hand_over="adapter")
    require_played(sampler)
    (news,) = sampler.take_news()
    assert news.startswith(f"{servers[1].url} is left out")
    assert "start it with --enable-lora --max-lora-rank of at least 4" in news
    servers[0].die()
    with pytest.raises(PolicyError, match=r"hand_over: files"):
        sampler.generate(rows(policy), Sampling())


def test_a_policy_without_adapters_has_none_to_hand_over() -> None:
    with pytest.raises(SpecError, match=r"sampler\.hand_over: adapter: the policy has none"):
        load_spec(small("words", sampler={"type": "vllm_server", "hand_over": "adapter"}))
