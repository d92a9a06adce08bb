import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from policies.objectives import Objective, ObjectiveConfig, ObjectiveError, ShapedRows
from policies.objectives.contracts import Trajectory
from policies.objectives.padding import outcomes_of, pad
from tests.policies.objectives.worked import P_NEW, P_OLD, P_ROLL, f64, rows, totals_of, two_by_two


def make(**section: object) -> Objective:
    return Objective(ObjectiveConfig.model_validate(section))


def trajectory(reward: float, group: int, length: int = 5, prompt: int = 2) -> Trajectory:
    mask = np.arange(length) >= prompt
    logprobs = np.where(mask, -0.5, np.nan).astype(np.float32)
    return Trajectory(np.arange(length), mask, logprobs, None, reward, group)


FIXTURE = rows([[1, 1], [-1, -1]], two_by_two(P_NEW), two_by_two(P_OLD), two_by_two(P_ROLL))


def part(some: ShapedRows, b: int) -> ShapedRows:
    return rows(
        some.advantage_BT[b : b + 1].tolist(),
        some.lp_BT[b : b + 1].exp().tolist(),
        some.lp_old_BT[b : b + 1].exp().tolist(),
        some.lp_roll_BT[b : b + 1].exp().tolist(),
    )


def test_advantages_of_the_worked_step() -> None:
    """Reference: objectives.md 17.1."""
    batch = make(preset="rloo").prepare([trajectory(1, 0), trajectory(0, 0)])
    assert batch.advantage_BT.tolist() == [[0, 0, 1, 1, 1], [0, 0, -1, -1, -1]]


@pytest.mark.parametrize(
    ("section", "w", "loss"),
    [
        ({"preset": "repo_r", "strength": 0.05}, [0, 0.139391, -0.249359, -1.409702], -1.389073),
        ({"preset": "rloo"}, [0, 0.125, -0.25, -1.5], None),
    ],
    ids=["repo_r", "rloo"],
)
def test_coefficients_of_the_worked_step(section: dict[str, object], w: list[float], loss: float | None) -> None:
    """Reference: objectives.md 17.1."""
    found = make(**section).coefficients(FIXTURE, totals_of(FIXTURE))
    torch.testing.assert_close(found.w_BT.flatten(), f64(w), atol=1e-6, rtol=0)
    if loss is not None:
        assert -float((found.w_BT * FIXTURE.lp_BT).sum()) == pytest.approx(loss, abs=2e-6)


def test_two_micro_batches_give_the_same_gradient_and_metrics() -> None:
    """Reference: objectives.md 17.1."""
    objective, totals = make(preset="repo_r", strength=0.05), totals_of(FIXTURE)
    whole = objective.coefficients(FIXTURE, totals)
    parts = [objective.coefficients(part(FIXTURE, b), totals) for b in range(2)]
    torch.testing.assert_close(torch.cat([p.w_BT for p in parts]), whole.w_BT)
    for name, (total, count) in whole.sums.items():
        assert sum(p.sums[name][0] for p in parts) == pytest.approx(total)
        assert sum(p.sums[name][1] for p in parts) == pytest.approx(count)
    assert {name: max(p.maxima[name] for p in parts) for name in whole.maxima} == whole.maxima


def test_metrics_of_the_fixture() -> None:
    found = make(preset="rloo").coefficients(FIXTURE, totals_of(FIXTURE))
    gap = [math.log(old / roll) for old, roll in zip(P_OLD, P_ROLL, strict=True)]
    means = {name: total / count for name, (total, count) in found.sums.items()}
    kept, changed = 0.5 + 0.95 / 0.9 + 3, (1 - 0.9 / 0.95) * 0.95 / 0.9 + 3  # of rho A, token 1 being clipped
    assert means == pytest.approx(
        {
            "loss_value": (-1.28 / 0.9 - 0.5 + 1 + 6) / 4,
            "clip_frac": 0.25,
            "clip_high_frac": 0.25,
            "clip_low_frac": 0.0,
            "advantage_abs": 1.0,
            "sampler_gap_mean": sum(map(abs, gap)) / 4,
            "sampler_kl": sum(math.exp(d) - 1 - d for d in gap) / 4,
            "tis_weight_mean": (1 / 0.9 + 1 + 0.9 / 0.95 + 2) / 4,
            "tis_capped_frac": 0.25,
            "tis_weight_squared": (1 / 0.81 + 1 + 0.81 / 0.9025 + 4) / 4,
            "force_estimator": kept / (kept + changed),
            "force_tis": changed / (kept + changed),
        }
    )
    assert found.maxima == pytest.approx({"sampler_gap_max": math.log(5), "tis_weight_max": 2.0})


