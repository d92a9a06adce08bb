"""What `benchmarks.scale` and `benchmarks.gpu` time of a sync, and how its growth is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks import scale
from benchmarks.one_server import MISSING, RANK
from benchmarks.server_sync import REPEATS, Sync, through_files, to_server
from policies.config import AdapterConfig
from policies.policy import Policy
from policies.samplers.testing import random_policy
from policies.samplers.weight_check import SERVER_ROWS
from tests.policies.samplers.serving.fakes import FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    made = FakeServer()
    made.largest_rank = RANK
    yield made
    made.die()


def policy_with_adapters() -> Policy:
    policy = random_policy()
    policy.put_adapters(AdapterConfig(rank=2), seed=0, has_own_base=True)
    return policy


@pytest.mark.parametrize("how", scale.WAYS)
def test_a_sync_is_timed_on_a_server_that_takes_the_weights_each_time(server: FakeServer, how: str) -> None:
    policy = policy_with_adapters() if how == "adapter" else random_policy()
    found = to_server(policy, server.url, how)
    assert 0 < found.writing + found.prompt < found.seconds
    assert found.news == []
    num_learn = sum(one.numel() for one in policy.model.parameters() if one.requires_grad)
    assert 4 * num_learn < found.num_bytes < 4 * num_learn + 8000, "and the header of a file"
    if how == "files":
        assert len(set(server.loaded)) == 1 + REPEATS
    else:
        assert (len(set(server.loaded)), server.called.count("/v1/load_lora_adapter")) == (1, 1 + REPEATS)
    assert server.called.count("/v1/completions") == SERVER_ROWS, "the weights are proven at the first alone"


@pytest.mark.parametrize("how", scale.WAYS)
def test_without_a_server_files_are_written_and_read(how: str) -> None:
    policy = policy_with_adapters()
    found = through_files(policy, how, repeats=2)
    assert 0 < found.writing < found.seconds
    assert found.num_bytes > 0


def test_growth_is_told_by_way_and_from_size_to_size(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"small": 2_000_000, "large": 8_000_000}

    def made_up(shape: str, has_vllm: bool) -> Iterator[tuple[str, int, str, Sync]]:
        num = sizes[shape]
        yield shape, num, "files", Sync(num / 1e7, 0.05, 0.01, 4 * num)
        yield shape, num, "adapter", Sync(0.1, 0.05, 0.01, 1_000_000)

    monkeypatch.setattr(scale, "syncs_of", made_up)
    monkeypatch.setattr(scale, "python", lambda: None)
    scale.syncs(sizes)
    said, *lines = capsys.readouterr().out.strip().splitlines()
    assert said.startswith(MISSING)
    assert lines[3:] == [
        "| small | 2.0e6 | files | 8.0 | 0.200 | 0.050 | 0.010 | 0.140 | 0.1000 |  |",
        "| large | 8.0e6 | files | 32.0 | 0.800 | 0.050 | 0.010 | 0.740 | 0.1000 | 4.0 times, weights 4.0 |",
        "| small | 2.0e6 | adapter | 1.0 | 0.100 | 0.050 | 0.010 | 0.040 | 0.0500 |  |",
        "| large | 8.0e6 | adapter | 1.0 | 0.100 | 0.050 | 0.010 | 0.040 | 0.0125 | 1.0 times, weights 4.0 |",
    ]


@pytest.mark.vllm
@pytest.mark.timeout(600)
def test_a_real_server_takes_a_policy_whole_and_its_adapters() -> None:
    rows = list(scale.syncs_of("1M", has_vllm=True))
    assert [how for _, _, how, _ in rows] == list(scale.WAYS)
    whole, adapter = (found for *_, found in rows)
    assert whole.num_bytes > 4e6 > adapter.num_bytes
    assert not whole.news
