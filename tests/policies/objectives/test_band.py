"""The band: one coefficient for each environment, by its own entropy."""

import json
import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from orchestrator.recording.step_metrics import of_controllers
from policies.objectives import EntropyReading, MixCorrectedEntropy, Objective, ObjectiveError, Totals
from policies.objectives.config import ObjectiveConfig
from policies.objectives.controllers import band
from policies.objectives.controllers.band import Band
from policies.objectives.shapers import repo
from tests.policies.objectives.worked import rows

BAND = {"preset": "repo_adaptive", "controller": "band"}


def controller(start: float = 0.02, **options: float) -> Band:
    return band.create(band.Config(**options), start)


def settled(signal: float, reading: float, **options: float) -> float:
    """Where an environment's coefficient comes to under one signal and one reading for long."""
    made = controller(**options)
    for _ in range(60):
        made.hear(signal)
        made.update(0.8, {"own": reading, "other": 0.8})
    return made.strengths["own"]


@pytest.mark.parametrize(
    ("signal", "reading", "value"),
    [
        (0.4, 0.6, 0.1),  # inside of the band: a quarter of the signal
        (0.4, 1.0, 0.1),
        (0.4, 1.05, 0.05),  # a little above its upper end: less
        (0.4, 1.1, 0.0),
        (0.4, 3.0, 0.0),  # above: nothing
        (0.0, 0.6 / math.e, 0.06),  # below: the gain, whatever the signal, and whatever the others have
        (1.0, 0.001, 0.3),  # the bound
    ],
)
def test_an_environments_own_entropy_decides_where_its_coefficient_rests(
    signal: float, reading: float, value: float
) -> None:
    assert settled(signal, reading) == pytest.approx(value)


def test_the_ceiling_goes_with_the_target() -> None:
    assert settled(0.4, 2.1, target=1.2) == pytest.approx(0.05)
    assert settled(0.4, 2.2, target=1.2) == pytest.approx(0)
    assert settled(0.4, 2.2, target=1.2, ceiling=2.2) == pytest.approx(0.1)


def test_a_ceiling_that_is_not_above_the_target_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"ceiling 0\.5 is not above the target"):
        band.Config(ceiling=0.5)


def test_an_environment_without_a_reading_keeps_its_coefficient() -> None:
    made = controller()
    made.hear(0.4)
    made.update(0.8, {"one": 0.3, "other": 0.8})
    kept = made.strengths["one"]
    for reading in ({"other": 0.8}, {"one": math.nan}, {"one": 0.0}):
        made.update(0.8, reading)
        assert made.strengths["one"] == kept


def test_a_saved_one_goes_on_identically() -> None:
    made, resumed = controller(), controller()
    made.hear(0.4)
    made.update(0.8, {"one": 0.3, "other": 1.4})
    resumed.load_state(json.loads(json.dumps(made.state())))
    for one in (made, resumed):
        one.hear(0.1)
        one.update(0.7, {"other": 0.2})
    assert resumed.state() == made.state()


@pytest.mark.parametrize("broken", [{"one": math.nan}, {"one": "much"}, 3, {"one": 1.0}])
@pytest.mark.parametrize("key", ["inside", "room"])
def test_a_state_that_does_not_hold_a_number_for_each_environment_is_refused(key: str, broken: object) -> None:
    with pytest.raises(ObjectiveError, match=rf"`{key}`.* of Band"):
        controller().load_state({**controller().state(), key: broken})


def test_a_reading_in_the_dead_band_counts_as_the_target() -> None:
    assert settled(0.0, 0.5, dead_band=0.2) == 0
    assert settled(0.0, 0.5, dead_band=0.1) == pytest.approx(0.06 * math.log(0.6 / 0.5))


def test_the_upper_end_acts_at_once() -> None:
    made = controller()
    for _ in range(60):
        made.hear(0.4)
        made.update(0.8, {"own": 0.6})
    made.update(0.8, {"own": 1.6})
    assert made.strengths["own"] == 0
    made.update(0.8, {"own": 0.6})
    assert made.strengths["own"] == pytest.approx(0.1)


def test_readings_are_of_each_environment_over_its_categories() -> None:
    reading = MixCorrectedEntropy("recent")
    reading.set_baseline({"one/a": 1.0, "one/b": 2.0, "other/c": 0.5})
    found = reading.observe({"one/a": (5.0, 10), "one/b": (20.0, 10), "other/c": (10.0, 10)})
    assert found is not None
    assert found.environments == {
        "entropy_reading": {"one": 0.75, "other": 2.0},
        "entropy_reading_nats": {"one": 1.25, "other": 1.0},
    }


def told(objective: Objective, **readings: float) -> None:
    """Tell an objective of a step in which environments had these entropies, as fractions of the start's."""
    reading = EntropyReading(0.8, 0.8, 0.8, {"entropy_reading": readings})
    for _ in range(60):
        objective.observe(reading, {"advantage_abs": 0.4})


def test_rows_are_pushed_by_the_coefficient_of_their_environment() -> None:
    objective = Objective(ObjectiveConfig.model_validate({**BAND, "centre": "none"}))
    told(objective, words=0.6 / math.e, noise=1.5)
    some = replace(rows([[0.0, 0.0]] * 3, [[0.5, 0.5]] * 3), arm_B=torch.tensor([0, 1, 2]))
    totals = worked_totals(("words/a", "noise/b", "new/c"))
    filled = objective.coefficients(some, totals)
    pushed = (filled.w_BT[:, 0] / -math.log(0.5) * totals.num_tokens).tolist()
    assert pushed == pytest.approx([0.16 / 2, 0.0, 0.1 / 2], abs=1e-6), "what was never read has the pooled one"


def worked_totals(arms: tuple[str, ...]) -> Totals:
    return Totals(num_tokens=6, num_sequences=3, arms=arms)


def test_what_is_logged_is_the_mean_of_what_acts() -> None:
    objective = Objective(ObjectiveConfig.model_validate(BAND))
    told(objective, words=0.6 / math.e, noise=1.5)
    logged = objective.observe(0.8, {})
    assert logged["coefficient"] == pytest.approx(0.08)


def test_the_coefficient_of_each_environment_that_was_read_is_logged() -> None:
    objective = Objective(ObjectiveConfig.model_validate(BAND))
    told(objective, words=0.6 / math.e, noise=1.5)
    logged = objective.observe(EntropyReading(0.8, 0.8, 0.8, {"entropy_reading": {"words": 0.6}}), {})
    assert {key: value for key, value in logged.items() if "/" in key} == {"coefficient/words": pytest.approx(0.16)}
    records = of_controllers(logged, [])
    assert [(one.name, one.environment) for one in records if one.environment] == [("coefficient", "words")]


def test_a_part_with_one_strength_for_all_is_refused() -> None:
    with pytest.raises(ValidationError, match="one `strength` for each environment, and `repo_r` takes one for all"):
        ObjectiveConfig.model_validate({"preset": "repo_r", "controller": {"type": "band"}})


def test_repo_takes_one_strength_where_no_controller_moves_several() -> None:
    some = rows([[1.0, 1.0]], [[0.5, 0.5]])
    made = repo.create(repo.Config(strength=0.3, centre="none"))
    moved = made.apply(some.advantage_BT, some, worked_totals(("",))).advantage_BT - some.advantage_BT
    assert moved[0].tolist() == pytest.approx([-0.3 * math.log(0.5)] * 2)
