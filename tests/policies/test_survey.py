"""What an objective is shown of the start of a step, and of the whole of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from policies.config import LearnerConfig, PolicyConfig
from policies.forward import Reduction
from policies.learner import Learner
from policies.objectives.config import ObjectiveConfig
from policies.objectives.contracts import Batch, Coefficients, Need, ShapedRows, SurveyResult, Totals
from policies.objectives.objective import Objective
from policies.objectives.padding import pad
from policies.objectives.presets import PRESETS
from policies.policy import Policy
from policies.samplers.testing import random_policy
from tests.policies.fakes import Surrogate, random_trajectories
from tests.shares import share

LOOKING: frozenset[Need] = frozenset({"step", "old_entropy", "old_filter"})


@dataclass
class Watching(Surrogate):
    """Notes in its survey what each token was, and keeps all that it is shown."""

    needs: frozenset[Need] = LOOKING
    kappa: float | None = 0.05
    surveys: list[tuple[ShapedRows, Totals]] = field(default_factory=list)
    shown: list[tuple[ShapedRows, Totals]] = field(default_factory=list)

    def survey(self, rows: ShapedRows, totals: Totals) -> SurveyResult:
        self.surveys.append((rows, totals))
        weight_BT = (rows.lp_BT - rows.lp_BT[rows.mask_BT].mean()).sigmoid()
        return SurveyResult(
            {"own.roll": rows.lp_roll_BT, "own.weight": weight_BT, "own.is_rare": rows.lp_BT < -2},
            {"own.mean": float(rows.lp_BT[rows.mask_BT].mean())},
            {"own_logged": 7.0},
        )

    def coefficients(self, rows: ShapedRows, totals: Totals) -> Coefficients:
        self.shown.append((rows, totals))
        found = super().coefficients(rows, totals)
        weight_BT = rows.noted["own.weight"] if rows.noted else 1.0
        return replace(found, w_BT=found.w_BT * weight_BT)


def played(policy: Policy, seed: int = 0) -> Batch:
    """A step whose rows can be told apart; two have no token of the policy's, prompts are shared."""
    batch = pad(random_trajectories(len(policy.tokenizer), num_groups=10, group_size=8, seed=seed))
    batch.mask_BT[5:7] = False
    place_BT = torch.arange(batch.mask_BT.numel()).view(batch.mask_BT.shape)
    return replace(
        batch,
        lp_roll_BT=(-1e-3 * place_BT - 0.1) * batch.mask_BT,
        advantage_BT=(batch.reward_B - 0.5).float()[:, None] * batch.mask_BT,
    )


def updated(objective: Watching, is_off_policy: bool = False, **options: Any) -> tuple[Tensor, Any, Batch]:
    """The gradient of a float64 policy's step (of the first moments), the report, and the batch."""
    policy = random_policy()
    policy.model.double()
    config = LearnerConfig.model_validate({"lr": 1e-4, "warmup": 0, "clip_norm": 1e9, **options})
    learner, batch = Learner(policy, config.resolved(PolicyConfig())), played(policy)
    report = learner.update(batch, objective, is_off_policy=is_off_policy)
    moments = [learner.optimizer.adam.state[m]["exp_avg"] for m in learner.optimizer.masters.values()]
    return torch.cat([m.flatten() for m in moments]), report, batch


CUTS = [{}, {"micro_tokens": 1}, {"micro_tokens": 90}, {"updates": 3}, {"updates": 2, "micro_tokens": 60}]


