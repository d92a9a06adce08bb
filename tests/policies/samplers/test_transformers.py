from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    GPT2Config,
    Lfm2Config,
    MistralConfig,
    Qwen2Config,
)

from policies.errors import PolicyError
from policies.forward import evaluating
from policies.policy import Policy
from policies.samplers.contracts import Request, Sampling
from policies.samplers.row_cache import fits_static_cache
from policies.samplers.testing import (
    CUT,
    SamplerSuite,
    fresh_logprobs,
    random_policy,
    same,
    some_requests,
)
from policies.samplers.token_distribution import log_distribution
from policies.samplers.transformers import Config, TransformersSampler, create

BFLOAT16_MEAN, BFLOAT16_MAX = 0.02, 0.2  # nats


class TestTransformers(SamplerSuite):
    def make(self, policy: Policy) -> TransformersSampler:
        return create(Config(), policy)


class TestAhead(SamplerSuite):
    def make(self, policy: Policy) -> TransformersSampler:
        return create(Config(ahead=1), policy)


class TestOnTheLibrarysCache(SamplerSuite):
    def make(self, policy: Policy) -> TransformersSampler:
        return TransformersSampler(Config(), policy, static=False)


@pytest.fixture
def policy() -> Policy:
    return random_policy()


def test_log_probs_are_under_the_cut_distribution(policy: Policy) -> None:
    requests = some_requests(policy)
    played = create(Config(), policy).generate(requests, CUT)
    gaps, wrong = [], []
    for request, g in zip(requests, played, strict=True):
        with torch.no_grad(), evaluating(policy.model):
            logits_TV = policy.model(torch.tensor([request.ids + g.ids])).logits[0, len(request.ids) - 1 : -1]
        lp_T = log_distribution(logits_TV, CUT).gather(-1, torch.tensor(g.ids)[:, None])[:, 0].numpy()
        gaps.append(np.abs(g.logprobs - lp_T))
        wrong.append(np.abs(g.logprobs - fresh_logprobs(policy, request, g, 1.0)))
    assert np.concatenate(gaps).max() < 2e-5  # the rarest tokens, whose log-probs are large numbers
    assert np.concatenate(wrong).mean() > 0.1


def test_entropies_are_exact(policy: Policy) -> None:
    requests = some_requests(policy, group_size=1)
    for request, g in zip(requests, create(Config(), policy).generate(requests, Sampling()), strict=True):
        with torch.no_grad():
            logits_TV = policy.model(torch.tensor([request.ids + g.ids])).logits[0, len(request.ids) - 1 : -1]
        expected = torch.distributions.Categorical(logits=logits_TV.double()).entropy()
        assert g.entropies is not None
        np.testing.assert_allclose(g.entropies, expected, atol=1e-5)


