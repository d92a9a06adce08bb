"""What the probes are made of: copies, curves, a language, labels, a linear classifier."""

from __future__ import annotations

import math
import random
import weakref
from itertools import count

import numpy as np
import pytest
import torch

from policies.errors import NonFiniteLogits
from policies.plasticity import random_label_probe, rl_probe, supervised_probe
from policies.plasticity.copies import full_copy
from policies.plasticity.copy_fit import Rows, fit, look_at, ordinary_tokens, rounds
from policies.plasticity.curves import Budget, Curve
from policies.plasticity.linear_probe import decodability, last_hidden_states
from policies.plasticity.supervised_probe import LETTERS, Language
from policies.samplers.testing import random_policy
from tests.policies.fakes import random_trajectories


def budget(steps: int = 10, lr: float = 0.01) -> Budget:
    return Budget(steps, lr, frozenset({0, steps}), 2048)


def test_a_copy_shares_nothing_and_is_gone_afterwards() -> None:
    policy = random_policy()
    policy.version = 7
    model = policy.model
    before = [weight.detach().clone() for weight in model.parameters()]
    with full_copy(policy) as copy:
        assert copy.version == 0
        assert all(weight.grad is None for weight in copy.model.parameters())
        tied = copy.model.get_input_embeddings().weight is copy.model.get_output_embeddings().weight
        assert tied == (model.get_input_embeddings().weight is model.get_output_embeddings().weight)
        with torch.no_grad():
            for weight in copy.model.parameters():
                weight.add_(1)
        held = weakref.ref(copy.model)
    assert held() is None
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert policy.version == 7


def test_the_learning_rate_rises_over_a_tenth_of_the_steps_and_then_stays() -> None:
    plan = budget(steps=40, lr=1.0)
    assert [plan.rate(step) for step in (1, 2, 4, 5, 40)] == [0.25, 0.5, 1.0, 1.0, 1.0]
    assert budget(steps=3).rate(1) == 0.01


def test_a_curve_has_means_since_the_last_look_and_nothing_that_is_not_finite() -> None:
    curve = Curve()
    curve.note(loss=4.0)
    curve.note(loss=2.0)
    curve.look(2, {"score": 0.5, "entropy": math.nan})
    curve.look(4, {"score": 1.0})
    assert curve.points == {(2, "loss"): 3.0, (2, "score"): 0.5, (4, "score"): 1.0}


def test_the_language_is_made_of_ordinary_tokens_and_of_its_seed() -> None:
    policy = random_policy()
    tokens = ordinary_tokens(policy)
    assert not {*tokens} & {*policy.tokenizer.all_special_ids}

    def texts(language: int, text: int = 0) -> torch.Tensor:
        made = Language(tokens, np.random.default_rng(language))
        return made.rows(8, 16, np.random.default_rng(text)).ids_BT

    assert torch.equal(texts(1), texts(1))
    assert not torch.equal(texts(1), texts(1, 2)), "other texts of it"
    assert {*texts(1).unique().tolist()} <= {*tokens}
    large = Language(range(1000), np.random.default_rng(1)).rows(64, 32, np.random.default_rng(0))
    assert len(large.ids_BT.unique()) <= LETTERS + 1
    assert len({*large.ids_BT.unique().tolist()} - {*range(LETTERS + 1)}) > 32, "which letter is which token is drawn"
    assert not large.mask_BT[:, 0].any()
    assert large.mask_BT[:, 1:].all()


def test_a_copy_learns_the_language_whatever_its_batches_are_cut_into() -> None:
    policy = random_policy()
    ends = []
    for micro_tokens in (2048, 64):
        curve, plan = Curve(), Budget(8, 0.02, frozenset({0, 8}), micro_tokens)
        with full_copy(policy) as copy:
            steps = [
                *supervised_probe.probe(
                    copy, plan, curve, lambda name: np.random.default_rng(3), batch=8, items=8, length=16
                )
            ]
        assert steps == [*range(9)]
        ends.append(curve.points)
        assert curve.points[8, "loss"] < curve.points[0, "loss"] - 0.3
    assert ends[0] == pytest.approx(ends[1], rel=1e-3)


def test_labels_are_random_and_only_they_are_predicted() -> None:
    tokens = [*range(3, 60)]
    prompts = random_label_probe.random_prompts(tokens, 200, 5, np.random.default_rng(0))
    rows = random_label_probe.labelled([*prompts, (7,)], tokens, 10, np.random.default_rng(1))
    assert rows.mask_BT.sum(-1).tolist() == [1] * 201
    labels = rows.ids_BT[rows.mask_BT].tolist()
    assert len({*labels}) == 10
    assert max(labels.count(label) for label in {*labels}) < 40
    assert rows.mask_BT[-1].tolist() == [False, True, False, False, False, False]


def test_a_copy_learns_labels_by_heart() -> None:
    policy, curve = random_policy(), Curve()
    prompts = random_label_probe.random_prompts(ordinary_tokens(policy), 16, 3, np.random.default_rng(0))
    with full_copy(policy) as copy:
        plan = Budget(40, 0.02, frozenset({0, 30, 40}), 2048)
        stream = np.random.default_rng
        for _ in random_label_probe.probe(
            copy, plan, curve, lambda name: stream(4), batch=8, classes=4, prompts=prompts
        ):
            pass
    assert curve.points[40, "loss"] < 0.5 * math.log(4) < curve.points[0, "loss"]


