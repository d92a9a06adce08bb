from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, BloomConfig, Gemma2Config, GPT2Config, Lfm2Config

from policies.errors import PolicyError
from policies.forward import evaluating
from policies.policy import Policy
from policies.samplers.contracts import Request, Sampling
from policies.samplers.sampling import log_distribution
from policies.samplers.testing import (
    CUT,
    SamplerSuite,
    fresh_logprobs,
    random_policy,
    same,
    some_requests,
)
from policies.samplers.transformers import Config, TransformersSampler, create, cut


class TestTransformers(SamplerSuite):
    def make(self, policy: Policy) -> TransformersSampler:
        return create(Config(), policy)


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


def test_dropping_ended_rows_changes_nothing(policy: Policy) -> None:
    requests = [
        Request(r.ids, r.seed, 1 + index % 12) for index, r in enumerate(some_requests(policy, group_size=16))
    ]
    dropping = TransformersSampler(Config(), policy).generate(requests, Sampling())
    keeping = TransformersSampler(Config(), policy, compact=False).generate(requests, Sampling())
    assert all(same(a, b) for a, b in zip(dropping, keeping, strict=True))
    assert all(np.array_equal(a.entropies, b.entropies) for a, b in zip(dropping, keeping, strict=True))


def test_the_cut_into_forwards_does_not_change_tokens(policy: Policy) -> None:
    requests = some_requests(policy)
    whole = create(Config(), policy).generate(requests, Sampling())
    cut_up = create(Config(rows=8), policy).generate(requests, Sampling())
    assert [g.ids for g in cut_up] == [g.ids for g in whole]


def test_rows_are_cut_between_prompts_and_never_through_one() -> None:
    a, b, c = (1,), (2,), (3,)
    requests = [Request(ids, 0, 1) for ids in (a, b, a, c, c, c, c, b)]
    assert list(cut(requests, 4)) == [[0, 2, 1, 7], [3, 4, 5, 6]]
    assert list(cut(requests, 3)) == [[0, 2], [1, 7], [3, 4, 5, 6]]
    assert list(cut([], 4)) == []


def test_a_row_goes_on_from_its_own_ids(policy: Policy) -> None:
    """Many turns: the ids of a turn are a prefix of those of the next, and none was encoded again."""
    sampler, requests = create(Config(), policy), some_requests(policy, budget=4)
    first = sampler.generate(requests, Sampling())
    cut_short = [(r, g) for r, g in zip(requests, first, strict=True) if g.finish == "length"]
    longer = [Request(r.ids + g.ids, r.seed + 1, 4) for r, g in cut_short]
    for request, g in zip(longer, sampler.generate(longer, Sampling()), strict=True):
        np.testing.assert_allclose(g.logprobs, fresh_logprobs(policy, request, g, 1.0), atol=1e-5)
    spelled_out = [
        g.ids for _, g in cut_short if policy.encode_answer(policy.decode(g.ids), ends=False) != g.ids
    ]
    assert spelled_out  # decoding and encoding again would have given other tokens


SMALL = {"vocab_size": 263, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
ARCHITECTURES = {
    "learnt positions": GPT2Config(vocab_size=263, n_embd=32, n_layer=2, n_head=4),
    "no position ids": BloomConfig(vocab_size=263, hidden_size=32, n_layer=2, n_head=4),
    "sliding window": Gemma2Config(
        num_key_value_heads=2, intermediate_size=48, sliding_window=8, head_dim=8, **SMALL
    ),
    "recurrent state": Lfm2Config(
        num_key_value_heads=2, intermediate_size=48, layer_types=["conv", "full_attention"], **SMALL
    ),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_log_probs_are_right_for_every_kind_of_cache(name: str, policy: Policy) -> None:
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForCausalLM.from_config(ARCHITECTURES[name]).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15, generator=generator)
    other = Policy(model, policy.tokenizer, name)
    requests = some_requests(other)
    played = create(Config(), other).generate(requests, Sampling())
    for request, g in zip(requests, played, strict=True):
        np.testing.assert_allclose(g.logprobs, fresh_logprobs(other, request, g, 1.0), atol=1e-5)


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
