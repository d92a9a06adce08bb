from dataclasses import replace

import pytest
import torch

from policies.objectives import Objective, ObjectiveConfig, ObjectiveError
from policies.objectives.estimators import constrained, rloo, weighted
from policies.objectives.parts import Outcomes
from tests.policies.objectives.steps import trajectories
from tests.policies.objectives.surrogates.case import random_case
from tests.policies.objectives.worked import f64, memory, outcomes

PLAIN = constrained.Config(constrained_momentum=0)


def scored(**components: list[float]) -> Outcomes:
    num = len(next(iter(components.values())))
    named = {name: f64(values) for name, values in components.items()}
    return outcomes([0] * num, components=named)


def test_weights_and_advantage() -> None:
    """Reference: objectives.md 4.3."""
    found = constrained.combine({"a": f64([1]), "b": f64([-0.5])}, {"a": 0, "b": 1}, f64([[0.2]]))
    assert float(found) == pytest.approx(0.288259, abs=1e-6)


@pytest.mark.parametrize(
    ("multiplier", "mean", "target", "expected"), [(0, 0.30, 0.23, -0.007), (1, 0.40, 0.48, 1.008)]
)
def test_a_multiplier_moves_by_what_its_component_misses(
    multiplier: float, mean: float, target: float, expected: float
) -> None:
    """Reference: objectives.md 4.3."""
    after, _ = constrained.dual_step(multiplier, 0.0, mean - target, PLAIN)
    assert after == pytest.approx(expected, abs=1e-9)


def test_a_multiplier_stays_inside_its_bound() -> None:
    config = constrained.Config(constrained_bound=2)
    state = (0.0, 0.0)
    for _ in range(500):
        state = constrained.dual_step(*state, -0.5, config)
    assert state[0] == 2
    for _ in range(5):
        state = constrained.dual_step(*state, 1.0, config)
    assert state[0] < 2, "it turns at once"


def test_momentum_adds_a_share_of_the_last_change() -> None:
    once = constrained.dual_step(0.0, 0.0, 1.0, constrained.Config(constrained_momentum=0.5))
    twice = constrained.dual_step(*once, 1.0, constrained.Config(constrained_momentum=0.5))
    assert (once[0], twice[0]) == pytest.approx((-0.1, -0.1 - 0.15))


def test_multipliers_hold_in_the_step_and_move_for_the_next() -> None:
    config = constrained.Config(constrained_targets={"right": 0.5, "short": 0.5}, constrained_momentum=0)
    estimator, kept = constrained.create(config), memory()
    some = scored(right=[1, 1, 1, 0], short=[0, 0, 1, 0], ignored=[5, 5, 5, 7])
    first = estimator.apply(some, kept)
    advantages = [rloo.estimate(some.components[name], some.group_B) for name in ("right", "short")]
    torch.testing.assert_close(first[:, 0], 0.5 * advantages[0] + 0.5 * advantages[1])
    assert {name: mu for name, (mu, _) in kept.kept.items()} == pytest.approx({"right": -0.025, "short": 0.025})
    assert kept.log["constrained_weight_right"] == 0.5
    estimator.apply(some, kept)
    assert kept.log["constrained_weight_right"] == pytest.approx(0.493750, abs=1e-6)


def test_the_kl_takes_what_the_components_leave_token_by_token() -> None:
    config = constrained.Config(constrained_kl=0.1)
    estimator = constrained.create(config)
    assert estimator.needs == {"lp_ref"}
    some = outcomes([0], lengths=[2], components={"right": f64([1])}, kl_BT=f64([[0.2, 99]]))
    torch.testing.assert_close(estimator.apply(some, memory()), f64([[-0.01, -1]]))
    with pytest.raises(ObjectiveError, match="constrained_kl"):
        estimator.apply(scored(right=[1]), memory())
    assert not constrained.create(constrained.Config()).needs


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            {"tidy": 1.0},
            r"no score of a, b has a component `tidy` \(all that there are: right, short\).* \{a: rloo, b: rloo\}",
        ),
        ({"short": 1.0}, "scores of b have no component `short`.*every score has: right"),
    ],
)
def test_a_component_that_a_score_lacks_is_named_with_those_there_are(names: dict[str, float], message: str) -> None:
    some = outcomes(
        [0, 0],
        components={"right": f64([1, 0]), "short": f64([1, float("nan")])},
        arm_B=torch.tensor([0, 1]),
        arms=("a", "b"),
    )
    parts = [
        constrained.create(constrained.Config(constrained_targets=names)),
        weighted.create(weighted.Config(weighted_components=names)),
    ]
    for part in parts:
        with pytest.raises(ObjectiveError, match=message):
            part.apply(some, memory())


