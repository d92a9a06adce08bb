"""The sections of `benchmarks.gpu` do what they say, on a toy and on stand-ins of servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.distributed.tensor import DTensor

from benchmarks import gpu, one_server, server_sync
from benchmarks.gpu_work import TOY, Figures, Work
from policies.learner import Learner
from policies.policy import Policy
from policies.samplers.serving.client import Server
from tests.policies.samplers.serving.fakes import FakeServer

WORK = Work.small(torch.device("cpu"))
PLAYABLE = TOY | {"hidden_size": 128}  # heads of 32 numbers, as vLLM plays them on a CPU

Updated = Callable[[Learner], object]


def policy_of(fields: dict[str, Any], seed: int = 0) -> Policy:
    return gpu.make_policy(WORK, fields, seed)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """One that plays other weights of the same shape, and can sleep."""
    made = FakeServer(policy=policy_of(TOY, seed=5))
    made.can_sleep = True
    yield made
    made.die()


@pytest.fixture
def at_updates(monkeypatch: pytest.MonkeyPatch) -> Callable[[Updated], None]:
    """Have something looked at before each update."""

    def watch(look: Updated) -> None:
        update = Learner.update

        def updated(self: Learner, *given: Any) -> Any:
            look(self)
            return update(self, *given)

        monkeypatch.setattr(Learner, "update", updated)

    return watch


@pytest.mark.parametrize("level", [1, 2])
def test_a_server_sleeps_while_the_learner_updates_and_wakes_with_its_weights(
    server: FakeServer, at_updates: Callable[[Updated], None], level: int
) -> None:
    asleep: list[bool] = []
    at_updates(lambda learner: asleep.append(server.is_asleep))
    figures = Figures()
    gpu.step_beside_a_sleeper(WORK, policy_of(TOY), server.url, level, "toy", figures)
    assert asleep == [True, True]
    assert (server.called.count("/sleep"), server.called.count("/wake_up")) == (2, 1)
    (row,) = figures.rows
    assert "ended" not in row
    assert row["sampler_gap_max"] < 1e-4, "it played the weights of the first update"
    assert all(row[name] > 0 for name in ("sleep_s", "wake_and_sync_s", "play_s", "update_s"))
    assert len(server.loaded) == 2


def test_a_server_that_stays_awake_is_told_with_the_figures(server: FakeServer) -> None:
    server.falls_asleep = False
    figures = Figures()
    gpu.step_beside_a_sleeper(WORK, policy_of(TOY), server.url, 2, "toy", figures)
    assert "was not put to sleep" in figures.rows[0]["ended"]


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (gpu, server_sync):
        monkeypatch.setattr(module, "python", lambda: None)
    figures, policy = Figures(), policy_of(TOY)
    gpu.sleeping(WORK, policy, "toy", figures)
    gpu.sleeping(Work(torch.device("cuda", 0), torch.bfloat16), policy, "toy", figures)
    server_sync.to_a_server(WORK, policy, "toy", figures, "sync", "files", "nccl")
    said = [row["ended"] for row in figures.rows]
    assert said[0].startswith("takes a GPU")
    assert said[1:] == [one_server.MISSING, *[f"not run: {one_server.MISSING}"] * 2]


def test_weights_over_nccl_want_a_second_gpu_and_files_do_not(
    monkeypatch: pytest.MonkeyPatch, server: FakeServer
) -> None:
    served: list[tuple[str, ...]] = []

    class Served:
        def __init__(
            self, policy: Policy, device: torch.device, context: int, *more: str, takes_adapters: bool
        ) -> None:
            served.append(more)

        def __enter__(self) -> str:
            return server.url

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(server_sync, "python", lambda: "python")
    monkeypatch.setattr(server_sync, "served", Served)
    figures = Figures()
    server_sync.to_a_server(WORK, policy_of(TOY), "toy", figures, "sync", "files", "nccl")
    over_nccl, files = figures.rows
    assert over_nccl["ended"].startswith("not run: takes two GPUs")
    assert files["seconds"] > files["writing_s"] > 0
    assert served == [()]


def test_one_rank_of_one_has_its_weights_in_shards(at_updates: Callable[[Updated], None]) -> None:
    are_shards: list[bool] = []
    at_updates(lambda learner: are_shards.append(all(isinstance(p, DTensor) for p in trained(learner))))
    gpu.sharded(WORK, policy_of(TOY), "toy", Figures())
    assert are_shards
    assert all(are_shards)


def test_adapters_alone_are_trained(monkeypatch: pytest.MonkeyPatch, at_updates: Callable[[Updated], None]) -> None:
    pytest.importorskip("peft")
    monkeypatch.setattr(server_sync, "python", lambda: None)  # a real one plays no heads as narrow as the toy's
    policy, names = policy_of(TOY), set[str]()
    at_updates(lambda learner: names.update(n for n, p in policy.model.named_parameters() if p.requires_grad))
    gpu.adapters(WORK, policy, "toy", Figures())
    assert names
    assert all(".lora_" in name for name in names)


def trained(learner: Learner) -> list[Any]:
    return [p for group in learner.optimizer.adam.param_groups for p in group["params"]]


@pytest.mark.vllm
@pytest.mark.timeout(600)
def test_real_servers_and_an_engine_beside_the_learner(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM for CPUs takes the calls and frees nothing: the section is tried here, the memory is not."""

    async def there_is_a_sleep_mode(server: Server) -> bool:
        return True

    monkeypatch.setattr(Server, "can_sleep", there_is_a_sleep_mode)
    figures, policy = Figures(), policy_of(PLAYABLE)
    with one_server.served(policy, WORK.device, WORK.context) as url:
        for level in (1, 2):
            gpu.step_beside_a_sleeper(WORK, policy, url, level, f"level {level}", figures)
    server_sync.to_a_server(WORK, policy, "toy", figures, "sync", "files")
    gpu.colocated(WORK, policy, "toy", figures)
    assert not any("ended" in row for row in figures.rows), figures.rows
    assert [row["sampler_gap_max"] < 1e-4 for row in figures.rows[:2]] == [True, True]
    assert [row["section"] for row in figures.rows] == ["sleeping", "sleeping", "sync", "colocated"]
