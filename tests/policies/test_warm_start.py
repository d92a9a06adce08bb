from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from policies.config import PolicyConfig, WarmStartConfig
from policies.errors import PolicyError
from policies.forward import score_rows
from policies.models.loader import load_policy
from policies.models.tiny_tokenizer import VocabularySample
from policies.policy import Policy
from policies.samplers.contracts import Request, Sampling
from policies.samplers.transformers import Config, create
from policies.warm_start import Example, cache_key, warm_start

LETTERS = "abcdef"
SAMPLE = VocabularySample({"next": [f"after {letter}" for letter in LETTERS]})
CONFIG = WarmStartConfig(environments=("next",), batches=100, batch_size=24, warmup=10, lr=1e-2)


def make(seed: int = 0) -> Policy:
    config = PolicyConfig(layers=1, hidden=32, mlp=32)
    return load_policy(config, torch.device("cpu"), seed=seed, sample=SAMPLE)


def question(letter: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"after {letter}"}]


def drawing(seed: int = 0, ends: bool = True):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)

    def draw(num: int) -> Sequence[Example]:
        letters = [LETTERS[i] for i in rng.integers(0, len(LETTERS), num)]
        return [Example(question(letter), chr(ord(letter) + 1), ends) for letter in letters]

    return draw


def answers(policy: Policy, budget: int = 4) -> list[str]:
    requests = [Request(policy.encode(question(letter)), 0, budget) for letter in LETTERS]
    played = create(Config(), policy).generate(requests, Sampling(greedy=True))
    return [policy.decode(generation.ids) for generation in played]


def test_it_teaches_the_answers_and_where_they_end() -> None:
    policy, losses = make(), []
    warm_start(policy, drawing(), CONFIG, progress=lambda batch, loss: losses.append((batch, loss)))
    assert answers(policy) == ["b", "c", "d", "e", "f", "g"]
    assert [batch for batch, _ in losses] == list(range(1, 101))
    assert losses[-1][1] < 0.2 < 4 < losses[0][1]
    assert policy.version == 0


def test_of_an_answer_that_outgrows_the_context_what_fits_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, fed = make(), list[torch.Tensor]()
    policy.model.config.max_position_embeddings = len(policy.encode(question("a"))) + 3

    def watched(model: object, ids_BT: torch.Tensor, mask_BT: torch.Tensor) -> object:
        fed.append(mask_BT)
        return score_rows(model, ids_BT, mask_BT)

    monkeypatch.setattr("policies.warm_start.score_rows", watched)
    config = CONFIG.model_copy(update={"batches": 1})
    warm_start(policy, lambda n: [Example(question("a"), "far too long")] * n, config)
    assert fed[0].shape[1] == policy.context
    assert fed[0].sum(-1).tolist() == [3] * CONFIG.batch_size


def test_a_reply_of_one_token_has_no_end() -> None:
    policy = make()
    warm_start(policy, drawing(ends=False), CONFIG)
    assert answers(policy, budget=1) == ["b", "c", "d", "e", "f", "g"]
    with torch.no_grad():
        logits = policy.model(torch.tensor([policy.encode(question("a"))])).logits[0, -1]
    assert logits.softmax(-1)[policy.end_id] < 0.05


def test_the_same_draws_give_the_same_weights_and_touch_no_global_state() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    one, two = make(), make()
    for policy in (one, two):
        warm_start(policy, drawing(), CONFIG.model_copy(update={"batches": 5}))
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


def test_a_gradient_that_is_not_finite_stops_it() -> None:
    policy = make()
    with torch.no_grad():
        policy.model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(PolicyError, match="batch 1 is not finite"):
        warm_start(policy, drawing(), CONFIG)


def test_the_key_depends_on_every_part_and_not_on_their_order() -> None:
    key = cache_key(config={"a": 1, "b": 2}, seed=0)
    assert key == cache_key(seed=0, config={"b": 2, "a": 1})
    assert len({key, cache_key(config={"a": 1, "b": 2}, seed=1), cache_key(config={"a": 1, "b": 3}, seed=0)}) == 3
