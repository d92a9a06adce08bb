from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from policies.config import LearnerConfig, PolicyConfig
from policies.errors import CheckpointError, PolicyError
from policies.forward import score_rows
from policies.learner import Learner
from policies.objectives.config import ObjectiveConfig
from policies.objectives.contracts import Batch
from policies.objectives.objective import Objective
from policies.objectives.padding import pad
from policies.policy import Policy
from policies.reference import Reference
from policies.samplers.testing import random_policy
from tests.policies.fakes import random_trajectories

ANCHORED = ObjectiveConfig.model_validate({"preset": "rloo", "kl": 0.5})


def make(policy: Policy | None = None, keeps_reference: bool = True) -> Learner:
    config = LearnerConfig(lr=0.01, warmup=0, updates=2).resolved(PolicyConfig())
    return Learner(policy or random_policy(), config, 0.7, keeps_reference)


def reference_of(learner: Learner) -> Reference:
    assert learner.reference is not None
    return learner.reference


def step(learner: Learner, seed: int = 0) -> Batch:
    """Do a step towards the anchored objective; give its batch as prepared."""
    objective = Objective(ANCHORED)
    batch = objective.prepare(random_trajectories(len(learner.policy.tokenizer), seed=seed), learner.reference_lp)
    learner.update(batch, objective)
    return batch


def lp(policy: Policy, batch: Batch) -> Tensor:
    with torch.no_grad():
        return score_rows(policy.model, batch.ids_BT, batch.mask_BT, 0.7).lp_BT


def weights(policy: Policy) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_log_probs_of_the_reference_are_those_of_the_weights_it_was_made_of() -> None:
    learner = make()
    start = random_policy()
    first, later = step(learner), step(learner, seed=1)
    for batch in (first, later):
        assert batch.lp_ref_BT is not None
        assert not batch.lp_ref_BT.requires_grad
        torch.testing.assert_close(batch.lp_ref_BT, lp(start, batch), atol=1e-5, rtol=0)
    assert float((lp(learner.policy, later) - lp(start, later)).abs().max()) > 0.01
    assert same(weights(reference_of(learner).policy), weights(start))


def test_the_kl_pulls_back_to_the_reference() -> None:
    """Away from it the mean of k3 is positive, and its metric says so; at the start it is 0."""
    learner, objective = make(), Objective(ANCHORED)
    found = []
    for seed in range(3):
        batch = objective.prepare(random_trajectories(len(learner.policy.tokenizer), seed=seed), learner.reference_lp)
        report = learner.update(batch, objective)
        found.append(report.sums["kl_ref"][0] / report.sums["kl_ref"][1])
    assert found[0] < found[1]
    assert found[2] > 0.001


@pytest.mark.parametrize("micro_tokens", [1, 60, 100_000])
def test_the_reference_reads_rows_however_they_are_cut(micro_tokens: int) -> None:
    policy = random_policy()
    batch = pad(random_trajectories(len(policy.tokenizer)))
    batch.mask_BT[2:4] = False
    found = Reference(policy, 0.7, micro_tokens).lp(batch)
    torch.testing.assert_close(found, lp(policy, batch), atol=1e-5, rtol=0)
    assert not found[~batch.mask_BT].any()


def test_a_step_without_policy_tokens_has_zeros() -> None:
    policy = random_policy()
    batch = pad(random_trajectories(len(policy.tokenizer)))
    batch.mask_BT[:] = False
    assert not Reference(policy, 1.0, 100).lp(batch).any()


def test_it_is_the_policys_until_it_is_refreshed_and_shares_nothing_with_it() -> None:
    learner = make()
    reference = reference_of(learner)
    ours = {tensor.data_ptr() for tensor in learner.policy.model.state_dict().values()}
    theirs = {tensor.data_ptr() for tensor in reference.policy.model.state_dict().values()}
    assert not ours & theirs
    assert len(theirs) == len(ours), "what is tied stays tied"
    assert not any(weight.requires_grad for weight in reference.policy.model.parameters())
    step(learner)
    assert not same(weights(reference.policy), weights(learner.policy))
    reference.refresh()
    assert same(weights(reference.policy), weights(learner.policy))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_reference_goes_on_bit_for_bit_in_the_layout_of_weights(dtype: torch.dtype, tmp_path: Path) -> None:
    def policy(seed: int) -> Policy:
        made = random_policy(seed)
        made.model.to(dtype)
        return made

    learner, resumed = make(policy(0)), make(policy(1))
    step(learner)
    reference_of(learner).policy.save(tmp_path / "reference")
    learner.policy.save(tmp_path / "weights")
    learner.optimizer.state().save(tmp_path / "optimizer")
    assert _files(tmp_path / "reference") == _files(tmp_path / "weights")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "reference", dtype=dtype)
    assert same(loaded.state_dict(), weights(policy(0)))
    resumed.policy.load_weights(tmp_path / "weights")
    resumed.optimizer.load(tmp_path / "optimizer")
    reference_of(resumed).policy.load_weights(tmp_path / "reference")
    step(learner, seed=1)
    step(resumed, seed=1)
    assert same(weights(learner.policy), weights(resumed.policy))


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_reference_of_another_shape_is_refused(tmp_path: Path) -> None:
    other = random_policy()
    other.model.resize_token_embeddings(len(other.tokenizer) + 3)
    Reference(other, 1.0, 100).policy.save(tmp_path)
    with pytest.raises(CheckpointError, match="do not fit"):
        reference_of(make()).policy.load_weights(tmp_path)


def test_an_objective_that_needs_no_reference_keeps_none_and_asks_none() -> None:
    learner = make(keeps_reference=False)
    objective = Objective(ObjectiveConfig.model_validate("rloo"))
    batch = objective.prepare(random_trajectories(len(learner.policy.tokenizer)), learner.reference_lp)
    assert (learner.reference, batch.lp_ref_BT) == (None, None)


def test_a_learner_without_a_reference_says_how_to_get_one() -> None:
    learner = make(keeps_reference=False)
    with pytest.raises(PolicyError, match="keeps none: make it with `keeps_reference`"):
        step(learner)
    batch = step(make())
    with pytest.raises(PolicyError, match="prepare it with the learner's `reference_lp`"):
        learner.update(replace(batch, lp_ref_BT=None), Objective(ANCHORED))
