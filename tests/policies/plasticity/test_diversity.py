from __future__ import annotations

import pytest

from policies.plasticity.diversity import distinct_n


def test_distinct_n_of_the_plasticity_reference() -> None:
    responses = [[0, 1, 0, 1], [0, 1, 2, 3]]  # "a b a b", "a b c d"
    assert distinct_n(responses, 1) == 0.5
    assert distinct_n(responses, 2) == pytest.approx(0.666667, abs=1e-6)


def test_responses_that_are_too_short_have_none() -> None:
    assert distinct_n([[1], []], 2) is None
    assert distinct_n([[1, 2], [1]], 2) == 1.0
