"""Real servers: fresh weights on tied and untied heads, one killed in mid-batch, one that comes back with old weights.

Each starts in half a minute to a minute and takes 3 GB.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policies.config import AdapterConfig
from policies.errors import PolicyError
from policies.policy import Policy
from policies.samplers.contracts import Request, Sampling
from policies.samplers.serving.client import Server
from policies.samplers.serving.supervisor import (
    LOADS_ADAPTERS,
    Launch,
    SupervisedServers,
    for_a_cpu,
    for_adapters,
    running,
    vllm_command,
)
from policies.samplers.testing import some_requests
from policies.samplers.vllm import PREFILL_TOKENS
from policies.samplers.vllm_server import Config, VllmServerSampler, create
from tests.policies.samplers.serving.fakes import FakeServer
from tests.policies.samplers.serving.test_adapters_handed_over import learn
from tests.policies.samplers.vllm.playing import ROUNDING, gap, greedy, long_requests, update, wide_policy

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

REPOSITORY = Path(__file__).parents[5]
OPTIONS = ["--max-model-len", "512", *for_a_cpu(512)]


@contextmanager
def started(
    policy: Policy, num: int, folder: Path, *more: str, environment: Mapping[str, str] | None = None
) -> Iterator[list[SupervisedServers]]:
    """Run servers of a policy, ready."""
    policy.save(folder / "policy")
    launches = []
    for number in range(num):
        fake = FakeServer()  # finds a free port
        fake.die()
        command = vllm_command(folder / "policy", fake.url, "float32", [*OPTIONS, *more])
        launches.append(
            Launch(fake.url, command, folder / f"log-{number}", {"PYTHONPATH": str(REPOSITORY), **(environment or {})})
        )
    with running(launches) as servers:
        for server in servers:
            server.wait_until_ready()
        yield servers


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SupervisedServers]]:
    """Two servers that start with other weights than those the tests play."""
    with started(wide_policy(seed=5), 2, tmp_path_factory.mktemp("two")) as servers:
        yield servers


@contextmanager
def sampler_on(policy: Policy, servers: list[SupervisedServers], **options: object) -> Iterator[VllmServerSampler]:
    """Make a sampler that has said the one thing there is to say of these servers, closed afterwards."""
    urls = [server.launch.url for server in servers]
    made = create(Config.model_validate({"urls": urls, "probe_every": 1, **options}), policy)
    try:
        (news,) = made.take_news()
        assert news.startswith("the servers take 512 tokens in a row")
        yield made
    finally:
        made.close()


def require_fresh(sampler: VllmServerSampler) -> None:
    """Compare what is played with the library: the log-probs of drawn tokens, and greedy tokens."""
    policy = sampler.policy
    requests = [*long_requests(policy), *some_requests(policy, group_size=2)]
    assert gap(policy, requests, sampler.generate(requests, Sampling())) < ROUNDING
    played = sampler.generate(requests, Sampling(greedy=True))
    assert [g.ids for g in played] == [greedy(policy, request) for request in requests]


def require_followed(sampler: VllmServerSampler) -> None:
    """Two updates, each played after its sync and with nothing of before."""
    require_fresh(sampler)
    for seed in range(2):
        update(sampler.policy, seed)
        sampler.sync(sampler.policy.version)
        require_fresh(sampler)
    assert sampler.take_news() == []


def test_a_batch_may_hold_more_prompt_than_a_server_reads_at_once(two: list[SupervisedServers]) -> None:
    policy = wide_policy()
    generator = np.random.default_rng(0)
    prompts = generator.integers(0, len(policy.tokenizer), (96, 300)).tolist()
    requests = [Request(tuple(prompt), seed + 1, 2) for seed, prompt in enumerate(prompts)]
    with sampler_on(policy, two[:1], in_flight=96) as sampler:
        played = sampler.generate(requests, Sampling())
    assert 3 * PREFILL_TOKENS < 96 * 300
    assert all(1 <= len(generation.ids) <= 2 for generation in played)


def test_weights_follow_on_a_tied_head(two: list[SupervisedServers]) -> None:
    with sampler_on(wide_policy(), two) as sampler:
        require_followed(sampler)


def test_weights_follow_on_an_untied_head(tmp_path: Path) -> None:
    with (
        started(wide_policy(seed=5, tied=False), 1, tmp_path) as servers,
        sampler_on(wide_policy(tied=False), servers) as sampler,
    ):
        require_followed(sampler)


def test_adapters_follow_beside_weights_that_went_once(tmp_path: Path) -> None:
    policy = wide_policy()
    policy.put_adapters(AdapterConfig(rank=4), 1, has_own_base=True)
    more = for_adapters(4)
    with (
        started(wide_policy(seed=5), 1, tmp_path, *more, environment=LOADS_ADAPTERS) as servers,
        sampler_on(policy, servers, hand_over="adapter") as sampler,
    ):
        require_fresh(sampler)
        for seed in range(3):
            learn(policy, seed)
            sampler.sync(policy.version)
            require_fresh(sampler)
        policy.merge_adapters(torch.Generator().manual_seed(3))
        learn(policy, 4)
        sampler.sync(policy.version)
        require_fresh(sampler)
        assert sampler.take_news() == []


def test_an_adapter_lost_in_mid_batch_is_loaded_again(tmp_path: Path) -> None:
    policy = wide_policy()
    policy.put_adapters(AdapterConfig(rank=4), 1, has_own_base=True)
    requests = many(policy)
    with (
        started(wide_policy(seed=5), 1, tmp_path, *for_adapters(4), environment=LOADS_ADAPTERS) as servers,
        sampler_on(policy, servers, hand_over="adapter", in_flight=2) as sampler,
    ):
        undisturbed = sampler.generate(requests, Sampling())
        timer = threading.Timer(0.4, unload_adapters, (servers[0].launch.url,))
        timer.start()
        played = sampler.generate(requests, Sampling())
        timer.join()
        assert [g.ids for g in played] == [g.ids for g in undisturbed]
        (news,) = sampler.take_news()
        assert "it has no adapter evergreen-0-" in news


def unload_adapters(url: str) -> None:
    """Have a server forget its adapters."""
    with urllib.request.urlopen(f"{url}/v1/models") as answer:
        names = [one["id"] for one in json.load(answer)["data"] if one["parent"]]
    for name in names:
        body, header = json.dumps({"lora_name": name}).encode(), {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(f"{url}/v1/unload_lora_adapter", body, header)):
            pass


@pytest.mark.parametrize("level", [1, 2])
def test_they_are_put_to_sleep_and_woken(
    two: list[SupervisedServers], monkeypatch: pytest.MonkeyPatch, level: int
) -> None:
    """vLLM for CPUs takes the calls and frees nothing: the sequence is tried here, the memory is not."""
    monkeypatch.setattr(Server, "can_sleep", there_is_a_sleep_mode)
    policy = wide_policy()
    with sampler_on(policy, two, sleep_level=level) as sampler:
        for seed in range(2):
            sampler.make_room()
            assert [told(server, "/is_sleeping") for server in two] == [{"is_sleeping": True}] * 2
            assert (told(two[0], "/weight_info") == {"weight_version": "asleep"}) == (level == 2)
            require_fresh(sampler)
            update(policy, seed)
            sampler.make_room()
            sampler.sync(policy.version)
            require_fresh(sampler)
            assert [told(server, "/is_sleeping") for server in two] == [{"is_sleeping": False}] * 2
        assert sampler.take_news() == []
    with sampler_on(policy, two) as sampler:  # of a run that begins while they sleep
        require_fresh(sampler)


async def there_is_a_sleep_mode(server: Server) -> bool:
    return True


def told(server: SupervisedServers, path: str) -> Any:
    with urllib.request.urlopen(server.launch.url + path) as answer:
        return json.load(answer)


def test_on_a_cpu_there_is_no_sleep_mode(two: list[SupervisedServers]) -> None:
    assert told(two[0], "/server_info?config_format=json")["vllm_config"]["model_config"]["enable_sleep_mode"] is False
    with pytest.raises(PolicyError, match=r"no sleep mode, which sampler\.sleep_level: 1 asks for"):
        create(Config(urls=[two[0].launch.url], sleep_level=1), wide_policy())


def many(policy: Policy, num: int = 24, budget: int = 128) -> list[Request]:
    """Long rows, which nothing ends early."""
    policy.stop_ids = ()
    return some_requests(policy, group_size=num // 4, budget=budget)


def kill_after_a_while(server: SupervisedServers, seconds: float) -> threading.Timer:
    """Kill all processes of a server, guard and engine included, while a batch is under way."""
    timer = threading.Timer(seconds, os.killpg, (server.group, signal.SIGKILL))
    timer.start()
    return timer


def test_a_server_killed_in_mid_batch_costs_no_row_and_comes_back_with_our_weights(
    two: list[SupervisedServers],
) -> None:
    policy = wide_policy()
    requests = many(policy)
    with sampler_on(policy, two[1:]) as alone:
        undisturbed = alone.generate(requests, Sampling())
    with sampler_on(policy, two, in_flight=2) as sampler:  # a batch of some seconds: all at once take half a second
        killer = kill_after_a_while(two[0], 0.4)
        played = sampler.generate(requests, Sampling())
        assert not killer.is_alive(), "the batch was over before the server was killed"
        assert [g.ids for g in played] == [g.ids for g in undisturbed]
        assert [g.finish for g in played] == ["length"] * len(requests)
        (news,) = sampler.take_news()
        assert f"{two[0].launch.url}: " in news
        assert "attempts at a row failed" in news

        told: list[str] = []
        while not told or not two[0].is_ready():
            two[0].watch(told.append)
            time.sleep(0.5)
        assert [g.ids for g in sampler.generate(requests, Sampling())] == [g.ids for g in undisturbed]
        held = f"{two[0].launch.url}: it held the weights default instead of ours"
        assert any(held in news for news in sampler.take_news())
        require_fresh(sampler)


def test_a_seed_gives_the_same_tokens_again_on_either_server(two: list[SupervisedServers]) -> None:
    policy = wide_policy()
    requests = some_requests(policy)
    with sampler_on(policy, two[:1]) as first, sampler_on(policy, two[1:]) as second:
        ids = [[g.ids for g in one.generate(requests, Sampling())] for one in (first, first, second)]
    assert ids[0] == ids[1] == ids[2]


def test_an_old_head_under_new_layers_is_noticed(tmp_path: Path) -> None:
    forgetful = "tests.policies.samplers.serving.vllm.forgetful.Reload"
    with (
        started(wide_policy(seed=5), 1, tmp_path, "--worker-extension-cls", forgetful) as servers,
        pytest.raises(PolicyError, match="does not play the weights it was given"),
    ):
        create(Config(urls=[servers[0].launch.url]), wide_policy())


def test_a_server_with_other_log_probs_is_refused(tmp_path: Path) -> None:
    with (
        started(wide_policy(), 1, tmp_path, "--logprobs-mode", "raw_logprobs") as servers,
        pytest.raises(PolicyError, match="--logprobs-mode raw_logprobs; restart it with processed_logprobs"),
    ):
        create(Config(urls=[servers[0].launch.url]), wide_policy())


def test_what_is_too_long_for_the_server_is_refused_with_its_words(two: list[SupervisedServers]) -> None:
    policy = wide_policy()
    with (
        sampler_on(policy, two[:1]) as sampler,
        pytest.raises(PolicyError, match=r"need 600 tokens, .* takes 512"),
    ):
        sampler.generate(long_requests(policy, budget=400), Sampling())
