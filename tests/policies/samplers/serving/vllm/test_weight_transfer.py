"""Real servers of vLLM 0.32: the endpoints of its weight transfer, and all of the transfer but NCCL itself.

A CPU has no NCCL; on both sides a store over TCP stands in for its communicator, and everything else is what runs on a
GPU: our protocol, vLLM's packing, its engine, its loading. A head tied to the embeddings is not tried: on a CPU it is
multiplied with a packed copy, which on a GPU there is not.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from policies.samplers.serving import nccl, weight_group
from policies.samplers.serving.client import Server, ServerFault
from policies.samplers.serving.supervisor import RECEIVES, SupervisedServers
from tests.policies.samplers.serving.vllm.over_tcp import replacements
from tests.policies.samplers.serving.vllm.test_servers import require_fresh, sampler_on, started, told
from tests.policies.samplers.vllm.playing import update, wide_policy

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

EXTENSION = "tests.policies.samplers.serving.vllm.over_tcp.Reload"
MEETING = {
    **{"master_address": "127.0.0.1", "master_port": 9, "rank_offset": 1, "world_size": 2},
    **{"packed": True, "packed_buffer_size_bytes": 1000, "packed_num_buffers": 2},
}
ANNOUNCED = {"names": ["a"], "dtype_names": ["float32"], "shapes": [[1]]}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SupervisedServers]]:
    """Two servers of other weights, started for it."""
    more = [*RECEIVES, "--worker-extension-cls", EXTENSION]
    with started(wide_policy(seed=5, tied=False), 2, tmp_path_factory.mktemp("two"), *more) as servers:
        yield servers


def ask(server: SupervisedServers, path: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
    header, data = {"Content-Type": "application/json"}, None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.launch.url + path, data, header, method="POST")
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_endpoints_take_what_we_send_them(two: list[SupervisedServers]) -> None:
    """What a CPU lacks is named; a path or field by another name would be 404, 400, or told to be unexpected."""
    server = two[0]
    config = told(server, "/server_info?config_format=json")["vllm_config"]
    assert config["weight_transfer_config"] == {"backend": "nccl"}
    assert told(server, "/get_world_size") == {"world_size": 1}
    status, text = ask(server, "/init_weight_transfer_engine", {"init_info": MEETING})
    assert (status, "Cannot access accelerator device when none is available" in text) == (500, True), text
    assert "missing" in ask(server, "/init_weight_transfer_engine", {"init_info": {}})[1]
    status, text = ask(server, "/update_weights", {"update_info": ANNOUNCED})
    assert (status, "start_weight_update must be called before" in text) == (500, True), text
    assert ask(server, "/start_weight_update")[0] == 200
    status, text = ask(server, "/update_weights", {"update_info": ANNOUNCED})
    assert (status, "NCCL weight transfer not initialized" in text) == (500, True), text
    assert "without a matching start" in ask(server, "/finish_weight_update")[1], "one that failed cannot be ended"
    assert ask(server, "/start_weight_update")[0] == 200
    assert "already active" in ask(server, "/start_weight_update")[1]
    assert "during a weight update" in ask(server, "/shutdown_weight_transfer_engine")[1]
    assert ask(server, "/finish_weight_update", {"weight_version": "7-x"})[0] == 200
    assert told(server, "/weight_info") == {"weight_version": "7-x"}
    assert ask(server, "/shutdown_weight_transfer_engine")[0] == 200


@pytest.fixture
def over_tcp(two: list[SupervisedServers], monkeypatch: pytest.MonkeyPatch) -> list[SupervisedServers]:
    """Both sides with TCP for NCCL, and weights in many packs."""
    for server in two:
        assert ask(server, "/collective_rpc", {"method": "receive_over_tcp"})[0] == 200
    for owner, name, value in replacements():
        monkeypatch.setattr(owner, name, value)
    monkeypatch.setattr(nccl, "require_possible", lambda device: None)
    for module in (nccl, weight_group):
        monkeypatch.setattr(module, "BUFFER_BYTES", 200_000)
    return two


def test_weights_follow_through_a_group(over_tcp: list[SupervisedServers], monkeypatch: pytest.MonkeyPatch) -> None:
    policy = wide_policy(tied=False)
    with sampler_on(policy, over_tcp, hand_over="nccl") as sampler:
        monkeypatch.setattr(sampler._weight_files, "put", None)  # nothing goes as files
        require_fresh(sampler)
        for seed in range(3):
            update(policy, seed)
            sampler.sync(policy.version)
            require_fresh(sampler)
        assert sampler.take_news() == []


Receive = Callable[[Server, dict[str, Any]], Awaitable[None]]


def never(receive: Receive) -> Receive:
    """An update that was begun and of which nothing came: it still goes on."""

    async def call(server: Server, announced: dict[str, Any]) -> None:
        raise ServerFault("cut off")

    return call


def in_mid_layer(receive: Receive) -> Receive:
    """Keys and queries of a layer came, its values under a name that there is not: the update ends in an error."""

    async def call(server: Server, announced: dict[str, Any]) -> None:
        names = [name.replace("layers.1.self_attn.v_proj", "no_such") for name in announced["names"]]
        await receive(server, announced | {"names": names})

    return call


@pytest.mark.parametrize("how", [never, in_mid_layer])
def test_what_breaks_goes_as_files_and_then_through_a_new_group(
    over_tcp: list[SupervisedServers], monkeypatch: pytest.MonkeyPatch, how: Callable[[Receive], Receive]
) -> None:
    policy = wide_policy(tied=False)
    with sampler_on(policy, over_tcp, hand_over="nccl") as sampler:
        with monkeypatch.context() as broken:
            broken.setattr(Server, "receive", how(Server.receive))
            update(policy, 0)
            sampler.sync(policy.version)
        (news,) = sampler.take_news()
        assert "handed over by files until the group is rebuilt" in news
        require_fresh(sampler)
        monkeypatch.setattr(sampler._weight_files, "put", None)  # nothing goes as files
        update(policy, 1)
        sampler.sync(policy.version)
        require_fresh(sampler)
        assert sampler.take_news() == []
