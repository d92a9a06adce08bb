import json
from typing import Any

import pytest
import torch

from policies.objectives import ObjectiveConfig
from policies.objectives.objective import Objective
from policies.objectives.parts import Outcomes
from policies.objectives.reward_maps import ares, hypervolume, kl_reward, overlong, pear
from tests.policies.objectives.steps import trajectories
from tests.policies.objectives.surrogates.case import random_case
from tests.policies.objectives.worked import f64, memory, outcomes


def test_the_overlong_penalty_rises_linearly_in_the_buffer() -> None:
    """Reference: objectives.md 13.1."""
    config = overlong.Config(overlong_max_length=20, overlong_buffer=4)
    some = outcomes([1] * 6, lengths=[15, 16, 17, 18, 20, 30])
    found = overlong.create(config).apply(some, memory())
    assert found.tolist() == [1, 1, 0.75, 0.5, 0, 0]


def test_an_overlong_buffer_is_a_part_of_the_length() -> None:
    with pytest.raises(ValueError, match="is the last part of"):
        overlong.Config(overlong_max_length=20, overlong_buffer=21)


@pytest.mark.parametrize(("think", "answer", "expected"), [(0.6, 0.2, 0.4), (0.2, 0.5, 0)])
def test_pear_charges_correct_answers_for_uncertain_thinking(think: float, answer: float, expected: float) -> None:
    """Reference: objectives.md 13.2."""
    assert float(pear.penalty(f64([think]), f64([answer]), 1.0)) == pytest.approx(expected)


def test_pear_charges_correct_answers_for_their_two_phases() -> None:
    some = outcomes(
        [1, 0, 1, 1],
        lengths=[3, 3, 2, 0],
        entropy_BT=f64([[0.5, 0.7, 0.2], [0.5, 0.7, 0.2], [0.3, 0.5, 9], [9, 9, 9]]),
        is_answer_BT=torch.tensor([[False, False, True]] * 2 + [[False] * 3] * 2),
    )
    found = pear.create(pear.Config()).apply(some, memory())
    torch.testing.assert_close(found, f64([1 - 0.4, 0, 1 - 0.4, 1]))  # the third never closed its thinking


@pytest.mark.parametrize(
    ("difficulty", "is_correct", "count", "expected"),
    [
        ("easy", True, 30, -0.5),
        ("medium", True, 30, -0.21875),
        ("easy", False, 30, 0.291206),
        ("hard", True, 30, 0.597932),
        ("hard", True, 5, -0.163636),
        ("hard", False, 20, 0.3),
    ],
)
def test_the_ares_bonus_by_difficulty_and_correctness(
    difficulty: str, is_correct: bool, count: float, expected: float
) -> None:
    """Reference: objectives.md 13.3."""
    found = ares.bonus(f64([count - 20]), torch.tensor([is_correct]), 20, 0.5, difficulty)
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_hub_is_quadratic_then_linear() -> None:
    assert ares.hub(f64([0, 1, 2, 5]), 2.0).tolist() == [0, 0.25, 1, 4]


def thinking(entropies: list[list[float]], **given: Any) -> Outcomes:
    return outcomes(
        [0] * len(entropies), lengths=[len(entropies[0])] * len(entropies), entropy_BT=f64(entropies), **given
    )


def test_ares_threshold_is_a_running_mean_of_medians() -> None:
    part, kept = ares.create(ares.Config()), memory()
    part.apply(thinking([[1, 1], [2, 2], [5, 5]]), kept)
    assert kept.kept[""]["threshold"] == 2
    part.apply(thinking([[3, 3], [4, 4], [9, 9]]), kept)
    assert kept.kept[""]["threshold"] == pytest.approx(0.99 * 2 + 0.01 * 4)


def test_ares_moves_alphas_by_how_far_the_mean_is_from_its_rounding() -> None:
    """Counts of 1 and 0 and 0 above a threshold of 1: a mean of 1/3, rounded to a target of 0."""
    part, kept = ares.create(ares.Config()), memory()
    kept.kept[""] = {"threshold": 1.0, "alpha": {"easy": 0.1}}
    part.apply(thinking([[9, 0], [0, 0], [0, 0]]), kept)
    assert kept.kept[""]["alpha"] == {"easy": 0.1, "hard": pytest.approx(0.5 - 0.05 / 3)}
    assert kept.log["ares_bonus"] > 0


def test_ares_keeps_arms_apart() -> None:
    arms: dict[str, Any] = {"arm_B": torch.tensor([0, 1]), "arms": ("a", "b"), "groups": [0, 1]}
    kept = memory()
    ares.create(ares.Config()).apply(thinking([[1, 1], [4, 4]], **arms), kept)
    assert {arm: one["threshold"] for arm, one in kept.kept.items()} == {"a": 1, "b": 4}


def test_ares_without_a_token_earns_nothing() -> None:
    kept = memory()
    found = ares.create(ares.Config()).apply(outcomes([1, 0], lengths=[0, 0]), kept)
    assert found.tolist() == [1, 0]
    assert kept.kept[""]["threshold"] is None


@pytest.mark.parametrize(("point", "gain", "multiplier"), [([2, 1], 1, 1.642391), ([1, 1], 0, 0.5), ([-1, 9], 0, 0.5)])
def test_the_hypervolume_that_a_point_adds(point: list[float], gain: float, multiplier: float) -> None:
    """Reference: objectives.md 13.4."""
    found = hypervolume.added([[1, 2]], point, [0, 0])
    assert found == pytest.approx(gain)
    assert hypervolume.multiplier(found) == pytest.approx(multiplier, abs=1e-6)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], 0),
        ([[0.5, 2, 3]], 3),
        ([[1, 1, 1], [1, 1, 1]], 1),
        ([[2, 1, 1], [1, 2, 1], [1, 1, 2]], 4),
        ([[2, 2, 2], [1, 1, 1]], 8),
        ([[2, 2, -1]], 0),
    ],
)
def test_volumes_of_three_components(points: list[list[float]], expected: float) -> None:
    assert hypervolume.volume(points, [0, 0, 0]) == pytest.approx(expected)
    assert hypervolume.volume(hypervolume.pareto(points), [0, 0, 0]) == pytest.approx(expected)


