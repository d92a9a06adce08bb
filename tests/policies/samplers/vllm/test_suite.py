"""The published conformance suite on real vLLM. One engine plays for all; their policies differ in weights only."""

from __future__ import annotations

import pytest

from policies.policy import Policy
from policies.samplers import testing
from policies.samplers.testing import SamplerSuite
from policies.samplers.vllm import Config, VllmSampler, create
from tests.policies.samplers.vllm.playing import wide_policy

pytestmark = pytest.mark.vllm


class TestVllm(SamplerSuite):
    tolerance = 2e-5
    shared: VllmSampler | None = None

    @pytest.fixture(autouse=True)
    def _heads_that_vllm_plays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(testing, "random_policy", wide_policy)

    def make(self, policy: Policy) -> VllmSampler:
        if TestVllm.shared is None:
            TestVllm.shared = create(Config(), policy)
        sampler = TestVllm.shared
        sampler.policy = policy
        sampler.sync(policy.version)
        return sampler