@pytest.mark.parametrize(("num", "batch"), [(40, 32), (32, 8), (7, 3), (5, 9)])
def test_every_item_comes_once_before_any_comes_again_and_none_twice_in_a_batch(num: int, batch: int) -> None:
    drawn = [next(batches).tolist() for batches in [rounds(num, batch, np.random.default_rng(3))] for _ in range(12)]
    size = min(num, batch)
    assert all(len({*own}) == len(own) == size for own in drawn)
    one_after_the_other = [place for own in drawn for place in own]
    for first in range(0, len(one_after_the_other) - num + 1, num):
        assert {*one_after_the_other[first : first + num]} == {*range(num)}
    order = np.random.default_rng(3).permutation(num)
    assert drawn[0] == order[:size].tolist()


def spoil(weight: torch.Tensor, *passes: int) -> None:
    """Make the gradient of a weight infinite in some backward passes, counted from 1."""
    numbers = count(1)
    weight.register_hook(lambda gradient: gradient * math.inf if next(numbers) in passes else gradient)


def test_updates_whose_gradient_is_not_finite_are_counted() -> None:
    policy, curve = random_policy(), Curve()
    with full_copy(policy) as copy:
        spoil(copy.model.model.norm.weight, 2, 3)
        plan = Budget(5, 0.01, frozenset({0, 5}), 2048)
        for _ in supervised_probe.probe(
            copy, plan, curve, lambda name: np.random.default_rng(3), batch=4, items=4, length=8
        ):
            pass
    assert (curve.num_updates, curve.num_refused) == (3, 2)


def test_the_rl_probe_counts_them_too() -> None:
    policy, curve = random_policy(), Curve()
    played = random_trajectories(12, num_groups=3, spread=0.5)
    with full_copy(policy) as copy:
        spoil(copy.model.model.norm.weight, 1)
        for _ in rl_probe.probe(copy, budget(3), curve, lambda step: played, lambda: {"score": 0.5}):
            pass
    assert (curve.num_updates, curve.num_refused) == (2, 1)


def test_a_loss_that_is_not_finite_ends_a_curve() -> None:
    policy, curve = random_policy(), Curve()
    with full_copy(policy) as copy:
        with torch.no_grad():
            next(copy.model.parameters()).fill_(math.nan)
        batch = Rows(torch.ones(2, 3, dtype=torch.int64), torch.tensor([[False, True, True]] * 2))
        with pytest.raises(NonFiniteLogits, match="step 1"):
            list(fit(copy, iter([batch]), budget(), curve))
        assert math.isnan(look_at(copy, batch, 64)["loss"])


def test_groups_that_all_earned_the_same_have_no_gradient() -> None:
    rows = random_trajectories(30, num_groups=8, spread=0.5)
    even = {g for g in range(8) if len({r.reward for r in rows if r.group == g}) == 1}
    assert rl_probe.zero_variance(rows) == len(even) / len({r.group for r in rows})


def test_the_classifier_of_the_reference() -> None:
    from sklearn.linear_model import LogisticRegression

    x = np.array([[a + shift, b + shift] for shift in (0, 2) for a in (0, 1) for b in (0, 1)], float)
    model = LogisticRegression(C=1.0, max_iter=1000).fit(x, [0] * 4 + [1] * 4)
    assert model.score(x, [0] * 4 + [1] * 4) == 1.0
    assert model.predict_proba([[1.5, 1.5]])[0, 1] == pytest.approx(0.5, abs=1e-4), "as far as the solver goes"


@pytest.mark.parametrize("width", [4, 200])
def test_decodability_is_balanced_accuracy_over_chance(width: int) -> None:
    rng, labels = np.random.default_rng(0), ["a"] * 40 + ["b"] * 20 + ["rare"] * 2
    noise = rng.normal(size=(62, width))
    told = noise + 30.0 * (np.arange(62) < 40)[:, None]
    before = np.random.get_state()[1].tolist(), random.getstate()
    assert decodability(told, labels) == pytest.approx(1 - 1 / 2), "of two classes, as the rare one is left out"
    assert decodability(told, labels) == decodability(told, labels)
    assert decodability(noise, labels) == pytest.approx(0, abs=0.2)
    assert decodability(np.ones((62, 1)), labels) == 0, "a constant answer"
    assert decodability(noise, ["a"] * 62) is None
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before


def test_hidden_states_are_the_last_prompt_token_s_whatever_stands_beside() -> None:
    policy = random_policy()
    prompts = [(5, 6, 7), (8,), (9, 10, 11, 12, 13)]
    together = last_hidden_states(policy, prompts)
    for number, prompt in enumerate(prompts):
        alone = last_hidden_states(policy, [prompt])
        for layer in ("middle", "last"):
            assert together[layer][number] == pytest.approx(alone[layer][0], rel=1e-4, abs=1e-4)
    assert not np.allclose(together["middle"], together["last"])
