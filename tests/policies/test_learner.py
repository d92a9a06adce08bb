from __future__ import annotations

import math
import random
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from policies import config as policy_config
from policies import learner as learner_module
from policies.config import LearnerConfig, PolicyConfig
from policies.errors import PolicyError
from policies.forward import why_layers_are_kept
from policies.learner import Learner, UpdateReport
from policies.micro_batches import ForwardPasses
from policies.objectives.config import ObjectiveConfig
from policies.objectives.contracts import Batch
from policies.objectives.objective import Objective
from policies.objectives.padding import pad
from policies.policy import Policy
from policies.samplers.testing import random_policy
from tests.policies.fakes import Surrogate, random_batch, random_trajectories

ENTROPIC = Surrogate(needs=frozenset({"entropy_grad"}), bonus=0.02, push=0.05)


def make(policy: Policy | None = None, temperature: float = 1.0, **options: object) -> Learner:
    config = LearnerConfig.model_validate({"lr": 1e-3, "warmup": 0, **options})
    return Learner(policy or random_policy(), config.resolved(PolicyConfig()), temperature)


def batch_for(learner: Learner, seed: int = 0) -> Batch:
    return random_batch(len(learner.policy.tokenizer), seed=seed)


def weights(learner: Learner) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in learner.policy.model.parameters()]


def gradient(learner: Learner, batch: Batch, objective: Surrogate) -> tuple[Tensor, UpdateReport]:
    """The gradient that an update applied, read from the first moments, clipping undone."""
    report = learner.update(batch, objective)
    moments = [learner.optimizer.adam.state[m]["exp_avg"] / 0.1 for m in learner.optimizer.masters.values()]
    return torch.cat([m.flatten() for m in moments]) * max(1.0, report.grad_norm), report


def naive_gradient(policy: Policy, batch: Batch, objective: Surrogate, temperature: float) -> Tensor:
    """Autograd of the loss as written, row by row, without padding."""
    loss = torch.zeros(())
    num_tokens = int(batch.mask_BT.sum())
    for b, length in enumerate(batch.length_B.tolist()):
        logits_TV = policy.model(batch.ids_BT[b : b + 1, :length]).logits[0, :-1] / temperature
        lp_TV = logits_TV.log_softmax(-1)
        lp_T = lp_TV.gather(-1, batch.ids_BT[b, 1:length, None])[:, 0]
        mask_T = batch.mask_BT[b, 1:length]
        advantage_T = batch.advantage_BT[b, 1:length]
        surrogate = (lp_T - lp_T.detach()).exp() * advantage_T - objective.push * lp_T.detach() * lp_T
        entropy_T = -(lp_TV.exp() * lp_TV).sum(-1)
        loss = loss - ((surrogate + objective.bonus * entropy_T) * mask_T).sum() / num_tokens
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(policy.model.parameters()))])


@pytest.mark.parametrize("objective", [Surrogate(), ENTROPIC])
@pytest.mark.parametrize("temperature", [1.0, 0.8])
def test_the_gradient_is_that_of_the_loss_as_written(objective: Surrogate, temperature: float) -> None:
    learner = make(temperature=temperature)
    batch = batch_for(learner)
    expected = naive_gradient(learner.policy, batch, objective, temperature)
    found, report = gradient(learner, batch, objective)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)
    assert report.grad_norm == pytest.approx(float(expected.norm()), rel=1e-4)


@pytest.mark.parametrize("objective", [Surrogate(), ENTROPIC])
@pytest.mark.parametrize("micro_tokens", [1, 30, 80])
def test_the_gradient_does_not_depend_on_the_cut(objective: Surrogate, micro_tokens: int) -> None:
    whole, report = gradient(make(micro_tokens=10_000), batch_for(make()), objective)
    cut, cut_report = gradient(make(micro_tokens=micro_tokens), batch_for(make()), objective)
    torch.testing.assert_close(cut, whole, atol=1e-5, rtol=1e-3)
    assert cut_report.loss == pytest.approx(report.loss, abs=1e-6)
    assert cut_report.sums["ratio"] == pytest.approx(report.sums["ratio"])
    assert cut_report.maxima == pytest.approx(report.maxima)