@pytest.mark.parametrize("cut", share(CUTS, 2))
@pytest.mark.parametrize("leaves_silent", [False, True])
def test_what_a_survey_notes_of_a_token_reaches_that_token_however_the_step_is_cut(
    cut: dict[str, int], leaves_silent: bool
) -> None:
    objective = Watching(leaves_silent_rows_alone=leaves_silent)
    _, report, batch = updated(objective, **cut)
    ((everything, totals),) = objective.surveys
    assert everything.mask_BT.shape == batch.mask_BT.shape
    assert totals.num_tokens == int(batch.mask_BT.sum())
    assert all(tensor.device.type == "cpu" for tensor in (everything.lp_BT, everything.lp_roll_BT))
    assert not everything.lp_BT[~batch.mask_BT].any()
    for rows, own in objective.shown:
        assert torch.equal(rows.noted["own.roll"], rows.lp_roll_BT)
        assert rows.noted["own.is_rare"].dtype == torch.bool
        assert own.noted == {"own.mean": pytest.approx(float(everything.lp_BT[batch.mask_BT].mean()))}
        assert own.mean_lp == pytest.approx(own.noted["own.mean"])
    assert report.sums["own_logged"] == (7.0, 1.0)


@pytest.mark.parametrize("updates", [1, 3])
def test_a_step_that_is_surveyed_does_not_depend_on_the_cut(updates: int) -> None:
    expected, whole, _ = updated(Watching(), updates=updates, micro_tokens=100_000)
    for micro_tokens in (1, 90, 400):
        found, report, _ = updated(Watching(), updates=updates, micro_tokens=micro_tokens)
        # the library rounds norms and rotary angles to float32, whatever the dtype
        assert float((found - expected).norm()) < 1e-6 * float(expected.norm())
        assert report.loss == pytest.approx(whole.loss, abs=1e-7)


def test_a_survey_sees_the_start_of_the_step_as_one_pass_over_it_finds_it() -> None:
    objective = Watching(updates=3)
    _, _, batch = updated(objective)
    policy = random_policy()
    policy.model.double()
    learner = Learner(policy, LearnerConfig().resolved(PolicyConfig()))
    rows = batch.mask_BT.any(-1).nonzero()[:, 0]
    cut = learner.passes.batcher(batch).whole(rows.numpy())
    fresh = learner.passes.score(batch, cut, Reduction(entropy="value", kappa=0.05))
    ((everything, _),) = objective.surveys
    for found, expected in (
        (everything.lp_BT, fresh.lp_BT),
        (everything.lp_old_BT, fresh.lp_BT),
        (everything.entropy_BT, fresh.entropy_BT),
        (everything.entropy_old_BT, fresh.entropy_BT),
        (everything.lp_proxy_BT, fresh.lp_proxy_BT),
    ):
        torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("is_off_policy", [False, True])
@pytest.mark.parametrize("more", [frozenset(), frozenset({"entropy"}), frozenset({"mean_lp"})])
def test_with_one_update_the_start_of_the_step_is_now_to_the_last_bit(
    is_off_policy: bool, more: frozenset[Need]
) -> None:
    objective = Watching(needs=LOOKING | more)
    _, report, batch = updated(objective, is_off_policy, micro_tokens=90)
    assert report.maxima["ratio_max"] == 1.0
    for rows, _ in objective.shown:
        assert torch.equal(rows.lp_BT, rows.lp_old_BT)
        assert rows.entropy_old_BT is not None
        assert rows.lp_proxy_BT is not None
        assert "entropy" not in more or torch.equal(rows.entropy_BT, rows.entropy_old_BT)
    found = torch.cat([rows.entropy_old_BT[rows.mask_BT] for rows, _ in objective.shown])
    assert len(found) == int(batch.mask_BT.sum())
    assert (found > 0).all()


@pytest.mark.parametrize("micro_tokens", [1, 90, 100_000])
def test_until_weights_move_the_start_of_the_step_is_now_to_the_last_bit(micro_tokens: int) -> None:
    """The first of several updates; else a penalty on the sign of lp - lp_old would act on rounding errors."""
    objective = Watching(updates=3, leaves_silent_rows_alone=True)
    updated(objective, micro_tokens=micro_tokens)
    has_moved = [not torch.equal(rows.lp_BT, rows.lp_old_BT) for rows, _ in objective.shown]
    first = has_moved.index(True)
    num_tokens = {totals.num_tokens for _, totals in objective.shown[:first]}
    assert len(num_tokens) == 1, "only the first update"
    assert all(has_moved[first:])


