"""What real vLLM plays and what it leaves alone: distributions, limits, the process around it."""

from __future__ import annotations

import os
import random
import signal

import numpy as np
import pytest
import torch

from policies.errors import PolicyError
from policies.samplers import vllm_engine
from policies.samplers.contracts import Request, Sampling
from policies.samplers.testing import CUT, random_policy, some_requests
from policies.samplers.vllm import (
    PREFILL_TOKENS,
    Config,
    VllmSampler,
    create,
    require_processed,
    top_entropy,
)
from tests.policies.samplers.vllm.playing import distribution_under, logprobs_under, wide_policy

pytestmark = pytest.mark.vllm

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1)


def state_of_the_process() -> tuple[object, ...]:
    return (
        torch.get_rng_state().tolist(),
        repr(np.random.get_state()),
        random.getstate(),
        torch.get_num_threads(),
        torch.set_num_threads,
        torch.get_default_dtype(),
        [signal.getsignal(number) for number in HANDLED],
        os.sched_getaffinity(0),
        [os.environ.get(name) for name in ("LD_PRELOAD", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")],
    )


@pytest.fixture(scope="module")
def sampler() -> VllmSampler:
    """Built here, so that the first engine of a process is the one watched."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    state = state_of_the_process()
    made = create(Config(max_model_len=64), wide_policy())
    assert state_of_the_process() == state
    made.generate(some_requests(made.policy), Sampling())
    made.sync(made.policy.version)
    assert state_of_the_process() == state
    torch.set_num_threads(before)
    return made


@pytest.mark.parametrize(
    "sampling",
    [Sampling(), Sampling(0.7), Sampling(1.3), Sampling(top_p=0.9), Sampling(top_k=20), CUT],
    ids=["plain", "T .7", "T 1.3", "top_p .9", "top_k 20", "all"],
)
def test_log_probs_are_those_of_the_sampling_distribution(sampler: VllmSampler, sampling: Sampling) -> None:
    policy = sampler.policy
    requests = some_requests(policy)
    gaps, wrong = [], []
    for request, g in zip(requests, sampler.generate(requests, sampling), strict=True):
        gaps.append(np.abs(g.logprobs - logprobs_under(policy, request, g, sampling)))
        wrong.append(np.abs(g.logprobs - logprobs_under(policy, request, g, Sampling())))
    assert np.concatenate(gaps).max() < 1e-5
    assert np.concatenate(gaps).mean() < 2e-6
    assert sampling.is_plain or np.concatenate(wrong).mean() > 0.05


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(top_p=0.9)], ids=["plain", "top_p .9"])
def test_entropies_are_those_of_the_likeliest_tokens(
    sampler: VllmSampler, sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler, "config", sampler.config.model_copy(update={"entropy_top_k": 20}))
    requests = some_requests(sampler.policy)
    for request, g in zip(requests, sampler.generate(requests, sampling), strict=True):
        lp_TV = distribution_under(sampler.policy, request, g, sampling)
        exact_T = -(lp_TV.exp() * lp_TV.clamp(min=-100)).sum(-1).numpy()
        assert g.entropies == pytest.approx(top_entropy(lp_TV.topk(20).values.numpy()), abs=1e-5)
        assert g.entropies is not None
        assert (g.entropies <= exact_T + 1e-5).all()


def test_a_batch_may_hold_more_prompt_than_the_engine_reads_at_once(sampler: VllmSampler) -> None:
    """vLLM reads prompts in parts by default, and on a CPU then fails for rows with a seed."""
    generator = np.random.default_rng(0)
    prompts = generator.integers(0, len(sampler.policy.tokenizer), (400, 48)).tolist()
    requests = [Request(tuple(prompt), seed + 1, 2) for seed, prompt in enumerate(prompts)]
    assert 2 * PREFILL_TOKENS < 400 * 48
    played = sampler.generate(requests, Sampling())
    assert all(1 <= len(generation.ids) <= 2 for generation in played)


def test_seeds_of_63_bits_are_taken(sampler: VllmSampler) -> None:
    """Their low 32 bits have to differ: torch's generator on a CPU reads no others. Ours are hashes."""
    ids = some_requests(sampler.policy)[0].ids
    requests = [Request(ids, seed, 12) for seed in (0, 2**62, 2**62 + 1, 2**63 - 1)]
    played = sampler.generate(requests, Sampling())
    assert [g.ids for g in played] == [g.ids for g in sampler.generate(requests, Sampling())]
    assert len({g.ids for g in played[1:]}) == 3


def test_the_engines_own_context_is_a_limit(sampler: VllmSampler) -> None:
    request = some_requests(sampler.policy)[0]
    fits = Request(request.ids, 1, 64 - len(request.ids))
    sampler.generate([fits], Sampling())
    with pytest.raises(PolicyError, match=r"need 65 tokens.*context of 64: lower max_tokens.*max_model_len"):
        sampler.generate([Request(fits.ids, 1, fits.budget + 1)], Sampling())


def test_no_requests_give_no_rows(sampler: VllmSampler) -> None:
    assert sampler.generate([], Sampling()) == []


def test_raw_log_probs_are_refused_by_name() -> None:
    options = {"max_model_len": 64, "enforce_eager": True, "kv_cache_memory_bytes": 2**28}
    llm = vllm_engine.build(wide_policy(), logprobs_mode="raw_logprobs", **options)
    with pytest.raises(PolicyError, match=r"logprobs_mode: raw_logprobs.*must be processed_logprobs"):
        require_processed(llm)
    vllm_engine.shut_down(llm)


def test_heads_that_the_kernels_do_not_play_are_refused_with_a_remedy() -> None:
    with pytest.raises(PolicyError, match=r"have 8 \(hidden 32 over 4 heads\): say `policy: .*hidden: 128"):
        create(Config(), random_policy())


def test_what_vllm_refuses_is_told(sampler: VllmSampler) -> None:
    with pytest.raises(PolicyError, match="vLLM refuses to play tiny"):
        create(Config(max_model_len=10**6), sampler.policy)