def test_a_front_keeps_what_nothing_beats() -> None:
    assert hypervolume.pareto([[1, 2], [2, 1], [1, 1], [2, 1], [3, 1]]) == [[1, 2], [3, 1]]


def test_rewards_count_more_in_the_step_and_the_arm_that_found_something_new() -> None:
    components = {"right": f64([1, 0.5, 0.5, 0.5]), "short": f64([0, 1, 0.2, 0.2])}
    some = outcomes([1] * 4, components=components, arm_B=torch.tensor([0, 0, 1, 1]), arms=("a", "b"))
    part, kept = hypervolume.create(hypervolume.Config()), memory()
    first = part.apply(some, kept)
    factors = [hypervolume.multiplier(0.75 * 0.5), hypervolume.multiplier(0.5 * 0.2)]
    torch.testing.assert_close(first, f64([factors[0], factors[0], factors[1], factors[1]]))
    assert part.apply(some, kept).tolist() == [0.5] * 4
    assert kept.kept == {"a": [{"right": 0.75, "short": 0.5}], "b": [{"right": 0.5, "short": pytest.approx(0.2)}]}
    assert kept.log == {"hypervolume_multiplier": 0.5}


@pytest.mark.parametrize("is_named", [True, False], ids=["fork", "earlier version"])
def test_a_front_goes_on_where_its_components_are_named_in_another_order(is_named: bool) -> None:
    components = {"right": f64([1, 1]), "short": f64([0, 0.5])}
    some, kept = outcomes([1] * 2, components=components), memory()
    names = {"right": 0.0, "short": 0.0}
    hypervolume.create(hypervolume.Config(hypervolume_components=names)).apply(some, kept)
    (arm, front), *_ = kept.kept.items()
    if is_named:
        names = dict(reversed(names.items()))
    else:
        kept.kept[arm] = [list(point.values()) for point in front]
    forked = hypervolume.create(hypervolume.Config(hypervolume_components=names))
    assert forked.apply(some, kept).tolist() == [0.5] * 2, "nothing new was found"
    assert len(kept.kept[arm]) == 1


def test_kl_in_the_reward() -> None:
    """Reference: objectives.md 11.1."""
    part = kl_reward.create(kl_reward.Config(kl_reward=0.1))
    assert part is not None
    assert part.needs == {"lp_ref"}
    some = outcomes([1, 1], lengths=[2, 1], kl_BT=f64([[0.2, -0.1], [99, float("nan")]]))
    torch.testing.assert_close(part.apply(some, memory()), f64([1 - 0.01, 1 - 2]))


def test_no_kl_in_the_reward_asks_for_no_reference() -> None:
    assert kl_reward.create(kl_reward.Config(kl_reward=0)) is None


@pytest.mark.parametrize("preset", ["risk", "constrained", "weighted", "hypervolume", "ares"])
def test_what_is_remembered_survives_a_save(preset: str) -> None:
    """Two steps in a row, and the second one after a save and a load, say and give the same."""
    first, second = random_case(1), random_case(2)

    def step(objective: Objective, case: Any) -> Any:
        return objective.prepare(trajectories(case), lambda batch: case.lp_ref_BT).advantage_BT

    config = ObjectiveConfig.model_validate(preset)
    whole, saved = Objective(config), Objective(config)
    step(whole, first)
    saved.load_state(json.loads(json.dumps(whole.state())))
    torch.testing.assert_close(step(saved, second), step(whole, second), atol=0, rtol=0)
    assert saved.state() == whole.state()
    assert whole.observe(None)
    assert saved.observe(None) == whole.observe(None)


@pytest.mark.parametrize(
    ("parent", "changed", "part"),
    [
        ("risk", {"risk_bundle": 2}, "risk"),
        ("risk", {"reward": "correct"}, "risk"),
        ("weighted", {"weighted_components": {"format": 3, "right": 1}}, "weighted"),
        ("hypervolume", {"hypervolume_components": {"format": 0}}, "hypervolume"),
        ("ares", {"ares_alpha": 1.0}, "ares"),
        ("ares", {"temperature": 0.5}, "ares"),
    ],
)
def test_what_is_remembered_begins_anew_where_a_fork_gives_it_another_meaning(
    parent: str, changed: dict[str, Any], part: str
) -> None:
    """It does what a fresh objective does; an option that leaves the memory its meaning leaves it there."""
    first, second = (random_case(seed) for seed in (1, 2))
    temperature = changed.get("temperature", 1.0)
    options = {key: value for key, value in changed.items() if key != "temperature"}
    before = Objective(ObjectiveConfig.model_validate(parent))
    before.prepare(trajectories(first))
    forked, fresh = (
        Objective(ObjectiveConfig.model_validate({"preset": parent, **options}), 0, temperature) for _ in range(2)
    )
    state = json.loads(json.dumps(before.state()))
    assert state["memory"][part]
    assert forked.load_state(state) == [f"what `{part}` remembers"]
    assert torch.equal(
        forked.prepare(trajectories(second)).advantage_BT, fresh.prepare(trajectories(second)).advantage_BT
    )
    assert Objective(ObjectiveConfig.model_validate({"preset": parent, "clip_high": 0.5})).load_state(state) == []
    del state["memory_of"]
    assert forked.load_state(state) == [], "as earlier versions saved it"
