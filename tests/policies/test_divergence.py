"""Logits that are not finite are named where they arise, and nowhere is anything drawn or learned from them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from policies.config import LearnerConfig, PolicyConfig
from policies.errors import NonFiniteLogits
from policies.forward import require_finite
from policies.learner import Learner
from policies.policy import Policy
from policies.samplers.contracts import Request, Sampling
from policies.samplers.testing import random_policy, some_requests
from policies.samplers.token_distribution import draw
from policies.samplers.transformers import Config, TransformersSampler
from policies.samplers.vllm import Config as VllmConfig
from policies.samplers.vllm import EngineRows, VllmSampler
from policies.samplers.weight_check import make_server_check, require_healthy
from tests.policies.fakes import Surrogate, random_batch

NAN, INF = float("nan"), float("inf")


def broken(value: float = NAN) -> Policy:
    """A policy of which every logit is NaN."""
    policy = random_policy()
    with torch.no_grad():
        policy.model.base_model.norm.weight[0] = value
    return policy


def test_rows_are_counted_and_the_first_token_is_named() -> None:
    fine, late, early = np.zeros(5, np.float32), np.zeros(5, np.float32), np.zeros(3, np.float32)
    require_finite([fine], 1, "played")
    late[3], early[2] = NAN, -INF
    with pytest.raises(NonFiniteLogits, match="in 2 of 3 rows that were played, first at token 3 of an answer") as e:
        require_finite([fine, late, early], 7, "that were played")
    assert e.value.version == 7


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(greedy=True), Sampling(top_p=0.9, top_k=5)])
@pytest.mark.parametrize("static", [True, False])
def test_the_sampler_counts_the_rows_that_met_them(sampling: Sampling, static: bool) -> None:
    """One prompt alone reads the broken embedding; its rows stop there, the others play on."""
    policy = random_policy()
    requests = some_requests(policy)
    others = {token for request in requests[8:] for token in request.ids}
    only = next(token for token in requests[0].ids if token not in others)
    embedding = policy.model.get_input_embeddings()
    policy.model.lm_head.weight = torch.nn.Parameter(embedding.weight.detach().clone())  # untied
    policy.model.lm_head.weight.data[only] = 0
    with torch.no_grad():
        embedding.weight[only] = NAN
    policy.stop_ids = ()
    sampler = TransformersSampler(Config(), policy, static=static)
    with pytest.raises(NonFiniteLogits, match=r"in \d+ of 32 rows that were played, first at token 1 of") as error:
        sampler.generate([Request(r.ids, r.seed, 3) for r in requests], sampling)
    assert error.value.version == 0


def test_a_token_is_drawn_from_the_vocabulary_whatever_the_probabilities() -> None:
    prob_RV = torch.tensor([[NAN] * 4, [0.0] * 4, [0.1, 0.2, 0.3, 0.4]])
    of_nan, of_nothing, ordinary = draw(prob_RV, torch.tensor([0.5, 0.5, 0.5], dtype=torch.float64)).tolist()
    assert 0 <= of_nan < 4
    assert (of_nothing, ordinary) == (3, 2)


def learner(policy: Policy, **changes: float) -> Learner:
    return Learner(policy, LearnerConfig(**{"lr": 1e-3, "warmup": 0, **changes}).resolved(PolicyConfig()))


def test_the_update_tells_a_policy_that_has_diverged_from_a_loss_that_overflowed() -> None:
    policy = broken()
    batch = random_batch(len(policy.tokenizer))
    before = [p.clone() for p in policy.model.parameters()]
    with pytest.raises(NonFiniteLogits, match=r"in 24 of 24 rows of the update, first at token 1 of") as error:
        learner(policy).update(batch, Surrogate())
    assert error.value.version == policy.version == 0
    assert all(map(torch.equal, before[:1], policy.model.parameters()))
    report = learner(random_policy()).update(batch, Surrogate(scale=INF))
    assert report.num_skipped == 1, "the logits are fine: the update is left out, as ever"


def test_weights_that_an_earlier_update_of_the_step_broke_are_those_of_the_next_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = learner(random_policy(), updates=2)
    real = mine.optimizer.step

    def step(lr: float, refuses: Any) -> tuple[float, bool]:
        done = real(lr, refuses)
        mine.policy.model.base_model.norm.weight.data[0] = NAN
        return done

    monkeypatch.setattr(mine.optimizer, "step", step)
    with pytest.raises(NonFiniteLogits) as error:
        mine.update(random_batch(len(mine.policy.tokenizer)), Surrogate())
    assert (error.value.version, mine.policy.version) == (1, 0)


def test_a_reference_that_has_diverged_is_named() -> None:
    mine = Learner(broken(), LearnerConfig(lr=1e-3).resolved(PolicyConfig()), keeps_reference=True)
    with pytest.raises(NonFiniteLogits, match="of 24 rows of the reference policy, first at token 1 of"):
        mine.reference_lp(random_batch(len(mine.policy.tokenizer)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_looked_at_and_so_is_what_they_give(dtype: torch.dtype) -> None:
    policy = random_policy()
    policy.model.to(dtype)
    require_healthy(policy)
    with torch.no_grad():
        policy.model.base_model.layers[0].mlp.up_proj.weight[0, 0] = INF
    with pytest.raises(NonFiniteLogits, match=r"in 1 of \d+ matrices, first in model.layers.0.mlp.up_proj.weight"):
        require_healthy(policy)
    with torch.no_grad():
        policy.model.base_model.layers[0].mlp.up_proj.weight.fill_(3e38)
    with pytest.raises(NonFiniteLogits, match="non-finite logits after the probe's prompt"):
        require_healthy(policy)


def test_servers_are_not_asked_to_prove_what_the_policy_itself_cannot() -> None:
    with pytest.raises(NonFiniteLogits, match="after the probe's prompt"):
        make_server_check(broken())


def test_what_vllm_plays_is_looked_at() -> None:
    span, logprobs = SimpleNamespace(version=3, start=0, end=2), SimpleNamespace(logprobs=[-0.5, NAN])
    row = SimpleNamespace(finish_reason="stop", weight_versions=[span], logprobs=logprobs, token_ids=[5, 6])
    written = SimpleNamespace(request_id="0", outputs=[row])
    sampler = VllmSampler.__new__(VllmSampler)
    sampler.llm = SimpleNamespace(llm_engine=SimpleNamespace(step=lambda: [written]))
    sampler.config, sampler.version = VllmConfig(), 3
    with pytest.raises(NonFiniteLogits, match="in 1 of 1 rows") as error:
        EngineRows(sampler, Sampling()).advance()
    assert error.value.version == 3
