import json

import pytest
import torch
from pydantic import ValidationError

from policies.config import LearnerConfig
from policies.learner import Learner
from policies.objectives import EntropyReading, Objective, ObjectiveConfig
from policies.objectives.config import ControllerConfig
from policies.samplers.testing import random_policy
from tests.policies.fakes import random_trajectories
from tests.policies.objectives.steps import begun
from tests.policies.objectives.surrogates.case import random_case

BOTH = {
    "preset": "repo_r",
    "kl": 0.1,
    "controllers": [
        {"type": "geometric_signed", "target": 0.5},
        {"type": "adaptive_kl", "target": 0.2, "horizon": 256},
    ],
}
READ = EntropyReading(fraction=0.4, nats=1.5, raw=0.3)


def make(**given: object) -> Objective:
    return Objective(ObjectiveConfig.model_validate(given))


def of(*controllers: dict[str, object]) -> Objective:
    return make(preset="repo_r", controllers=controllers)


def test_each_controller_moves_its_own_coefficient_by_its_own_reading() -> None:
    objective = make(**BOTH)
    log = objective.observe(READ, {"kl_ref": 0.3, "loss": 1.0})
    assert log == {
        "entropy_reading": 0.4,
        "entropy_reading_nats": 1.5,
        "entropy_reading_raw": 0.3,
        "coefficient": 1e-3,
        "coefficient_at_bound": 0.0,
        "entropy_target": 0.5,
        "coefficient_2": 0.1,
        "coefficient_at_bound_2": 0.0,
        "control_target_2": 0.2,
    }
    log = objective.observe(READ, {})
    assert (log["coefficient"], log["coefficient_2"]) == (2e-3, pytest.approx(0.12))
    log = objective.observe(None, {"kl_ref": 0.1})
    assert (log["coefficient"], log["coefficient_2"]) == (4e-3, pytest.approx(0.12)), "no KL, it held"
    log = objective.observe(None)
    assert (log["coefficient"], log["coefficient_2"]) == (4e-3, pytest.approx(0.12 * 0.8))


def test_a_target_in_nats_is_compared_with_nats() -> None:
    controlling = of({"type": "geometric_signed", "target": 1.0, "target_in": "nats"})
    assert controlling.observe(READ, {})["entropy_target"] == 1.0
    assert controlling.controlled == {"strength": 5e-4}, "1.5 nats are above, .4 of the start would be below"
    controlling.observe(0.4, {})
    assert controlling.controlled == {"strength": 5e-4}, "a fraction says nothing about nats"


def test_a_target_that_is_not_known_yet_is_not_logged() -> None:
    controlling = of({"type": "geometric_signed", "target_in": "initial", "target_readings": 1})
    assert "entropy_target" not in controlling.observe(READ, {})
    assert controlling.observe(READ, {})["entropy_target"] == pytest.approx(0.4)


def test_a_schedule_goes_on_without_a_reading() -> None:
    controlling = of({"type": "schedule", "steps": 2})
    logs = [controlling.observe(None, {}) for _ in range(3)]
    assert logs == [{"coefficient": value, "coefficient_at_bound": 0.0} for value in (1e-3, 5e-4, 0.0)]


def test_adaptive_kl_is_made_for_the_coefficient_of_the_kl() -> None:
    config = ObjectiveConfig.model_validate({"preset": "repo_r", "kl": 0.1, "controller": "adaptive_kl"})
    assert config.knobs == ["kl"]
    with pytest.raises(ValidationError, match="above 0"):
        ObjectiveConfig.model_validate({"preset": "repo_r", "controller": "adaptive_kl"})


def test_a_term_that_its_controller_turns_off_and_on_is_asked_for_only_while_it_is_on() -> None:
    objective = make(
        preset="entropy_bonus",
        controller={"type": "sign_step", "start": 0.0, "target": 0.5, "gated": True, "knob": "entropy_bonus"},
    )
    assert "entropy_grad" not in objective.needs
    objective.observe(0.4)
    assert "entropy_grad" in objective.needs
    objective.observe(0.6)
    assert "entropy_grad" not in objective.needs


def test_a_kl_that_its_controller_turns_off_is_read_on_and_comes_back() -> None:
    controller = {"type": "dual_ascent", "metric": "kl_ref", "target": 1e-4, "rate": -1000.0}
    objective = make(preset="grpo", kl=1e-2, kl_form="k2", controller=controller)
    policy = random_policy()
    learner = Learner(policy, LearnerConfig(lr=3e-3, betas=(0.9, 0.99), micro_tokens=512), keeps_reference=True)
    coefficients, readings = [], []
    for step in range(4):
        metrics = learner.learn(random_trajectories(policy.model.config.vocab_size, seed=step), objective).metrics
        objective.observe(1.0, metrics)
        coefficients.append(objective.controlled["kl"])
        readings.append(metrics["kl_ref"])
    assert readings[0] == coefficients[0] == 0, "the policy is its own reference still"
    assert readings[-1] > 1e-4
    assert coefficients[-1] > 0