def test_the_gradient_does_not_depend_on_padding_or_on_the_order_of_rows() -> None:
    batch = batch_for(make())
    order = torch.randperm(len(batch.length_B), generator=torch.Generator().manual_seed(0))
    shuffled = batch.take(order)
    padded = batch.map(lambda value: torch.nn.functional.pad(value, (0, 9)) if value.ndim == 2 else value)
    padded.ids_BT[:, -9:] = 5
    expected, _ = gradient(make(), batch, ENTROPIC)
    for other in (shuffled, padded):
        torch.testing.assert_close(gradient(make(), other, ENTROPIC)[0], expected, atol=1e-5, rtol=1e-3)


def test_groups_without_spread_move_nothing_by_themselves() -> None:
    learner = make()
    batch = batch_for(learner)
    silent = replace(batch, advantage_BT=torch.zeros_like(batch.advantage_BT))
    before = weights(learner)
    report = learner.update(silent, Surrogate())
    assert (report.grad_norm, report.num_updates) == (0.0, 1)
    assert report.sums["ratio"][1] == float(batch.mask_BT.sum())  # measured all the same
    assert all(torch.equal(a, b) for a, b in zip(before, weights(learner), strict=True))


def test_several_updates_see_the_log_probs_of_the_start_of_the_step() -> None:
    one, three = make(), make(updates=3)
    batch = batch_for(one)
    assert one.update(batch, Surrogate(updates=1)).sums["ratio"] == pytest.approx((*[float(batch.mask_BT.sum())] * 2,))
    report = three.update(batch, Surrogate(updates=1))
    assert report.num_updates == 3
    assert three.optimizer.num_updates == 3
    assert three.policy.version == 1
    assert report.sums["ratio"][1] == float(batch.mask_BT.sum())
    assert abs(report.maxima["ratio_max"] - 1) > 1e-4
    assert make().update(batch, Surrogate(updates=2)).num_updates == 2  # the objective's own number


def test_totals_are_those_of_one_update_and_the_mean_is_the_steps() -> None:
    seen = []

    class Watching(Surrogate):
        def coefficients(self, rows, totals):  # type: ignore[no-untyped-def]
            seen.append((totals, rows))
            return super().coefficients(rows, totals)

    learner = make(updates=2, micro_tokens=1)
    batch = batch_for(learner)
    learner.update(batch, Watching())
    totals = [own for k, (own, _) in enumerate(seen) if own not in [before for before, _ in seen[:k]]]
    is_even_B = batch.group_B % 2 == 0  # groups are dealt in turn
    assert [t.num_tokens for t in totals] == [int(batch.mask_BT[own_B].sum()) for own_B in (is_even_B, ~is_even_B)]
    old = torch.cat([rows.lp_old_BT[rows.mask_BT] for _, rows in seen])
    assert totals[0].mean_lp == totals[1].mean_lp == pytest.approx(float(old.double().mean()), abs=1e-6)


@pytest.mark.parametrize("is_off_policy", [False, True])
def test_the_mean_log_prob_is_never_that_of_older_weights(is_off_policy: bool) -> None:
    seen = []

    class Watching(Surrogate):
        def coefficients(self, rows, totals):  # type: ignore[no-untyped-def]
            seen.append((totals, rows))
            return super().coefficients(rows, totals)

    learner = make()
    batch = batch_for(learner)
    stale = replace(batch, lp_roll_BT=batch.lp_roll_BT - 0.5 * batch.mask_BT)
    learner.update(stale, Watching(needs=frozenset({"mean_lp"})), is_off_policy=is_off_policy)
    current = torch.cat([rows.lp_BT[rows.mask_BT] for _, rows in seen]).double().mean()
    rolled = stale.lp_roll_BT[batch.mask_BT].double().mean()
    assert seen[0][0].mean_lp == pytest.approx(float(current if is_off_policy else rolled), abs=1e-6)


