"""What every sampler must do, on a server; what servers do wrong is in tests/policies/samplers/serving."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from policies.errors import PolicyError
from policies.policy import Policy
from policies.samplers.contracts import Sampler
from policies.samplers.testing import SamplerSuite, random_policy
from policies.samplers.vllm_server import Config, VllmServerSampler, create
from tests.policies.samplers.serving.fakes import FakeServer

URL = "http://127.0.0.1:1"


class TestVllmServer(SamplerSuite):
    """The published suite, on a fake server."""

    tolerance = 2e-5  # it plays a row at a time, and one row's kernels round otherwise than those of many

    @pytest.fixture(autouse=True)
    def _server(self) -> Iterator[None]:
        self.server = FakeServer()
        self.made: list[VllmServerSampler] = []
        yield
        for sampler in self.made:
            sampler.close()
        self.server.die()

    def make(self, policy: Policy) -> Sampler:
        self.made.append(create(Config(urls=[self.server.url]), policy))
        return self.made[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"urls": []}, "at least 1"),
        ({"urls": ["127.0.0.1:8321"]}, "a server is named like http://127.0.0.1:8321"),
        ({"urls": [URL, URL]}, "listed twice"),
        ({"urls": ["http://10.0.0.1:1"], "urls_file": "servers"}, "say one of them"),
        ({"urls": ["https://players:1"], "every_address": True}, "certificates do not hold"),
        ({"in_flight": 0}, "greater than or equal to 1"),
        ({"min_p": 0.1}, "depend on the text so far"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(options)


def test_no_server_is_an_error_that_says_where_and_how_to_start_one() -> None:
    with pytest.raises(PolicyError, match=rf"no server can play.*{URL}.*evergreen serve SPEC"):
        create(Config(urls=[URL]), random_policy())
