"""Do the engine's weights follow the learner's? The numbers of a healthy sync, and every way to get it wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from policies.errors import PolicyError
from policies.samplers import vllm_engine
from policies.samplers.contracts import Sampling
from policies.samplers.testing import some_requests
from policies.samplers.vllm import Config, VllmSampler, create
from tests.policies.samplers.vllm.playing import ROUNDING, gap, greedy, long_requests, update, wide_policy

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module", params=["tied", "untied"])
def sampler(request: pytest.FixtureRequest) -> Iterator[VllmSampler]:
    """One engine for the tests of a module, on a policy with a tied and with an untied head."""
    made = create(Config(max_model_len=256, probe_every=1), wide_policy(tied=request.param == "tied"))
    yield made
    made.close()


def test_new_weights_are_played(sampler: VllmSampler) -> None:
    policy = sampler.policy
    requests = some_requests(policy, group_size=2)
    for seed in range(2):
        update(policy, seed)
        sampler.sync(policy.version)
        assert sampler.probe_gap() < ROUNDING
        assert gap(policy, requests, sampler.generate(requests, Sampling())) < ROUNDING
        played = sampler.generate(requests[::2], Sampling(greedy=True))
        assert [g.ids for g in played] == [greedy(policy, request) for request in requests[::2]]


def test_old_weights_are_noticed(sampler: VllmSampler) -> None:
    update(sampler.policy, 3, share=0.001)
    assert sampler.probe_gap() > 1e-3
    with pytest.raises(PolicyError, match=r"vLLM does not play version .* differ .* nats, 0.0001 is the limit"):
        sampler.require_fresh()
    sampler.sync(sampler.policy.version)
    assert sampler.probe_gap() < ROUNDING


def test_long_prompts_are_read_with_the_new_weights(sampler: VllmSampler) -> None:
    policy = sampler.policy
    requests = long_requests(policy)
    sampler.sync(policy.version)
    assert gap(policy, requests, sampler.generate(requests, Sampling())) < ROUNDING
    update(policy, 4)
    sampler.sync(policy.version)
    assert gap(policy, requests, sampler.generate(requests, Sampling())) < ROUNDING


def test_a_cache_that_was_not_emptied_is_noticed(sampler: VllmSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = sampler.policy
    requests = long_requests(policy)
    sampler.sync(policy.version)
    sampler.generate(requests, Sampling())
    update(policy, 5)
    with monkeypatch.context() as patched:
        patched.setattr(sampler.llm, "reset_prefix_cache", lambda: True)
        with pytest.raises(PolicyError, match="does not play version"):
            sampler.sync(policy.version)
    assert gap(policy, requests, sampler.generate(requests, Sampling())) > 1e-3
    sampler.sync(policy.version)


def test_a_cache_that_cannot_be_emptied_stops_the_run(sampler: VllmSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sampler.llm, "reset_prefix_cache", lambda: False)
        with pytest.raises(PolicyError, match="would not empty its prefix cache"):
            sampler.sync(sampler.policy.version)


def test_every_token_names_the_weights_that_wrote_it(sampler: VllmSampler) -> None:
    policy = sampler.policy
    requests = some_requests(policy, group_size=1)
    for version in (policy.version + 1, policy.version + 5):
        policy.version = version
        sampler.sync(version)
        assert sampler.llm.get_weight_version() == str(version)
        for g in sampler.generate(requests, Sampling()):
            assert [(span.version, span.start, span.end) for span in g.spans] == [(version, 0, len(g.ids))]


def test_weights_are_proven_as_often_as_told(sampler: VllmSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        proven: list[int] = []
        patched.setattr(sampler, "config", Config(probe_every=3))
        patched.setattr(sampler, "num_syncs", 0)
        patched.setattr(sampler, "require_fresh", lambda: proven.append(sampler.num_syncs))
        for _ in range(7):
            sampler.sync(sampler.policy.version)
    assert proven == [1, 4, 7]


def test_packed_matrices_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload leaves the old head under new layers, and vLLM reports nothing."""
    import vllm._custom_ops

    monkeypatch.setattr(vllm_engine, "leave_unpacked", lambda: None)
    monkeypatch.setattr(vllm._custom_ops, "_supports_onednn", True)
    policy = wide_policy()
    packed = create(Config(max_model_len=256), policy)
    update(policy, 6)
    with pytest.raises(AttributeError, match="weight_loader"):
        packed.sync(policy.version)
    weights = [(name, parameter.detach()) for name, parameter in policy.model.named_parameters()]
    packed.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)})
    packed.llm.reset_prefix_cache()
    with pytest.raises(PolicyError, match="does not play version"):
        packed.require_fresh()
    packed.close()