def test_the_learning_rate_rises_over_the_warm_up() -> None:
    learner = make(warmup=4, lr=1e-3)
    rates = [learner.update(batch_for(learner), Surrogate()).lr for _ in range(6)]
    assert rates == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3, 1e-3])


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_an_update_that_is_not_finite_is_skipped_and_counted(scale: float) -> None:
    learner = make()
    batch = batch_for(learner)
    learner.update(batch, Surrogate())
    before = weights(learner)
    report = learner.update(batch, Surrogate(scale=scale))
    assert (report.num_skipped, report.num_updates, learner.policy.version) == (1, 0, 1)
    assert not math.isfinite(report.grad_norm)
    assert learner.optimizer.num_updates == 1
    assert all(torch.equal(a, b) for a, b in zip(before, weights(learner), strict=True))
    assert learner.update(batch, Surrogate()).num_updates == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_three_updates_and_three_more_are_six(dtype: torch.dtype, tmp_path: Path) -> None:
    def played(learner: Learner, seeds: range) -> None:
        for seed in seeds:
            learner.update(batch_for(learner, seed), ENTROPIC)

    def policy(seed: int = 0) -> Policy:
        made = random_policy(seed)
        made.model.to(dtype)
        return made

    whole, first, second = make(policy(), warmup=5), make(policy(), warmup=5), make(policy(1), warmup=5)
    played(whole, range(6))
    played(first, range(3))
    first.policy.save(tmp_path / "weights")
    first.optimizer.state().save(tmp_path / "optimizer")
    second.policy.load_weights(tmp_path / "weights")
    second.optimizer.load(tmp_path / "optimizer")
    played(second, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(second), strict=True))


def test_a_reset_begins_the_warm_up_again() -> None:
    learner = make(warmup=4, lr=1e-3)
    learner.update(batch_for(learner), Surrogate())
    learner.optimizer.reset()
    assert learner.update(batch_for(learner), Surrogate()).lr == pytest.approx(0.25e-3)


def test_an_update_touches_no_global_state() -> None:
    learner = make()
    learner.policy.model.model.layers[0].train()
    before = _global_state(learner)
    learner.update(batch_for(learner), ENTROPIC)
    assert _global_state(learner) == before


def _global_state(learner: Learner) -> tuple[object, ...]:
    modes = [module.training for module in learner.policy.model.modules()]
    numpy_state = np.random.get_state()[1].tolist()
    return torch.get_rng_state().tolist(), numpy_state, random.getstate(), torch.get_num_threads(), modes


def groups_for(learner: Learner, seed: int = 0) -> Batch:
    """Groups with prompts in common, more of them than a forward costs."""
    played = random_trajectories(len(learner.policy.tokenizer), num_groups=12, group_size=8, seed=seed)
    batch = pad(played)
    return replace(batch, advantage_BT=(batch.reward_B - 0.5).float()[:, None] * batch.mask_BT)


@pytest.mark.parametrize("updates", [1, 2])
@pytest.mark.parametrize("micro_tokens", [300, 10_000])
def test_prompts_are_read_once_and_the_gradient_is_the_same(updates: int, micro_tokens: int) -> None:
    apart, whole = (make(updates=updates, micro_tokens=micro_tokens, lr=1e-5) for _ in range(2))
    whole.passes.may_share = False
    expected, every = gradient(whole, groups_for(whole), ENTROPIC)
    found, some = gradient(apart, groups_for(apart), ENTROPIC)
    assert some.num_tokens_fed < 0.8 * every.num_tokens_fed
    assert float((found - expected).norm()) < 1e-5 * float(expected.norm())
    assert some.loss == pytest.approx(every.loss, abs=1e-5)
    assert some.sums["ratio"] == pytest.approx(every.sums["ratio"])


def test_what_is_fed_is_counted_for_every_pass() -> None:
    learner = make(micro_tokens=10_000)
    batch = batch_for(learner)
    once, twice = (learner.update(batch, Surrogate(updates=updates)) for updates in (1, 2))
    num_columns = int(batch.mask_BT.any(0).nonzero()[-1])  # all but the last
    assert (once.num_rows, once.num_rows_run, once.num_tokens_fed) == (24, 24, 24 * num_columns)
    assert twice.num_tokens_fed > 1.8 * once.num_tokens_fed  # the old log-probs too


