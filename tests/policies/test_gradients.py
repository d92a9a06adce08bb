from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CohereConfig, CohereForCausalLM

from policies import forward
from policies.config import LearnerConfig, PolicyConfig
from policies.errors import PolicyError
from policies.gradients import gradient_norms, gradient_products, weigh_components
from policies.learner import Learner
from policies.objectives import Objective, ObjectiveConfig
from policies.objectives.contracts import Batch
from policies.objectives.padding import pad
from policies.samplers.testing import random_policy
from tests.policies.fakes import Surrogate, random_trajectories

TEMPERATURE = 0.7


def make(dtype: torch.dtype = torch.float64, **options: Any) -> Learner:
    policy = random_policy()
    policy.model.to(dtype)
    config = LearnerConfig.model_validate({"warmup": 0, **options}).resolved(PolicyConfig())
    return Learner(policy, config, TEMPERATURE)


def batch_for(learner: Learner) -> Batch:
    batch = pad(random_trajectories(len(learner.policy.tokenizer), num_groups=5))
    batch.mask_BT[3] = False
    return batch


def advantages(batch: Batch, num: int = 3) -> list[Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(batch.mask_BT.shape, generator=rng) for _ in range(num)]


def naive_lp(learner: Learner, batch: Batch, row: int) -> Tensor:
    """Log-probs of one row's own tokens, the row alone."""
    length = int(batch.length_B[row])
    logits_TV = learner.policy.model(batch.ids_BT[row : row + 1, :length]).logits[0, :-1] / TEMPERATURE
    lp_T = logits_TV.log_softmax(-1).gather(-1, batch.ids_BT[row, 1:length, None])[:, 0]
    return lp_T * batch.mask_BT[row, 1:length]


def naive_products(learner: Learner, batch: Batch, of: list[Tensor]) -> Tensor:
    weights = list(learner.policy.model.parameters())
    gradients = []
    for advantage_BT in of:
        parts = [
            (naive_lp(learner, batch, row) * advantage_BT[row, 1 : int(length)]).sum()
            for row, length in enumerate(batch.length_B)
        ]
        found = torch.autograd.grad(torch.stack(parts).sum() / int(batch.mask_BT.sum()), weights)
        gradients.append(torch.cat([g.flatten() for g in found]))
    gradient_CP = torch.stack(gradients)
    return gradient_CP @ gradient_CP.T


@pytest.mark.parametrize("options", [{}, {"micro_tokens": 1}, {"micro_tokens": 40}, {"activation_checkpointing": True}])
def test_inner_products_are_those_of_autograd(options: dict[str, Any]) -> None:
    learner = make(**options)
    batch = batch_for(learner)
    of = advantages(batch)
    of[2] = of[2].masked_fill(~batch.mask_BT, float("nan"))  # what is off the mask is not read
    found = gradient_products(learner.passes, batch, of)
    expected = naive_products(learner, batch, [a.nan_to_num() for a in of])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-12)
    assert torch.equal(found, found.T)


def test_chunks_of_logits_are_made_again_for_every_advantage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner = make()
    batch = batch_for(learner)
    expected = gradient_products(learner.passes, batch, advantages(batch))
    monkeypatch.setattr(forward, "CHUNK_ELEMENTS", 5 * len(learner.policy.tokenizer))
    torch.testing.assert_close(
        gradient_products(learner.passes, batch, advantages(batch)), expected, rtol=1e-6, atol=1e-12
    )


