"""What a run's facts say of entropy and accuracy, and of its objective."""

from __future__ import annotations

import math
from typing import Any

import pytest

from store.run_summary import entropy_laws

ENTROPY = {
    "0": {"a": 1.0, "b": 0.5},
    "1": {"a": 0.6, "b": 0.5},
    "2": {"a": 0.3, "b": 0.5},
    "3": {"a": 0.1, "b": 0.5},
}
ACCURACY = {stage: {"a": 0.75 - 0.3 * math.exp(row["a"]), "b": 0.1} for stage, row in ENTROPY.items()}
PLAIN = {"estimator": "rloo", "shapers": [], "terms": ["kl"], "kl": 0.0, "controllers": []}


def test_the_law_is_fitted_where_entropy_moved() -> None:
    laws = entropy_laws(PLAIN, {"entropy_token": ENTROPY, "pass_1": ACCURACY})
    assert list(laws) == ["a"], "the entropy of b never moved"
    assert laws["a"]["ceiling"] == pytest.approx(0.45)
    assert laws["a"]["rise"] == pytest.approx(0.45 - ACCURACY["3"]["a"])
    assert laws["a"]["num_points"] == 4


@pytest.mark.parametrize(
    "objective",
    [
        {**PLAIN, "shapers": ["repo_r"]},
        {**PLAIN, "kl": 0.1},
        {**PLAIN, "controllers": [{"type": "geometric"}]},
        {**PLAIN, "plans": ["tempered"]},
    ],
)
def test_it_is_not_fitted_where_something_acts_on_entropy(objective: dict[str, Any]) -> None:
    assert entropy_laws(objective, {"entropy_token": ENTROPY, "pass_1": ACCURACY}) == {}


def test_three_boundaries_are_too_few() -> None:
    few = {stage: ENTROPY[stage] for stage in ("0", "1", "2")}
    assert entropy_laws(PLAIN, {"entropy_token": few, "pass_1": ACCURACY}) == {}