def test_a_micro_batch_without_tokens_of_the_policy_is_empty_not_nan() -> None:
    some = rows([[1, 1]], [[0.5, 0.5]], entropy=[[1, 1]], mask=[[False, False]])
    found = make(preset="entropy_bonus").coefficients(some, totals_of(FIXTURE))
    assert found.w_BT.tolist() == [[0, 0]]
    assert found.k_BT is not None
    assert found.k_BT.tolist() == [[0, 0]]
    assert found.sums["loss_value"] == (0, 0)
    assert found.maxima == {"sampler_gap_max": 0, "tis_weight_max": 0}


def test_coefficients_carry_no_gradient() -> None:
    some = replace(FIXTURE, lp_BT=FIXTURE.lp_BT.clone().requires_grad_())
    assert not make(preset="repo_r").coefficients(some, totals_of(FIXTURE)).w_BT.requires_grad


def test_float32_in_float32_out() -> None:
    some = rows([[1, -1]], [[0.3, 0.6]], entropy=[[1, 2]])
    names = ("advantage_BT", "lp_BT", "lp_old_BT", "lp_roll_BT", "entropy_BT")
    single = replace(some, **{name: getattr(some, name).float() for name in names})
    found = make(preset="entropy_bonus", shaper="repo").coefficients(single, totals_of(single))
    assert found.k_BT is not None
    assert found.w_BT.dtype == found.k_BT.dtype == torch.float32


def test_prepare_pads_on_the_right_and_blanks_what_the_policy_did_not_write() -> None:
    batch = make(preset="rloo").prepare([trajectory(1, 0, length=4), trajectory(0, 0, length=6, prompt=3)])
    assert batch.ids_BT.tolist() == [[0, 1, 2, 3, 0, 0], [0, 1, 2, 3, 4, 5]]
    assert batch.mask_BT.tolist() == [[False] * 2 + [True] * 2 + [False] * 2, [False] * 3 + [True] * 3]
    assert batch.lp_roll_BT.tolist() == [[0, 0, -0.5, -0.5, 0, 0], [0, 0, 0, -0.5, -0.5, -0.5]]
    assert batch.length_B.tolist() == [4, 6]
    assert batch.lp_roll_BT.dtype == batch.advantage_BT.dtype == torch.float32
    assert batch.reward_B.dtype == torch.float64


def test_rewards_are_compared_in_double_precision_and_cast_as_advantages() -> None:
    """Three that float32 cannot tell apart: 2^24, 2^24 + 1, 2^24 + 3 / 4."""
    rewards = [2.0**24, 2.0**24 + 1, 2.0**24 + 0.75]
    batch = make(preset="rloo").prepare([trajectory(r, 0) for r in rewards])
    mean = sum(rewards) / 3
    assert batch.advantage_BT[:, -1].tolist() == pytest.approx([1.5 * (r - mean) for r in rewards], rel=1e-6)


def test_the_distance_from_the_reference_is_taken_in_double_precision() -> None:
    """Of two float32 numbers, 0.5 and 1e-9, the difference has more digits than float32."""
    one = replace(pad([trajectory(1, 0)]), lp_ref_BT=torch.full((1, 5), -1e-9))
    own = outcomes_of(one, [trajectory(1, 0)])
    expected = -0.5 + float(torch.tensor(1e-9))
    assert own.kl_BT is not None
    assert own.kl_BT[0, -1].item() == expected != -0.5


def test_groups_with_missing_members_are_compared_and_lone_ones_counted() -> None:
    batch = make(preset="rloo").prepare([trajectory(r, g) for r, g in [(1, 3), (0.5, 8), (0, 3), (0.5, 3)]])
    assert batch.advantage_BT.sum(-1).sign().tolist() == [1, 0, -1, 0]
    assert batch.advantage_BT.abs().amax(-1).tolist() == [0.75, 0, 0.75, 0]


def test_a_batch_without_trajectories_is_refused() -> None:
    with pytest.raises(ObjectiveError, match="no trajectories"):
        make(preset="rloo").prepare([])


def test_observing_moves_the_coefficient_of_the_next_step() -> None:
    objective, totals = make(preset="repo_r"), totals_of(FIXTURE)
    before = objective.coefficients(FIXTURE, totals).w_BT
    assert objective.observe(0.5) == {
        "coefficient": 1e-3,
        "coefficient_at_bound": 0.0,
        "entropy_target": 1.0,
        "entropy_reading": 0.5,
    }
    after = objective.coefficients(FIXTURE, totals).w_BT
    expected = make(preset="repo_r", strength=2e-3).coefficients(FIXTURE, totals).w_BT
    assert not torch.equal(before, after)
    assert torch.equal(after, expected)


