import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from policies.micro_batches import mini_batches
from policies.objectives import Objective, ObjectiveConfig, ObjectiveError, Totals
from policies.objectives.contracts import Trajectory
from policies.objectives.estimators import disco, drpo
from policies.objectives.shapers import disco as disco_shaper
from policies.objectives.terms import disco_constraint
from tests.policies.objectives.worked import f64, memory, outcomes, rows, surveyed

WRONG = f64([-0.6, -1.2])
RIGHT = f64([-0.5, -0.7])


@pytest.mark.parametrize(
    ("tau", "soft_maximum", "j", "weights"),
    [
        (10, -0.895501, 0.295501, [0.514996, 0.485004]),
        (1, -0.855659, 0.255659, [0.645656, 0.354344]),
    ],
)
def test_weights_of_wrong_answers(tau: float, soft_maximum: float, j: float, weights: list[float]) -> None:
    """Reference: objectives.md 15.1."""
    score_B, is_wrong_B = torch.cat([RIGHT, WRONG]), torch.tensor([False, False, True, True])
    found = disco_shaper.weigh(score_B, is_wrong_B, torch.zeros(4, dtype=torch.int64), tau)
    torch.testing.assert_close(found, f64([1, 1, *[2 * w for w in weights]]), atol=2e-6, rtol=0)
    value = tau * math.log(float((WRONG / tau).exp().mean()))
    assert (value, float(RIGHT.mean()) - value) == pytest.approx((soft_maximum, j), abs=1e-6)


def test_disco_b_is_the_estimator_alone() -> None:
    """Reference: objectives.md 15.1."""
    some = outcomes([1, 1, 0, 0])
    advantage_B = disco.estimate(some)  # four answers of one question
    assert advantage_B.tolist() == [2, 2, -2, -2]
    assert float((advantage_B * torch.cat([RIGHT, WRONG])).sum() / 4) == pytest.approx(0.3)


def test_the_constraint_is_silent_up_to_delta_and_grows_beyond() -> None:
    """Reference: objectives.md 15.1."""
    config = disco_constraint.Config()
    assert disco_constraint.factor(3e-4, config) == pytest.approx(0.2)
    term = disco_constraint.create(config)
    assert term is not None
    now = rows([[0, 0]], [[0.5 * math.exp(-3e-4)] * 2], [[0.5, 0.5]])
    added = term.apply(now, Totals(num_tokens=2, num_sequences=1, drift=3e-4))
    assert added.w_BT is not None
    torch.testing.assert_close(added.w_BT, f64([[0.2, 0.2]]))
    torch.testing.assert_close(added.value_BT, f64([[6e-5, 6e-5]]))


def test_inside_the_constraint_nothing_happens() -> None:
    term = disco_constraint.create(disco_constraint.Config())
    assert term is not None
    now = rows([[1]], [[0.5]])
    added = term.apply(now, Totals(num_tokens=1, num_sequences=1, drift=-0.1))
    assert added.w_BT is not None
    assert not added.w_BT.any()
    with pytest.raises(ObjectiveError, match=r"Totals\.drift"):
        term.apply(now, Totals(num_tokens=1, num_sequences=1))
    assert disco_constraint.create(disco_constraint.Config(disco_beta=0)) is None


def test_questions_without_a_comparison_stay_in_the_divisor() -> None:
    assert disco.estimate(outcomes([1, 1, 1, 0], [0, 0, 1, 1])).tolist() == [0, 0, 2, -2]
    assert disco.estimate(outcomes([1, 0, 1], [0, 0, 1])).tolist() == [1.5, -1.5, 0]


def test_an_answer_without_a_token_is_none() -> None:
    found = disco.create(disco.Config()).apply(outcomes([1, 0, 0], lengths=[2, 3, 0]), memory())
    assert found.tolist() == [2, -2, 0]


