"""Data plans: what they decide, and what side rows add to the loss (objectives.md 14)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from policies.config import LearnerConfig
from policies.learner import Learner
from policies.micro_batches import totals_of
from policies.objectives import Objective, ObjectiveConfig, ShapedRows, Totals
from policies.objectives.contracts import Trajectory
from policies.objectives.diagnostics import covariances
from policies.objectives.plans import dynamic_sampling, gvm, tempered
from policies.objectives.plans.gvm import largest_remainders, shares
from policies.objectives.plans.tempered import better_than_the_rest
from policies.samplers.testing import random_policy
from tests.policies.fakes import random_trajectories
from tests.policies.objectives.steps import trajectories
from tests.policies.objectives.surrogates.case import random_case

# 14.1


@pytest.mark.parametrize(
    ("rewards", "is_dropped"),
    [
        ([1.0, 1.0, 1.0], True),
        ([0.0, 0.0], True),
        ([0.3, 0.3, 0.3], True),
        ([True, True], True),
        ([0.0, 1.0], False),
        ([0.5, 0.5, 0.51], False),
        ([0.5], False),  # nothing to compare with is not "without spread"
        ([], False),
    ],
)
def test_groups_whose_rewards_are_all_equal_are_dropped(rewards: list[float], is_dropped: bool) -> None:
    """Reference: objectives.md 14.1."""
    plan = dynamic_sampling.create(dynamic_sampling.Config())
    assert plan.rounds == 10
    assert plan.drops(rewards) is is_dropped


# 14.2

NORMS, RATES = [2.0, 1.0, 1.0, 4.0], [0.25, 0.25, 1.0, 0.0]


def test_shares_by_gradient_norm_and_pass_rate() -> None:
    """Reference: objectives.md 14.2."""
    found = shares(RATES, NORMS, alpha=1e-3, beta=2.0)
    assert found == pytest.approx([0.570820, 0.285410, 0.143770, 0], abs=1e-6)
    assert largest_remainders(found, 32) == [18, 9, 5, 0]


def test_every_task_keeps_a_floor() -> None:
    """Reference: objectives.md 14.2."""
    plan = gvm.create(gvm.Config(gvm_floor=2))
    sizes = plan.sizes(RATES, NORMS, 32)
    assert sum(sizes) == 32
    assert min(sizes) == sizes[3] == 2, "where nothing was solved the floor is all there is"
    assert plan.sizes(RATES, NORMS, 6) == [2, 2, 1, 1], "two do not fit, one does"


@pytest.mark.parametrize(
    ("rates", "norms", "num", "sizes"),
    [
        ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0], 7, [3, 2, 2]),  # nobody asks: all get the same, the first the rest
        ([0.5, 0.5], [0.0, 0.0], 4, [2, 2]),
        ([0.0], [0.0], 5, [5]),
        ([], [], 0, []),
        ([1.0, 0.5, 0.5], [1.0, 1.0, 1.0], 0, [0, 0, 0]),
    ],
)
def test_tasks_that_nothing_solved_share_alike(
    rates: list[float], norms: list[float], num: int, sizes: list[int]
) -> None:
    """Reference: objectives.md 14.2."""
    assert gvm.create(gvm.Config(gvm_floor=0)).sizes(rates, norms, num) == sizes


@pytest.mark.parametrize("num", range(0, 40, 3))
@pytest.mark.parametrize("floor", [0, 1, 2])
def test_all_that_is_to_be_played_is_handed_out(num: int, floor: int) -> None:
    """Reference: objectives.md 14.2."""
    rng = np.random.default_rng(num)
    rates, norms = (rng.random(5) * rng.integers(0, 2, 5)).tolist(), rng.random(5).tolist()
    sizes = gvm.create(gvm.Config(gvm_floor=floor)).sizes(rates, norms, num)
    assert sum(sizes) == num
    assert min(sizes) >= min(floor, num // 5)


# 14.3


@pytest.mark.parametrize(("controller", "temperatures"), [("switch", [1.2, 1.2, 0.8]), ("affine", [1.2, 1.0, 0.8])])
def test_the_controller_sets_the_temperature_of_the_next_step(controller: str, temperatures: list[float]) -> None:
    """Reference: objectives.md 14.3."""
    section = {
        "preset": "scope",
        "controller": {"type": controller, "target": 0.5, "target_in": "fraction", "low": 0.8, "high": 1.2},
    }
    found = []
    for reading in (0.2, 0.5, 0.9):
        objective = Objective(ObjectiveConfig.model_validate(section))
        assert objective.plans[""]["tempered"].temperature == 1.0
        objective.observe(reading)
        found.append(objective.plans[""]["tempered"].temperature)
    assert found == pytest.approx(temperatures)


@pytest.mark.parametrize(
    ("temperature", "p", "entropy"),
    [(0.8, (0.849779, 0.150221), 0.423092), (1, (0.8, 0.2), 0.500402), (1.2, (0.760468, 0.239532), 0.550540)],
)
def test_cooler_is_surer(temperature: float, p: tuple[float, float], entropy: float) -> None:
    """Reference: objectives.md 14.3."""
    lp = torch.log_softmax(torch.tensor([0.8, 0.2], dtype=torch.float64).log() / temperature, -1)
    assert lp.exp().tolist() == pytest.approx(p, abs=1e-6)
    assert float(-(lp.exp() * lp).sum()) == pytest.approx(entropy, abs=1e-6)


@pytest.mark.parametrize(
    ("num", "share", "places"),
    [(8, 0.25, [3, 7]), (4, 1.0, [0, 1, 2, 3]), (3, 0.1, [2]), (1, 0.25, [0]), (10, 0.3, [2, 5, 9])],
)
def test_side_tasks_stand_at_even_distances(num: int, share: float, places: list[int]) -> None:
    """Reference: objectives.md 14.3."""
    assert tempered.create(tempered.Config(tempered_share=share)).places(num) == places


GROUPS = [
    [(1.0, True), (0.0, False), (1.0, True), (0.0, False)],
    [(1.0, True), (1.0, True)],  # all correct: none is better than the rest
    [(0.0, False), (0.5, False)],
    [(0.9, True), (1.0, True)],
    [],
]


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ({}, [(0, 0), (0, 2), (1, 0), (1, 1), (3, 0), (3, 1)]),
        ({"tempered_only_better": True}, [(0, 0), (0, 2), (3, 1)]),
        ({"tempered_most": 4}, [(0, 0), (0, 2), (1, 0), (1, 1)]),
        ({"tempered_most": 4, "tempered_temperature": 0.8}, [(0, 0), (0, 2)]),  # half as many cooler ones
    ],
)
def test_what_is_learned_from(options: dict[str, float], chosen: list[tuple[int, int]]) -> None:
    """Reference: objectives.md 14.3."""
    plan = tempered.create(tempered.Config.model_validate(options))
    assert plan.chosen(GROUPS, main=1.0) == chosen


def test_better_by_a_twentieth_of_the_spread() -> None:
    """Reference: objectives.md 14.3."""
    assert better_than_the_rest([1.0, 0.0]) == [True, False]
    assert better_than_the_rest([0.51, 0.5, 0.0, 1.0]) == [False, False, False, True]
    assert better_than_the_rest([1.0]) == better_than_the_rest([1.0][:1]) == [False]


def test_side_rows_get_alpha_and_change_nobody_elses_advantage() -> None:
    """Reference: objectives.md 14.3."""
    main = trajectories(random_case(0))
    side = [replace(one, group=100, advantage=0.25, reward=1.0) for one in main[:2]]
    objective = Objective(ObjectiveConfig.model_validate("scope"))
    alone = objective.prepare(main)
    both = objective.prepare([*main, *side])
    torch.testing.assert_close(both.advantage_BT[: len(main)], alone.advantage_BT, rtol=0, atol=0)
    expected_BT = 0.25 * both.mask_BT[len(main) :]
    torch.testing.assert_close(both.advantage_BT[len(main) :], expected_BT, rtol=0, atol=0)


def test_numbers_of_the_estimators_advantages_are_without_side_rows() -> None:
    policy = random_policy()
    main = random_trajectories(len(policy.tokenizer), spread=1.0)
    side = [replace(one, group=100, advantage=given) for one, given in zip(main[:3], (0.25, -8.0, 0.0), strict=True)]
    objective = Objective(ObjectiveConfig.model_validate("scope"))
    alone, both = (objective.prepare(played) for played in (main, [*main, *side]))
    assert covariances(both) == covariances(alone)
    assert covariances(objective.prepare(side)) == {"": (0, 0)} | dict.fromkeys(both.arms, (0, 0))
    one, other = (totals_of(batch, None, {}) for batch in (alone, both))
    assert (other.signal, other.signals) == (one.signal, one.signals)
    assert other.num_tokens > one.num_tokens

    def told(played: list[Trajectory]) -> dict[str, tuple[float, float]]:
        learner = Learner(random_policy(), LearnerConfig(lr=1e-3, betas=(0.9, 0.99), micro_tokens=64))
        return dict(learner.learn(played, objective).sums)

    assert told([*main, *side])["advantage_abs"] == pytest.approx(told(main)["advantage_abs"])
    assert "advantage_abs" not in {name for name, (_, count) in told(side).items() if count}


def test_an_environment_of_side_rows_alone_has_no_signal() -> None:
    main = random_trajectories(256, spread=1.0)
    side = [replace(one, arm="hot/", group=100, advantage=0.5) for one in main[:3]]
    batch = Objective(ObjectiveConfig.model_validate("scope")).prepare([*main, *side])
    assert totals_of(batch, None, {}).signals["hot"] == 0


def test_the_gradient_of_side_rows_is_alpha_times_a_weighted_score() -> None:
    """alpha * min(exp(lp_old - lp_roll), 2) * rho / N on a token of a side row, N tokens of all rows.

    Reference: objectives.md 14.3.
    """
    case = random_case(1)
    main = trajectories(case)
    hot = replace(main[0], logprobs=main[0].logprobs - np.float32(1), group=100, advantage=1 / 64)
    objective = Objective(ObjectiveConfig.model_validate("scope"))
    batch = objective.prepare([*main, hot])
    at = [*range(len(main)), 0]
    lp_old_BT = case.lp_old_BT[at]
    lp_BT = (lp_old_BT + 0.1).requires_grad_()
    rows = ShapedRows(
        mask_BT=batch.mask_BT,
        advantage_BT=batch.advantage_BT.double(),
        lp_BT=lp_BT.detach(),
        lp_old_BT=lp_old_BT,
        lp_roll_BT=batch.lp_roll_BT.double(),
        group_B=batch.group_B,
    )
    num_tokens = int(batch.mask_BT.sum())
    w_BT = objective.coefficients(rows, Totals(num_tokens, int(batch.mask_BT.any(-1).sum()))).w_BT
    own_T = batch.mask_BT[-1]
    gap_T = lp_old_BT[-1] - torch.from_numpy(hot.logprobs).double()
    side_loss = -((lp_BT[-1] - lp_old_BT[-1]).exp() * gap_T.exp().clamp(max=2) / 64)[own_T].sum() / num_tokens
    (gradient,) = torch.autograd.grad(side_loss, lp_BT)
    torch.testing.assert_close(w_BT[-1][own_T], -gradient[-1][own_T], rtol=1e-6, atol=1e-12)


def test_a_batch_of_side_rows_alone_is_prepared() -> None:
    ids = np.arange(4)
    mask = ids >= 2
    row = Trajectory(ids, mask, np.zeros(4, np.float32), None, 1.0, 0, advantage=0.5)
    batch = Objective(ObjectiveConfig.model_validate("scope")).prepare([row])
    assert batch.advantage_BT.tolist() == [[0, 0, 0.5, 0.5]]
