from __future__ import annotations

from collections.abc import Iterator

import pytest

from policies.samplers.serving import request_batch
from policies.samplers.testing import random_policy
from policies.samplers.vllm_server import Config, VllmServerSampler
from tests.policies.samplers.serving.fakes import FakeServer, Make


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_batch, "FIRST_PAUSE_S", 0.01)


@pytest.fixture
def servers() -> Iterator[list[FakeServer]]:
    """Two servers."""
    made = [FakeServer(), FakeServer()]
    yield made
    for server in made:
        server.die()


@pytest.fixture
def make(servers: list[FakeServer]) -> Iterator[Make]:
    """Make samplers of a small policy on the servers; they are closed afterwards."""
    made: list[VllmServerSampler] = []

    def make(**options: object) -> VllmServerSampler:
        config = Config.model_validate({"urls": [server.url for server in servers], **options})
        made.append(VllmServerSampler(config, random_policy()))
        return made[-1]

    yield make
    for sampler in made:
        sampler.close()
