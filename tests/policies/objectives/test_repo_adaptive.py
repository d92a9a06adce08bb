"""What the preset `repo_adaptive` asks for beside its controller: a strength per response, and recent readings."""

import pytest

from policies.objectives import MixCorrectedEntropy, Totals
from policies.objectives.config import ObjectiveConfig
from policies.objectives.entropy_reading import RECENT
from policies.objectives.shapers import repo
from tests.policies.objectives.worked import rows

ONE, OTHER = {"one/a": (5.0, 10)}, {"other/b": (10.0, 10)}


def test_it_resolves_to_repo_under_the_rule_and_warns_of_nothing() -> None:
    config = ObjectiveConfig.model_validate("repo_adaptive")
    (controller,) = config.create_controllers()
    assert (config.shapers, config.reading, config.options["per"]) == (("repo",), "recent", "response")
    assert (controller.value, controller.target) == (0.02, 0.6)
    assert config.warnings() == []


def test_a_strength_per_response_is_shared_by_its_tokens() -> None:
    """Two responses of 3 tokens on average: each token gets a third. L = log .5 + .9."""
    some = rows([[1.0, 1.0, 1.0]], [[0.5, 0.5, 0.5]], entropy=[[0.9, 0.9, 0.9]])
    totals = Totals(num_tokens=6, num_sequences=2)
    whole, shared = (
        repo.create(repo.Config(strength=0.3, per=per)).apply(some.advantage_BT, some, totals).advantage_BT
        for per in ("token", "response")
    )
    assert whole[0].tolist() == pytest.approx([1 - 0.3 * 0.206853] * 3, abs=1e-6)
    assert shared[0].tolist() == pytest.approx([1 - 0.1 * 0.206853] * 3, abs=1e-6)


@pytest.mark.parametrize(
    ("mode", "before", "after"),
    [("corrected", 0.75, 0.75), ("recent", 0.75, 1.0)],
    ids=["corrected", "recent"],
)
def test_recent_readings_leave_out_what_was_not_visited_for_20_steps(mode: str, before: float, after: float) -> None:
    reading = MixCorrectedEntropy(mode)  # type: ignore[arg-type]
    reading.set_baseline({"one/a": 1.0, "other/b": 1.0})
    reading.observe(ONE)
    fractions = []
    for _ in range(RECENT):
        found = reading.observe(OTHER)
        assert found is not None
        fractions.append(found.fraction)
    assert fractions[-2] == pytest.approx(before)
    assert fractions[-1] == pytest.approx(after)