STRENGTHS: dict[str, dict[str, object]] = {
    "kl": {"preset": "grpo"},
    "siren_coefficient": {"preset": "siren"},
    "disco_beta": {"preset": "disco"},
    "epo_strength": {"preset": "epo"},
    "kl_cov_coefficient": {"preset": "kl_cov"},
    "lp_reg_coefficient": {"preset": "lp_reg"},
    "squared_log_ratio": {"preset": "grpo", "terms": ["squared_log_ratio"]},
    "kl_reward": {"preset": "grpo", "reward_maps": ["kl_reward"]},
    "constrained_kl": {"preset": "constrained"},
}


@pytest.mark.parametrize("knob", STRENGTHS)
def test_a_strength_of_0_that_a_controller_moves_is_measured_as_any_other(knob: str) -> None:
    case = random_case(3)
    mover = {"type": "schedule", "form": "linear", "knob": knob, "steps": 9, "end": 1.0}
    on, at_0, off = (
        begun({**STRENGTHS[knob], knob: value, "controllers": controllers}, case)
        for value, controllers in ((0.5, [mover]), (0.0, [mover]), (0.0, []))
    )
    assert at_0.objective.needs == on.objective.needs
    assert at_0.objective.may_need_reference == on.objective.may_need_reference
    assert at_0.objective.state()["memory"] == on.objective.state()["memory"]
    found, moving, plain = at_0.fill(), on.fill(), off.fill()
    assert found.sums.keys() == moving.sums.keys()
    torch.testing.assert_close(found.w_BT, plain.w_BT, atol=0, rtol=0)
    assert found.k_BT is None or not found.k_BT.any()


def test_a_strength_of_0_that_no_controller_moves_is_off() -> None:
    config = {"preset": "repo_r", "kl": 0.0, "controller": {"type": "geometric_signed", "target": 0.5}}
    assert "lp_ref" not in make(**config).needs
    assert not make(**config).may_need_reference


def test_more_controllers_than_the_ledger_has_names_for_are_refused() -> None:
    three = [{"type": "schedule", "knob": knob} for knob in ("strength", "clip_low", "clip_high")]
    with pytest.raises(ValidationError, match="keep two"):
        of(*three)


def test_two_controllers_saved_and_loaded_go_on_as_if_uninterrupted() -> None:
    """Reference: objectives.md 18."""
    whole, first, second = (make(**BOTH) for _ in range(3))
    steps = [(0.4, 0.3), (0.6, 0.1), (None, 0.25), (0.45, 0.2)]

    def go(objective: Objective, some: list[tuple[float | None, float]]) -> list[dict[str, float]]:
        return [objective.observe(reading, {"kl_ref": kl}) for reading, kl in some]

    expected = go(whole, steps)
    go(first, steps[:2])
    second.load_state(json.loads(json.dumps(first.state())))
    assert go(second, steps[2:]) == expected[2:]
    assert second.state() == whole.state()


def test_resetting_controllers_leaves_what_parts_remember() -> None:
    objective = make(**BOTH)
    fresh = objective.state()["controllers"]
    objective.observe(READ, {"kl_ref": 0.3})
    objective._kept["siren"] = {"anchor": 0.7}
    objective.reset_controllers()
    assert objective.state()["controllers"] == fresh
    assert objective.state()["memory"] == {"siren": {"anchor": 0.7}}


def test_rescaling_controllers_keeps_their_coefficients() -> None:
    objective = make(preset="repo_r", controller={"target_in": "initial", "target_readings": 1})
    for reading in (1.0, 0.5, 0.5):
        objective.observe(reading)
    objective.rescale_controllers()
    assert objective.observe(0.2)["coefficient"] == 4e-3
    assert objective.observe(0.2) == {
        "entropy_reading": 0.2,
        "coefficient": 4e-3,
        "coefficient_at_bound": 0.0,
        "entropy_target": 0.2,
    }


def test_every_rule_can_be_named_in_a_spec_with_its_options() -> None:
    found = ControllerConfig.model_validate({"type": "pi", "kp": -1.0, "ki": -0.02, "target_in": "nats"})
    assert found.options["bound"] == 1.0
    with pytest.raises(ValidationError, match="factor"):
        ControllerConfig.model_validate({"type": "pi", "factor": 2.0})