def test_a_bfloat16_policy_shares_prompts_and_its_log_probs_are_float32() -> None:
    policy = random_policy()
    policy.model.to(torch.bfloat16)
    learner = make(policy)
    assert learner.passes.may_share
    before = [master.detach().clone() for master in learner.optimizer.masters.values()]
    report = learner.update(groups_for(learner), ENTROPIC)
    assert report.num_updates == 1
    assert report.num_tokens_fed < int(groups_for(learner).length_B.sum())
    after = learner.optimizer.masters.values()
    assert all(b.dtype == torch.float32 and not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_recomputed_layers_read_whole_rows() -> None:
    plain, again = make(), make(activation_checkpointing=True)
    assert (plain.passes.may_share, again.passes.may_share) == (True, False)
    plain.passes.may_share = False
    expected, _ = gradient(plain, groups_for(plain), ENTROPIC)
    found, _ = gradient(again, groups_for(again), ENTROPIC)
    assert torch.equal(found, expected)


def test_recomputing_layers_changes_no_number() -> None:
    plain, _ = gradient(make(), batch_for(make()), ENTROPIC)
    learner = make(activation_checkpointing=True)
    again, _ = gradient(learner, batch_for(learner), ENTROPIC)
    assert torch.equal(plain, again)
    assert not learner.policy.model.is_gradient_checkpointing


def test_layers_of_large_policies_are_recomputed_unless_told_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def recomputes(**options: object) -> bool:
        given = LearnerConfig.model_validate(options).resolved(PolicyConfig(model="large"))
        return Learner(random_policy(), given).passes.recomputes

    assert not recomputes()
    monkeypatch.setattr(policy_config, "RECOMPUTED_FROM", 1000)
    assert recomputes()
    assert not recomputes(activation_checkpointing=False)
    monkeypatch.setattr(learner_module, "why_layers_are_kept", lambda model: "has no layers")
    assert not recomputes(), "where the library cannot"


def test_recomputing_layers_of_a_model_with_dropout_is_refused() -> None:
    learner = make(activation_checkpointing=True)
    learner.policy.model.config.attention_dropout = 0.1
    with pytest.raises(PolicyError, match=r"tiny has dropout \(attention_dropout\)"):
        learner.update(batch_for(learner), Surrogate())


def test_dropout_of_heads_that_a_policy_does_not_have_keeps_no_layers() -> None:
    """Every GPT-NeoX has `classifier_dropout: 0.1`, every GPT-J `summary_first_dropout: 0.1`."""
    model = random_policy().model
    model.config.classifier_dropout = model.config.summary_first_dropout = 0.1
    assert why_layers_are_kept(model) is None


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (Surrogate(needs=frozenset({"lp_ref"})), "frozen reference policy"),
        (Surrogate(bonus=0.1), "does not say that it needs `entropy_grad`"),
    ],
)
def test_an_objective_that_cannot_be_served_is_refused(objective: Surrogate, message: str) -> None:
    learner = make()
    with pytest.raises(PolicyError, match=message):
        learner.update(batch_for(learner), objective)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounded_log_probs_of_the_sampler_are_refused(dtype: torch.dtype) -> None:
    learner = make()
    batch = batch_for(learner)
    rounded = replace(batch, lp_roll_BT=batch.lp_roll_BT.to(dtype))
    with pytest.raises(PolicyError, match=f"lp_roll is {str(dtype)[6:]}: log-probs below float32"):
        learner.update(rounded, Surrogate())


@pytest.mark.parametrize(("updates", "name"), [(1, "lp"), (2, "lp_old")])
def test_rounded_log_probs_of_the_trainer_are_refused(updates: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, what = {"lp": (learner_module, "score_micro"), "lp_old": (ForwardPasses, "score")}[name]
    own = getattr(where, what)
    monkeypatch.setattr(where, what, lambda *args: own(*args).map(lambda value: value.bfloat16()))
    learner = make(updates=updates)
    with pytest.raises(PolicyError, match=f"{name} is bfloat16"):
        learner.update(batch_for(learner), Surrogate())


def test_learning_is_preparing_what_was_played_and_updating_in_two_parts_that_are_timed() -> None:
    one, other, objective = make(), make(), Objective(ObjectiveConfig.model_validate("grpo"))
    played = random_trajectories(len(one.policy.tokenizer))
    parts: list[str] = []

    def timing(part: str) -> AbstractContextManager[None]:
        parts.append(part)
        return nullcontext()

    report = one.learn(played, objective, timing)
    assert parts == ["prepare", "update"]
    assert other.update(objective.prepare(played), objective).metrics == report.metrics
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def test_unresolved_options_are_refused() -> None:
    with pytest.raises(PolicyError, match=r"pass `config\.resolved"):
        Learner(random_policy(), LearnerConfig())