def uneven(policy: Policy, num: int = 64) -> list[Request]:
    """Requests that end one after the other."""
    requests = some_requests(policy, group_size=num // 4)
    return [Request(r.ids, r.seed, 1 + index % 40) for index, r in enumerate(requests)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("static", [True, False])
def test_dropping_ended_rows_changes_not_a_bit(policy: Policy, static: bool, dtype: torch.dtype) -> None:
    policy.model.to(dtype)
    requests = uneven(policy)
    dropping = TransformersSampler(Config(), policy, static=static).generate(requests, Sampling())
    keeping = TransformersSampler(Config(), policy, static=static, compact=False).generate(requests, Sampling())
    assert all(same(a, b) for a, b in zip(dropping, keeping, strict=True))
    for a, b in zip(dropping, keeping, strict=True):
        assert a.entropies is not None
        assert b.entropies is not None
        assert np.array_equal(a.entropies, b.entropies)


@pytest.mark.parametrize(
    "cut_up",
    [
        {"rows": 8},
        {"cache_tokens": 500},
        {"prefill_tokens": 40},  # about two prompts in a forward
        {"prefill_tokens": 7},  # and every prompt in several
        {"rows": 8, "cache_tokens": 300, "prefill_tokens": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("static", [True, False])
def test_how_the_work_is_cut_changes_no_token(policy: Policy, cut_up: dict[str, int], static: bool) -> None:
    requests = some_requests(policy)
    whole = create(Config(), policy).generate(requests, Sampling())
    parts = TransformersSampler(Config(**cut_up), policy, static=static).generate(requests, Sampling())
    for a, b in zip(parts, whole, strict=True):
        assert a.ids == b.ids
        np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-5)


def test_one_group_in_thirty_two_plays_as_if_alone(policy: Policy) -> None:
    generator = torch.Generator().manual_seed(0)
    prompts = [tuple(torch.randint(1, 200, (8 + group % 17,), generator=generator).tolist()) for group in range(32)]
    requests = [Request(prompt, 8 * g + s, 16) for g, prompt in enumerate(prompts) for s in range(8)]
    sampler = create(Config(), policy)
    together = sampler.generate(requests, Sampling())
    for start in (0, 128, 248):
        alone = sampler.generate(requests[start : start + 8], Sampling())
        for a, b in zip(alone, together[start : start + 8], strict=True):
            assert a.ids == b.ids
            np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-5)


@pytest.mark.parametrize("static", [True, False])
def test_bfloat16_weights_are_played_with_their_own_probabilities(policy: Policy, static: bool) -> None:
    policy.model.to(torch.bfloat16)
    requests = some_requests(policy)
    played = TransformersSampler(Config(), policy, static=static).generate(requests, Sampling())
    gaps = [np.abs(g.logprobs - fresh_logprobs(policy, r, g, 1.0)) for r, g in zip(requests, played, strict=True)]
    assert np.concatenate(gaps).mean() < BFLOAT16_MEAN
    assert np.concatenate(gaps).max() < BFLOAT16_MAX


def test_rows_that_share_a_prompt_read_it_once(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    widths = []
    forward = policy.model.forward

    def watched(input_ids: torch.Tensor, **inputs: object) -> object:
        widths.append(tuple(input_ids.shape))
        return forward(input_ids=input_ids, **inputs)

    monkeypatch.setattr(policy.model, "forward", watched)
    requests = some_requests(policy, budget=2)
    apart = requests[::3] + requests[1::3] + requests[2::3]
    TransformersSampler(Config(), policy, compact=False).generate(apart, Sampling())
    assert widths[0][0] == 4
    assert widths[1] == (32, 1)


def test_a_row_goes_on_from_its_own_ids(policy: Policy) -> None:
    """Many turns: the ids of a turn are a prefix of those of the next, and none was encoded again."""
    sampler, requests = create(Config(), policy), some_requests(policy, budget=4)
    first = sampler.generate(requests, Sampling())
    cut_short = [(r, g) for r, g in zip(requests, first, strict=True) if g.finish == "length"]
    longer = [Request(r.ids + g.ids, r.seed + 1, 4) for r, g in cut_short]
    for request, g in zip(longer, sampler.generate(longer, Sampling()), strict=True):
        np.testing.assert_allclose(g.logprobs, fresh_logprobs(policy, request, g, 1.0), atol=1e-5)
    spelled_out = [g.ids for _, g in cut_short if policy.encode_answer(policy.decode(g.ids), ends=False) != g.ids]
    assert spelled_out  # decoding and encoding again would have given other tokens


SMALL = {"vocab_size": 263, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
ARCHITECTURES = {
    "sliding window only": MistralConfig(num_key_value_heads=2, intermediate_size=48, sliding_window=8, **SMALL),
    "one key-value head": Qwen2Config(num_key_value_heads=1, intermediate_size=48, **SMALL),
    "learnt positions": GPT2Config(vocab_size=263, n_embd=32, n_layer=2, n_head=4),
    "no position ids": BloomConfig(vocab_size=263, hidden_size=32, n_layer=2, n_head=4),
    "sliding window": Gemma2Config(num_key_value_heads=2, intermediate_size=48, sliding_window=8, head_dim=8, **SMALL),
    "recurrent state": Lfm2Config(
        num_key_value_heads=2, intermediate_size=48, layer_types=["conv", "full_attention"], **SMALL
    ),
}


ON_A_SLAB = {"learnt positions", "one key-value head"}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_log_probs_are_right_for_every_kind_of_cache(name: str, policy: Policy) -> None:
    other = small_policy(name, policy)
    requests = [*some_requests(other), *some_requests(other, budget=20, step=1)]  # more than one batch
    played = create(Config(prefill_tokens=100), other).generate(requests, Sampling())
    for request, g in zip(requests, played, strict=True):
        np.testing.assert_allclose(g.logprobs, fresh_logprobs(other, request, g, 1.0), atol=1e-5)
    assert fits_static_cache(other.model) == (name in ON_A_SLAB)


def small_policy(name: str, policy: Policy) -> Policy:
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForCausalLM.from_config(ARCHITECTURES[name]).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15, generator=generator)
    return Policy(model, policy.tokenizer, name)


def test_a_row_that_ended_at_the_end_of_the_context_stays_there_while_others_go_on(policy: Policy) -> None:
    config = GPT2Config(vocab_size=263, n_positions=32, n_embd=32, n_layer=1, n_head=2)  # a row a position
    with torch.random.fork_rng(devices=[]):
        other = Policy(AutoModelForCausalLM.from_config(config).eval(), policy.tokenizer, "learnt positions")
    other.stop_ids = ()
    requests = [Request(tuple(range(1, 29)), 1, 4), Request((1, 2, 3, 4), 2, 28)]
    played = create(Config(), other).generate(requests, Sampling())
    assert [len(g.ids) for g in played] == [4, 28]
    for request, g in zip(requests, played, strict=True):
        np.testing.assert_allclose(g.logprobs, fresh_logprobs(other, request, g, 1.0), atol=1e-5)


def test_the_model_attends_as_before_when_the_play_is_over(policy: Policy) -> None:
    create(Config(), policy).generate(some_requests(policy), Sampling())
    assert policy.model.config._attn_implementation == "sdpa"


def test_a_copy_is_the_samplers_own(policy: Policy) -> None:
    sampler = create(Config(ahead=1), policy)
    assert sampler.plays_a_copy
    assert not create(Config(), policy).plays_a_copy
    policy.model.train()
    sampler.generate(some_requests(policy), Sampling())
    theirs = {tensor.data_ptr() for tensor in policy.model.state_dict().values()}
    assert not any(tensor.data_ptr() in theirs for tensor in sampler.policy.model.state_dict().values())
    assert all(module.training for module in policy.model.modules())


def test_a_copy_plays_in_another_thread_while_the_weights_move(policy: Policy) -> None:
    sampler, requests = create(Config(ahead=1), policy), some_requests(policy, group_size=16)
    before = sampler.generate(requests, Sampling())
    with ThreadPoolExecutor(1) as pool:
        playing = pool.submit(sampler.generate, requests, Sampling())
        while not playing.done():
            policy.model.train()
            with torch.no_grad():
                for parameter in policy.model.parameters():
                    parameter.mul_(0.5)
    assert all(same(a, b) for a, b in zip(playing.result(), before, strict=True))


def test_no_requests_give_no_rows(policy: Policy) -> None:
    assert create(Config(), policy).generate([], Sampling()) == []


def test_stale_weights_are_refused(policy: Policy) -> None:
    sampler = create(Config(), policy)
    policy.version += 1
    with pytest.raises(PolicyError, match=r"synced to version 0.*policy is at 1.*call sync"):
        sampler.generate(some_requests(policy), Sampling())


def test_a_row_longer_than_the_context_is_refused(policy: Policy) -> None:
    request = some_requests(policy)[0]
    with pytest.raises(PolicyError, match=r"context of 4096: lower max_tokens"):
        create(Config(), policy).generate([Request(request.ids, 0, 4096)], Sampling())
