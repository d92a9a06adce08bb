"""Rows without an advantage are not run, and nothing but the time can tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from policies.config import LearnerConfig, PolicyConfig
from policies.learner import Learner, UpdateReport
from policies.objectives.config import ObjectiveConfig
from policies.objectives.contracts import Batch
from policies.objectives.objective import Objective
from policies.objectives.presets import PRESETS
from policies.samplers.testing import random_policy
from tests.policies.fakes import random_trajectories
from tests.shares import share

FREE = {"controller": "none"}
WHITENED = ("reinforce_pp", "copo", "constrained")  # hardly any advantage is 0
OBJECTIVES: dict[str, Mapping[str, Any]] = {
    **{name: {"preset": name} for name in PRESETS if name not in WHITENED},
    "repo_r batch": {"preset": "repo_r", "centre": "batch", "strength": 0.3, **FREE},
    "repo_r exact": {"preset": "repo_r", "centre": "exact", "strength": 0.3, **FREE},
    "repo batch": {"preset": "repo", "centre": "batch", "strength": 0.1, **FREE},
    "constant": {"preset": "dr_grpo", "dual_clip": 3.0, "tis_cap": None},
    "sequences": {"preset": "rloo", "aggregation": "seq_mean_token_sum", "ratio": "reinforce"},
}
# those that act on rows without an advantage, or may
PUSHING = {
    "repo",
    "repo_adaptive",
    "repo_d",
    "repo batch",
    "entropy_bonus",
    "skywork",
    "siren",
    "epo",
    "dppo",
}
PUSHING |= {"disco", "drpo"}


class Everything(Objective):
    """The same objective for a learner that runs every row."""

    @property
    def leaves_silent_rows_alone(self) -> bool:
        return False


def updated(
    kind: type[Objective],
    options: Mapping[str, Any],
    seed: int = 0,
    spread: float = 0.5,
    **learner_options: Any,
) -> tuple[Tensor, list[UpdateReport], Batch]:
    """Do two steps of a float64 policy; the weights show the gradients, the second step the moments too."""
    policy = random_policy()
    policy.model.double()
    config = LearnerConfig.model_validate({"lr": 1e-4, "warmup": 0, "clip_norm": 1e9, **learner_options})
    objective = kind(ObjectiveConfig.model_validate(options))
    learner = Learner(policy, config.resolved(PolicyConfig()), keeps_reference="lp_ref" in objective.needs)
    reports = []
    for step_seed, step_spread in ((seed, 0.7), (seed + 100, spread)):
        played = random_trajectories(len(policy.tokenizer), seed=step_seed, spread=step_spread)
        batch = objective.prepare(played, learner.reference_lp)
        reports.append(learner.update(batch, objective))
    # weights move by the sign of a gradient at first, whatever its size: moments tell more
    moments = [learner.optimizer.adam.state[m]["exp_avg"] for m in learner.optimizer.masters.values()]
    return torch.cat([m.flatten() for m in moments]), reports, batch


@pytest.mark.parametrize("name", share(OBJECTIVES, 3))
@pytest.mark.parametrize("cut", [{}, {"updates": 2, "micro_tokens": 40}])
def test_the_gradient_is_that_of_all_rows(name: str, cut: dict[str, int]) -> None:
    expected, all_reports, batch = updated(Everything, OBJECTIVES[name], seed=len(name), **cut)
    found, reports, _ = updated(Objective, OBJECTIVES[name], seed=len(name), **cut)
    assert float(expected.norm()) > 1e-6
    assert float((found - expected).norm()) < 1e-6 * float(expected.norm())
    for some, every in zip(reports, all_reports, strict=True):
        assert some.loss == pytest.approx(every.loss, abs=1e-6)
        assert some.grad_norm == pytest.approx(every.grad_norm, rel=1e-6)
    silent = int((~batch.has_advantage).sum())
    assert silent > 0
    assert reports[1].num_rows_run == len(batch.reward_B) - (0 if name in PUSHING else silent)
    assert (all_reports[1].num_rows_run, reports[1].num_rows) == (len(batch.reward_B),) * 2
    assert (reports[1].num_tokens_fed < all_reports[1].num_tokens_fed) is (name not in PUSHING)


@pytest.mark.parametrize("updates", [1, 2])
def test_metrics_that_do_not_ask_for_log_probs_are_means_over_all_tokens(updates: int) -> None:
    _, every, _ = updated(Everything, OBJECTIVES["rloo"], updates=updates)
    _, some, batch = updated(Objective, OBJECTIVES["rloo"], updates=updates)
    for name in ("loss_value", "clip_frac", "advantage_abs"):
        assert some[1].sums[name] == pytest.approx(every[1].sums[name], rel=1e-5)
    num_run = int(batch.mask_BT[batch.has_advantage].sum())
    for name in ("sampler_gap_mean", "sampler_kl", "tis_weight_mean", "tis_capped_frac"):
        assert some[1].sums[name][1] == num_run < every[1].sums[name][1]


@pytest.mark.parametrize("name", ["rloo", "repo_r batch"])
@pytest.mark.parametrize("updates", [1, 3])
def test_a_step_of_silent_rows_alone_still_moves_by_its_momentum(name: str, updates: int) -> None:
    expected, all_reports, _ = updated(Everything, OBJECTIVES[name], spread=0.0, updates=updates)
    found, reports, batch = updated(Objective, OBJECTIVES[name], spread=0.0, updates=updates)
    assert not batch.advantage_BT.any()
    assert float(expected.norm()) > 1e-6
    assert float((found - expected).norm()) < 1e-6 * float(expected.norm())
    assert (reports[1].num_rows_run, reports[1].num_updates, reports[1].loss) == (0, updates, 0.0)
    assert reports[1].grad_norm == all_reports[1].grad_norm == 0.0
    assert reports[1].sums["advantage_abs"] == (0.0, float(batch.mask_BT.sum()))
    assert not reports[1].maxima


def test_rows_without_a_policy_token_are_not_run_by_anybody() -> None:
    policy = random_policy()
    learner = Learner(policy, LearnerConfig().resolved(PolicyConfig()))
    objective = Everything(ObjectiveConfig.model_validate("repo"))
    batch = objective.prepare(random_trajectories(len(policy.tokenizer)))
    mask_BT = batch.mask_BT.clone()
    mask_BT[3:6] = False
    report = learner.update(replace(batch, mask_BT=mask_BT), objective)
    assert (report.num_rows, report.num_rows_run) == (len(mask_BT), len(mask_BT) - 3)
    assert report.sums["sampler_gap_mean"][1] == int(mask_BT.sum())