def test_with_a_large_vocabulary_they_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose forward bears one backward pass, as it writes over what it kept."""
    learner = make()
    batch = batch_for(learner)
    expected = gradient_products(learner.passes, batch, advantages(batch))
    monkeypatch.setattr(forward, "LARGE_VOCABULARY", 1)
    torch.testing.assert_close(
        gradient_products(learner.passes, batch, advantages(batch)), expected, rtol=1e-6, atol=1e-12
    )


def test_the_influence_of_an_advantage_that_is_the_same_or_the_opposite() -> None:
    learner = make()
    batch = batch_for(learner)
    (one,) = advantages(batch, 1)
    found = gradient_products(learner.passes, batch, [one, 2 * one, -one])
    torch.testing.assert_close(found / found[0, 0], torch.tensor([[1, 2, -1], [2, 4, -2], [-1, -2, 1]]).double())


def test_without_tokens_or_advantages_there_is_no_gradient() -> None:
    learner = make()
    batch = batch_for(learner)
    silent = replace(batch, mask_BT=torch.zeros_like(batch.mask_BT))
    assert not gradient_products(learner.passes, silent, advantages(batch)).any()
    assert not gradient_norms(learner.passes, silent).any()
    assert gradient_products(learner.passes, batch, []).shape == (0, 0)


def naive_norms(learner: Learner, batch: Batch) -> Tensor:
    """Autograd with respect to the head, which reads features as they are."""
    head, norms = learner.policy.model.get_output_embeddings(), []
    for row, length in enumerate(batch.length_B.tolist()):
        with torch.no_grad():
            ids_1T = batch.ids_BT[row : row + 1, :length]
            hidden_TF = learner.policy.model.base_model(ids_1T).last_hidden_state[0, :-1]
        weight_VF = head.weight.detach().clone().requires_grad_()
        lp_TV = (hidden_TF @ weight_VF.T / TEMPERATURE).log_softmax(-1)
        lp_T = lp_TV.gather(-1, batch.ids_BT[row, 1:length, None])[:, 0] * batch.mask_BT[row, 1:length]
        norms.append(torch.autograd.grad(lp_T.sum(), weight_VF)[0].norm())
    return torch.stack(norms)


@pytest.mark.parametrize("micro_tokens", [1, 40, 100_000])
@pytest.mark.parametrize("chunk", [700, 1 << 26])
def test_norms_are_those_of_autograd_through_the_head(
    micro_tokens: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = make(micro_tokens=micro_tokens)
    batch = batch_for(learner)
    expected = naive_norms(learner, batch)
    monkeypatch.setattr(forward, "CHUNK_ELEMENTS", chunk)
    found = gradient_norms(learner.passes, batch)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    assert float(found[3]) == 0.0
    assert int((found > 0).sum()) == len(found) - 1


def test_a_short_policy_is_read_in_float32() -> None:
    short, wide = make(torch.bfloat16), make()
    found, expected = (gradient_norms(learner.passes, batch_for(learner)) for learner in (short, wide))
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.1)


def test_logits_that_are_more_than_a_head_are_refused() -> None:
    learner = make()
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    with torch.random.fork_rng(devices=[]):
        scaling = CohereForCausalLM(CohereConfig(vocab_size=len(learner.policy.tokenizer), **shape))
    batch = batch_for(learner)
    learner.policy.model = scaling
    with pytest.raises(PolicyError, match="more than a head"):
        gradient_norms(learner.passes, batch)


def test_looking_at_gradients_leaves_no_trace() -> None:
    looking, plain = make(), make()
    batch = batch_for(looking)
    batch = replace(batch, advantage_BT=batch.reward_B.float()[:, None] * batch.mask_BT)
    for learner in (looking, plain):
        learner.update(batch, Surrogate())
    gradient_products(looking.passes, batch, advantages(batch))
    gradient_norms(looking.passes, batch)
    assert all(not weight.grad.any() for weight in looking.policy.model.parameters() if weight.grad is not None)
    for learner in (looking, plain):
        learner.update(batch, Surrogate())
    pairs = zip(looking.policy.model.parameters(), plain.policy.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_components_of_the_score_are_weighed_by_their_gradients() -> None:
    """w <- softmax(log w + rate * I), I the row sums of the products; the new weights hold in the next step."""
    learner = make()
    objective = Objective(ObjectiveConfig.model_validate({"preset": "weighted", "weighted_rate": 0.01}))
    played = random_trajectories(len(learner.policy.tokenizer), spread=1.0)
    batch = objective.prepare(played)
    components = objective.components(played, batch)
    products = gradient_products(learner.passes, batch, list(components.values()))
    weigh_components(learner.passes, objective, played, batch)
    expected = (torch.tensor([0.5, 0.5]).double().log() + 0.01 * products.sum(1)).softmax(0)
    after = objective.state()["memory"]["weighted"]["weights"]
    assert list(after) == list(components) == ["right", "short"]
    torch.testing.assert_close(torch.tensor(list(after.values()), dtype=torch.float64), expected)
    assert abs(float(expected[0]) - 0.5) > 1e-6
    moved = objective.prepare(played).advantage_BT
    combined = sum(after[name] * components[name] for name in components)
    torch.testing.assert_close(moved, torch.as_tensor(combined).to(moved))


def test_rows_with_an_advantage_of_their_own_are_no_members_of_a_components_group() -> None:
    objective = Objective(ObjectiveConfig.model_validate("weighted"))
    played = random_trajectories(256, spread=1.0)
    alone = objective.components(played, objective.prepare(played))
    side = [replace(played[0], advantage=0.5, components={}), replace(played[1], advantage=0.5)]
    found = objective.components([*played, *side], objective.prepare([*played, *side]))
    for name, one_BT in alone.items():
        assert torch.equal(found[name][: len(played)], one_BT)
        assert not found[name][len(played) :].any()


def test_a_first_step_whose_rows_all_bring_their_advantage_moves_no_weights() -> None:
    learner = make(torch.float32, micro_tokens=512)
    section = {"preset": "weighted", "plans": ["tempered", "dynamic_sampling"]}
    objective = Objective(ObjectiveConfig.model_validate(section))
    played = random_trajectories(len(learner.policy.tokenizer), spread=1.0)
    side = [replace(one, advantage=0.5) for one in played]
    assert objective.components(side, objective.prepare(side)) == {}
    assert learner.learn(side, objective).num_updates == 1
    learner.learn(played, objective)
    assert objective.state()["memory"]["weighted"]["weights"].keys() == {"right", "short"}


def test_an_objective_without_components_asks_for_no_gradient() -> None:
    learner = make()
    objective = Objective(ObjectiveConfig.model_validate("rloo"))
    played = random_trajectories(len(learner.policy.tokenizer))
    batch = objective.prepare(played)
    before = objective.state()
    weigh_components(learner.passes, objective, played, batch)
    assert objective.state() == before