@pytest.mark.parametrize("reading", [None, math.nan])
def test_observing_nothing_changes_nothing(reading: float | None) -> None:
    objective = make(preset="repo_r")
    before = objective.state()
    assert "entropy_reading" not in objective.observe(reading)
    assert objective.state() == before


def test_without_a_controller_there_is_nothing_to_observe() -> None:
    objective = make(preset="rloo")
    assert objective.observe(0.5) == {}


def test_the_controller_moves_the_entropy_bonus() -> None:
    objective, some = make(preset="entropy_bonus"), rows([[1, -1]], [[0.3, 0.6]], entropy=[[1, 2]])
    objective.observe(0.5)
    found = objective.coefficients(some, totals_of(some)).k_BT
    assert found is not None
    assert found.tolist() == [pytest.approx([0.6e-3] * 2)]


def test_a_saved_objective_goes_on_as_if_uninterrupted() -> None:
    readings, totals = [0.9, 0.8, 1.2, 0.7, 1.1], totals_of(FIXTURE)
    whole, first, second = (make(preset="repo_r") for _ in range(3))
    expected = [whole.observe(reading) for reading in readings]
    for reading in readings[:2]:
        first.observe(reading)
    second.load_state(json.loads(json.dumps(first.state())))
    assert [second.observe(reading) for reading in readings[2:]] == expected[2:]
    assert torch.equal(second.coefficients(FIXTURE, totals).w_BT, whole.coefficients(FIXTURE, totals).w_BT)


def test_a_state_of_another_objective_is_refused() -> None:
    with pytest.raises(ObjectiveError, match="unexpected"):
        make(preset="rloo").load_state({"controllers": [], "history": {}})


@pytest.mark.parametrize(
    ("parent", "fork"),
    [
        ({"preset": "adapo"}, {"preset": "repo"}),
        ({"preset": "adapo"}, {"preset": "entropy_bonus"}),
        ({"preset": "repo"}, {"preset": "repo_r", "controller": "geometric"}),
        ({"preset": "repo"}, {"preset": "repo", "controller": {"type": "geometric", "target_in": "nats"}}),
        ({"preset": "repo"}, {"preset": "repo", "controller": {"type": "geometric_signed"}}),
        ({"preset": "repo"}, {"preset": "rloo"}),
        ({"preset": "rloo"}, {"preset": "repo"}),
    ],
)
def test_controllers_that_move_or_read_something_else_begin_anew(parent: Any, fork: Any) -> None:
    before, after, fresh = make(**parent), make(**fork), make(**fork)
    for _ in range(8):
        before.observe(0.5)
    assert after.load_state(json.loads(json.dumps(before.state()))) == ["the objective's controllers"]
    assert after.state()["controllers"] == fresh.state()["controllers"]
    assert (after.controlled, after.observe(0.5)) == (fresh.controlled, fresh.observe(0.5))


def test_controllers_with_other_options_go_on_within_their_bounds() -> None:
    before, after = make(preset="repo"), make(preset="repo", controller={"type": "geometric", "high": 0.01})
    for _ in range(30):
        before.observe(0.5)
    assert (before.controlled["strength"], after.load_state(before.state())) == (0.1, [])
    assert after.controlled["strength"] == 0.01


def test_controllers_of_earlier_versions_say_no_more_than_their_number() -> None:
    before, after = make(preset="repo"), make(preset="repo")
    before.observe(0.5)
    state = {name: one for name, one in before.state().items() if name != "movements"}
    assert (after.load_state(state), after.controlled) == ([], before.controlled)
    assert make(preset="rloo").load_state(state) == ["the objective's controllers"]


def test_a_state_of_before_there_was_a_memory_is_read() -> None:
    objective = make(preset="repo_r")
    objective.load_state({"controller": {"value": 0.004}})
    assert objective.observe(None)["coefficient"] == 0.004


def test_the_description_is_plain_data_with_every_option() -> None:
    described = make(preset="repo", controller="none", centre="batch").describe()
    assert json.loads(json.dumps(described)) == described
    assert described["controllers"] == []
    expected = {"strength": 1e-3, "centre": "batch", "per": "token", "per_environment": False}
    assert expected in [part["options"] for part in described["parts"]]
    assert described["warnings"]