@pytest.mark.parametrize("asked", ["old_entropy", "old_filter"])
def test_with_one_update_what_is_asked_of_single_tokens_needs_no_pass_of_its_own(asked: Need) -> None:
    alone, surveyed = Watching(needs=frozenset({asked})), Watching(needs=frozenset({asked, "step"}))
    _, once, _ = updated(alone, micro_tokens=100_000)
    _, twice, _ = updated(surveyed, micro_tokens=100_000)
    assert twice.num_tokens_fed == 2 * once.num_tokens_fed
    assert not alone.surveys
    for (rows, _), (other, _) in zip(alone.shown, surveyed.shown, strict=True):
        field = "entropy_old_BT" if asked == "old_entropy" else "lp_proxy_BT"
        torch.testing.assert_close(getattr(rows, field), getattr(other, field), atol=1e-9, rtol=0)


def test_the_filter_is_that_of_the_start_of_the_step_in_every_update() -> None:
    objective = Watching(updates=3)
    updated(objective, lr=0.01)
    ((everything, _),) = objective.surveys
    assert everything.lp_proxy_BT is not None
    found = {float(roll): float(proxy) for rows, _ in objective.shown for roll, proxy in _pairs(rows)}
    assert found == {float(roll): float(proxy) for roll, proxy in _pairs(everything)}
    assert min(found.values()) == -1e4
    last, _ = objective.shown[-1]
    assert not torch.equal(last.lp_BT, last.lp_old_BT)


def _pairs(rows: ShapedRows) -> Iterator[tuple[Tensor, Tensor]]:
    assert rows.lp_proxy_BT is not None
    return zip(rows.lp_roll_BT[rows.mask_BT], rows.lp_proxy_BT[rows.mask_BT], strict=True)


@pytest.mark.parametrize("micro_tokens", [60, 100_000])
def test_the_drift_of_an_update_is_what_earlier_ones_did_to_its_tokens(micro_tokens: int) -> None:
    objective = Watching(needs=frozenset({"drift"}), updates=3)
    updated(objective, lr=0.01, micro_tokens=micro_tokens)
    found: dict[float, list[Tensor]] = {}
    for rows, totals in objective.shown:
        assert totals.drift is not None
        found.setdefault(totals.drift, []).append((rows.lp_old_BT - rows.lp_BT)[rows.mask_BT])
    assert len(found) == 3
    assert next(iter(found)) == 0.0
    for drift, gaps in found.items():
        assert drift == pytest.approx(float(torch.cat(gaps).mean()), abs=1e-6)
    assert abs(list(found)[-1]) > 1e-4


def test_with_one_update_nothing_has_drifted() -> None:
    objective = Watching(needs=frozenset({"drift"}))
    _, report, batch = updated(objective, micro_tokens=100_000)
    assert [totals.drift for _, totals in objective.shown] == [0.0]
    assert report.num_tokens_fed < 2 * int(batch.length_B.sum())


class Widths(TorchDispatchMode):
    """Notes tensors that have a dimension of one size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.found = width, list[tuple[int, ...]]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        shapes = [tuple(leaf.shape) for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        self.found += [shape for shape in shapes if self.width in shape]
        return output


@pytest.mark.parametrize("name", PRESETS)
def test_no_preset_makes_a_tensor_as_wide_as_the_vocabulary(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the learner itself makes is one chunk of logits at a time (`test_forward.py`)."""
    policy = random_policy()
    width = len(policy.tokenizer)
    objective = Objective(ObjectiveConfig.model_validate({"preset": name, "max_length": 16}))
    watch = Widths(width)
    for method in ("prepare", "survey", "coefficients"):
        own = getattr(objective, method)

        def watched(*args: Any, own: Any = own) -> Any:
            with watch:
                return own(*args)

        monkeypatch.setattr(objective, method, watched)
    learner = Learner(policy, LearnerConfig().resolved(PolicyConfig()))
    batch = objective.prepare(random_trajectories(width), lambda batch: -2.0 * batch.mask_BT)
    learner.update(batch, objective)
    assert watch.found == []
