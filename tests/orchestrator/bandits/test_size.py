"""Categories by their sizes."""

import json

import numpy as np
import pytest

from orchestrator.bandits.contracts import ArmInfo
from orchestrator.bandits.size import Config, create
from orchestrator.bandits.testing import BanditSuite


class TestSize(BanditSuite):
    learns = False

    def make(self, arms, rng):
        made = create(Config(sizes={"e": 50}), arms, rng)
        made.introduce({arm: ArmInfo(10 * (ord(arm) - 95)) for arm in arms})
        return made


def bandit(told, **options):
    made = create(Config(**options), list(told), np.random.default_rng(0))
    made.introduce({arm: ArmInfo(size) for arm, size in told.items()})
    return made


SECTION_6 = [
    (1.0, (0.04, 0.32, 0.64)),
    (0.5, (1 / 7.828427, 2.828427 / 7.828427, 4 / 7.828427)),
    (0.0, (1 / 3, 1 / 3, 1 / 3)),
]


@pytest.mark.parametrize(("power", "expected"), SECTION_6)
def test_probabilities_are_tempered_sizes(power, expected):
    found = bandit({"a": 100, "b": 800, "c": 1600}, power=power).probabilities()
    assert list(found.values()) == pytest.approx(expected, abs=1e-6)


def test_a_category_without_an_end_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"no size is known of b .*under `sizes`"):
        bandit({"a": 100, "b": None})
    with pytest.raises(ValueError, match="no size is known of a, b"):
        create(Config(), ["a", "b"], np.random.default_rng(0)).pick(1)
    one = bandit({"a": 100})
    with pytest.raises(ValueError, match="no size is known of b"):
        one.add("b", ArmInfo(None))
    assert one.arms == ["a"]


def test_a_number_to_reckon_with_goes_before_the_size():
    found = bandit({"a": 100, "b": None}, power=1.0, sizes={"a": 30, "b": 10}).probabilities()
    assert found == pytest.approx({"a": 0.75, "b": 0.25})


def test_an_arm_that_joins_brings_its_size():
    one = bandit({"a": 100, "b": 100}, power=1.0)
    one.add("c", ArmInfo(200))
    assert one.probabilities() == pytest.approx({"a": 0.25, "b": 0.25, "c": 0.5})


def test_a_size_that_a_fork_names_no_more_is_its_own_again() -> None:
    about = {"a": ArmInfo(10), "b": ArmInfo(1000)}
    parent, fork = (create(Config(sizes=sizes), list(about), np.random.default_rng(0)) for sizes in ({"a": 5000}, {}))
    for one in (parent, fork):
        one.introduce(about, 10)
    fork.load_state(json.loads(json.dumps(parent.state())))
    assert fork.size.tolist() == [10.0, 1000.0]