def test_scores_without_components_are_refused() -> None:
    some = outcomes([1, 0], arm_B=torch.tensor([1, 2]), arms=("judged/easy", "book/4", "book/5"))
    with pytest.raises(ObjectiveError, match=r"no score of book has any: .* `objective: \{by: \{book: rloo\}\}`"):
        weighted.create(weighted.Config()).apply(some, memory())


def test_weights_move_by_influence() -> None:
    """Reference: objectives.md 13.4."""
    found = weighted.moved([0.5, 0.3, 0.2], [2, 1, -1], 1.0)
    assert found == pytest.approx([0.806034, 0.177914, 0.016052], abs=1e-6)


def test_the_order_of_weights_changes_no_bit() -> None:
    """A checkpoint has them by name, the options in their own order."""
    one = weighted.moved([0.5, 0.3, 0.2], [2, 2, 1], 1.0)
    assert one == weighted.moved([0.2, 0.3, 0.5], [1, 2, 2], 1.0)[::-1]


def test_influence_of_gradients() -> None:
    """Reference: objectives.md 13.4."""
    gradients = f64([[1, 0], [0.5, 0.5], [-1, 0.2]])
    rows = dict(zip("abc", (gradients @ gradients.T).tolist(), strict=True))
    products = {name: dict(zip("abc", row, strict=True)) for name, row in rows.items()}
    assert weighted.influence(products) == pytest.approx({"a": 0.5, "b": 0.6, "c": -0.36})


def test_weights_are_kept_and_moved_by_whoever_has_the_gradients() -> None:
    config = weighted.Config(weighted_components={"a": 5, "b": 3, "c": 2})
    estimator, kept = weighted.create(config), memory()
    some = scored(a=[1, 0], b=[0, 1], c=[1, 1])
    torch.testing.assert_close(estimator.apply(some, kept), f64([0.2, -0.2]))
    assert weighted.update_weights(kept.kept, {"a": 2, "b": 1, "c": -1}, config)["a"] == pytest.approx(0.806034)
    found = estimator.apply(some, kept)
    torch.testing.assert_close(found, f64([1, -1]) * (0.806034 - 0.177914), atol=1e-6, rtol=0)
    assert kept.log["weighted_weight_c"] == pytest.approx(0.016052, abs=1e-6)


def test_other_components_begin_anew_and_other_influences_are_refused() -> None:
    estimator, kept = weighted.create(weighted.Config()), memory()
    estimator.apply(scored(a=[1, 0], b=[0, 1]), kept)
    with pytest.raises(ObjectiveError, match=r"influences of \['a', 'c'\]"):
        weighted.update_weights(kept.kept, {"a": 1, "c": 1}, weighted.Config())
    estimator.apply(scored(c=[1, 0]), kept)
    assert kept.kept == {"weights": {"c": 1.0}}


def test_a_weight_that_could_never_move_is_refused() -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        weighted.Config(weighted_components={"a": 0})


@pytest.mark.parametrize("preset", ["constrained", "weighted"])
def test_a_slash_in_a_components_name_is_not_taken_for_an_environments(preset: str) -> None:
    objective = Objective(ObjectiveConfig.model_validate({"preset": preset}), seed=0)
    case = random_case(0)
    rows = [
        replace(row, components={"form/json": float(k % 2), "right": 1.0}) for k, row in enumerate(trajectories(case))
    ]
    objective.prepare(rows, lambda batch: case.lp_ref_BT)
    told = objective.observe(None)
    assert f"{preset}_weight_form.json" in told
    assert not any("/" in name for name in told)