def test_the_shaper_takes_scores_of_the_whole_step_at_its_start() -> None:
    shaper = disco_shaper.create(disco_shaper.Config(disco_tau=1))
    old = [[math.exp(-0.6)] * 2, [math.exp(-1.2)] * 2, [0.3, 0.3], [0.9, 0.1]]
    new = [[0.5, 0.5]] * 4
    some = rows([[-2, -2], [-2, -2], [2, 2], [0, 0]], new, old)
    some = replace(some, group_B=torch.tensor([3, 3, 3, 5]))
    seen, totals = surveyed(shaper, some)
    found = shaper.apply(seen.advantage_BT, seen, totals).advantage_BT
    expected = f64([-4 * 0.645656, -4 * 0.354344, 2, 0])
    torch.testing.assert_close(found, expected[:, None].expand(4, 2), atol=1e-5, rtol=0)


def test_a_large_tau_weighs_all_wrong_answers_alike_and_one_alone_keeps_its_weight() -> None:
    score_B, group_B = f64([-1, -9, -3]), torch.tensor([0, 0, 1])
    is_wrong_B = torch.tensor([True, True, True])
    found = disco_shaper.weigh(score_B, is_wrong_B, group_B, 1e9)
    torch.testing.assert_close(found, f64([1, 1, 1]), atol=1e-8, rtol=0)
    assert disco_shaper.weigh(score_B, is_wrong_B, group_B, 1e-3).tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("strength", "weights"),
    [(0.1, [2.600440, 0.351931, 0.047629]), (1, [1.205279, 0.986799, 0.807922])],
)
def test_weights_of_correct_answers(strength: float, weights: list[float]) -> None:
    """Reference: objectives.md 15.2."""
    config = drpo.Config(drpo_lambda=strength, drpo_max_length=1000)
    preference_B = drpo.preference(torch.tensor([100, 300, 500]), config)
    torch.testing.assert_close(preference_B / preference_B.mean(), f64(weights), atol=1e-6, rtol=0)
    some = outcomes([1, 1, 1, 0], lengths=[100, 300, 500, 200])
    found = drpo.create(config).apply(some, memory())
    torch.testing.assert_close(found, f64([*[4 / 3 * w for w in weights], -4]), atol=1e-5, rtol=0)


def test_a_large_lambda_makes_it_disco() -> None:
    some = outcomes([1, 1, 0, 0], lengths=[1, 900, 5, 6])
    found = drpo.create(drpo.Config(drpo_lambda=1e9)).apply(some, memory())
    torch.testing.assert_close(found, disco.estimate(some))


@pytest.mark.parametrize("preset", ["disco", "drpo"])
@pytest.mark.parametrize("updates", [1, 2, 3])
def test_questions_of_an_update_weigh_alike_whatever_the_number_of_their_answers(preset: str, updates: int) -> None:
    """The advantages of a question's correct answers, over the answers of its update, are 1 over its questions."""
    objective = Objective(ObjectiveConfig.model_validate(preset))
    mask = np.array([False, True, True])
    logprobs = np.where(mask, -1.0, 0).astype(np.float32)
    played = [
        Trajectory(np.arange(3), mask, logprobs, None, float(k % 2), group, arm="e/a", correct=bool(k % 2))
        for group, size in enumerate((8, 2, 4, 6))
        for k in range(size)
    ]
    side = replace(played[0], group=4, advantage=0.25)
    batch = objective.prepare([*played, side, side])
    parts = mini_batches(batch.group_B, updates)
    advantage_BT = objective.advantages_of_updates(batch, parts)
    for part in parts:
        main_B = part[~batch.is_given_B[part]]  # type: ignore[index]
        weight_B = advantage_BT[main_B, 1].clamp(min=0) / len(main_B)
        questions = batch.group_B[main_B].unique()
        found = [float(weight_B[batch.group_B[main_B] == group].sum()) for group in questions]
        assert found == pytest.approx([1 / len(questions)] * len(questions))
        assert (advantage_BT[part][batch.is_given_B[part], 1] == 0.25).all()  # type: ignore[index]
    assert torch.equal(advantage_BT, batch.advantage_BT) == (updates == 1)
