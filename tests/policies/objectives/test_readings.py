from dataclasses import replace

import numpy as np
import pytest
import torch

from policies.objectives import Objective, ObjectiveConfig, ShapedRows, Totals
from policies.objectives.statistics import surprisal, surprisal_by_arm
from policies.samplers.vllm import top_entropy
from tests.policies.objectives.worked import f64, rows, totals_of

P = [0.7, 0.2, 0.1]
DRAWN = [0.7, 0.7, 0.2]  # tokens 1, 1, 2
WEIGHTS = [1.2, 0.9, 1.1]


def test_the_entropy_of_the_worked_distribution() -> None:
    """Reference: objectives.md 12.1."""
    p = f64(P)
    assert float(-(p * p.log()).sum()) == pytest.approx(0.801819, abs=1e-6)


@pytest.mark.parametrize(
    ("weights", "expected"), [([1.0, 1.0, 1.0], 0.774263), (WEIGHTS, 0.839800)], ids=["surprisal", "weighed"]
)
def test_the_mean_surprisal_of_the_worked_draws(weights: list[float], expected: float) -> None:
    """Reference: objectives.md 12.1."""
    lp = f64(DRAWN).log()
    found = surprisal(lp, lp - f64(weights).log())
    assert float(found.mean()) == pytest.approx(expected, abs=1e-6)


def test_self_normalised_is_another_number() -> None:
    """Reference: objectives.md 12.1."""
    lp, weights = f64(DRAWN).log(), f64(WEIGHTS)
    found = surprisal(lp, lp - weights.log()).sum() / weights.sum()
    assert float(found) == pytest.approx(0.787312, abs=1e-6)


def test_a_top_k_cut_makes_surprisal_another_number() -> None:
    """Reference: objectives.md 12.1."""
    logprobs = np.log(np.array([[0.5, 0.25, 0.15, 0.07, 0.03]], np.float32))
    partial = -(np.exp(logprobs) * logprobs)[:, :3].sum()
    assert partial == pytest.approx(0.977715, abs=1e-6)
    assert top_entropy(logprobs[:, :3]) == pytest.approx(1.207974, abs=1e-6)
    assert top_entropy(logprobs) == pytest.approx(1.269060, abs=1e-6)
    assert top_entropy(np.array([[0.0, -np.inf]], np.float32)) == [0.0], "nothing else can be drawn"


def test_the_weighed_surprisal_is_unbiased_for_the_learners_entropy() -> None:
    learner, sampler = f64(P).log(), f64([0.3, 0.3, 0.4]).log()
    expectation = (sampler.exp() * surprisal(learner, sampler)).sum()
    assert float(expectation) == pytest.approx(0.801819, abs=1e-6)


def test_a_log_ratio_is_clamped() -> None:
    assert float(surprisal(f64([-1.0]), f64([-50.0]))) == pytest.approx(torch.tensor(20.0).double().exp().item())


def of_two_arms() -> tuple[ShapedRows, Totals]:
    mask = [[True, True], [True, False], [True, True]]
    some = rows([[1, 1]] * 3, [[0.7, 0.7], [0.2, 0.9], [0.5, 0.5]], mask=mask)
    roll_BT = some.lp_old_BT - f64([[1.2, 0.9], [1.1, 1.0], [1.0, 1.0]]).log()
    some = replace(some, lp_roll_BT=roll_BT, arm_B=torch.tensor([2, 2, 0]))
    return some, replace(totals_of(some), arms=("one/a", "one/b", "two/c"))


def test_sums_are_by_arm_and_an_arm_without_tokens_has_none() -> None:
    some, totals = of_two_arms()
    found = surprisal_by_arm(some, totals)
    assert {arm: count for arm, (_, count) in found.items()} == {"one/a": 2, "two/c": 3}
    assert found["two/c"][0] / 3 == pytest.approx(0.839800, abs=1e-6)


def test_only_an_objective_that_reads_it_so_surveys_the_step_for_it() -> None:
    some, totals = of_two_arms()
    for source, expected in (("surprisal_iw", {"one/a", "two/c"}), ("sampler", set())):
        objective = Objective(ObjectiveConfig.model_validate({"preset": "rloo", "entropy": source}))
        assert ("step" in objective.needs) == bool(expected)
        assert set(objective.survey(some, totals).surprisal) == expected


def test_padding_does_not_reach_the_sums() -> None:
    some, totals = of_two_arms()
    objective = Objective(ObjectiveConfig.model_validate({"preset": "rloo", "entropy": "surprisal_iw"}))
    clean = objective.survey(some, totals).surprisal
    off = ~some.mask_BT
    junk = replace(
        some,
        lp_old_BT=some.lp_old_BT.masked_fill(off, float("nan")),
        lp_roll_BT=some.lp_roll_BT.masked_fill(off, float("inf")),
    )
    assert objective.survey(junk, totals).surprisal == clean
