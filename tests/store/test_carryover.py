"""The worked numbers of plasticity.md 1.6, 5.2 and 5.3."""

from __future__ import annotations

import math

import pytest

from store import carryover
from store.carryover import Matrices

ENTROPY = [[1.0, 1.2, 0.9], [0.40, 0.95, 0.80], [0.45, 0.35, 0.60], [0.50, 0.40, 0.25]]
ONE_PASS = [[0.10, 0.20, 0.15], [0.60, 0.25, 0.20], [0.50, 0.70, 0.30], [0.45, 0.60, 0.80]]
RETURNING = [[0.10, 0.20, 0.15], [0.60, 0.25, 0.20], [0.50, 0.70, 0.30], [0.65, 0.60, 0.35]]
FLOOR = 0.05


def _matrix(rows: list[list[float]]) -> dict[tuple[int, str], float | None]:
    return {(i, name): value for i, row in enumerate(rows) for name, value in zip("ABC", row, strict=False)}


def _run(rows: list[list[float]], trained: str, **errors: float) -> Matrices:
    """These values as accuracies and as entropies; standard errors by place, as in A1."""
    matrix = _matrix(rows)
    return Matrices(matrix, matrix, {(int(at[1]), at[0]): error for at, error in errors.items()}, list(trained))


def test_retained_fraction_and_carry_ratio() -> None:
    run = _run(ENTROPY, "ABC")
    retained = carryover.retained(run)
    assert retained == pytest.approx([0.4, 0.368421, 0.416667], abs=1e-5)
    assert carryover.geometric_mean(retained) == pytest.approx(0.394516, abs=1e-5)
    assert carryover.carried(run) == pytest.approx([0.791667, 0.666667], abs=1e-5)


def test_what_stages_do_to_other_environments() -> None:
    run = _run(ENTROPY, "ABC")
    assert carryover.unseen(run.up_to(1)) == pytest.approx(math.sqrt(0.95 / 1.2 * 0.80 / 0.9))
    assert carryover.unseen(run) is None
    assert carryover.collateral(run.up_to(2)) == pytest.approx(math.sqrt(0.45 / 0.40 * 0.60 / 0.80))


@pytest.mark.parametrize(
    ("value", "base", "expected"),
    [(0.1, 0.05, 2.0), (0.1, 0.0499, None), (0.0, 0.05, 0.0), (None, 1.0, None), (1.0, None, None)],
)
def test_a_ratio_needs_a_base_at_or_above_the_floor(
    value: float | None, base: float | None, expected: float | None
) -> None:
    assert carryover.ratio(value, base, FLOOR) == expected


def test_geometric_means_leave_out_undefined_ratios_but_not_zeros() -> None:
    assert carryover.geometric_mean([4.0, None, 1.0]) == pytest.approx(2.0)
    assert carryover.geometric_mean([4.0, 0.0]) == 0.0
    assert carryover.geometric_mean([None]) is None


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        (carryover.average, 0.616667),
        (carryover.backward_transfer, -0.125),
        (carryover.forward_transfer, 0.10),
        (carryover.forgetting, 0.125),
        (carryover.zero_shot_gain, None),
    ],
)
def test_each_environment_once(measure, expected: float | None) -> None:
    assert measure(_run(ONE_PASS, "ABC")) == (expected and pytest.approx(expected, abs=1e-5))


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        (carryover.average, 0.625),
        (carryover.backward_transfer, -0.10),
        (carryover.forward_transfer, 0.05),
        (carryover.forgetting, 0.025),
        (carryover.zero_shot_gain, 0.20),
    ],
)
def test_environments_that_return_and_that_are_never_trained(measure, expected: float) -> None:
    assert measure(_run(RETURNING, "ABA")) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("measure", "expected"),
    [(carryover.gain, [0.5, 0.45, 0.15]), (carryover.interference, [0.05, 0.0, -0.025])],
)
def test_what_each_stage_did(measure, expected: list[float]) -> None:
    run = _run(RETURNING, "ABA")
    assert [measure(run.up_to(stage)) for stage in (1, 2, 3)] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("rows", "trained", "expected"),
    [
        (ONE_PASS, "ABC", (0.15 / 0.5 + 0.1 / 0.5) / 2),
        (RETURNING, "ABA", (-0.05 / 0.5 + 0.1 / 0.5) / 2),
        ([[0.1, 0.2], [0.6, 0.2], [0.1, 0.7]], "AB", 1.0),  # all is gone
        ([[0.1, 0.2], [0.6, 0.2], [0.0, 0.7]], "AB", 1.2),  # and more than had been learnt
        ([[0.1, 0.2], [0.14, 0.2], [0.0, 0.7]], "AB", None),  # nothing was learnt
        ([[0.1, 0.2], [0.1, 0.6], [0.1, 0.4]], "A", None),  # no later stage
        ([[0.1, 0.2, 0.1], [0.12, 0.2, 0.1], [0.1, 0.6, 0.1], [0.1, 0.4, 0.5]], "ABC", 0.5),  # A left out
    ],
)
def test_forgetting_as_a_share_of_what_was_learnt(
    rows: list[list[float]], trained: str, expected: float | None
) -> None:
    found = carryover.relative_forgetting(_run(rows, trained))
    assert found == (expected and pytest.approx(expected))


def test_what_may_be_noise_was_not_learnt() -> None:
    rows = [[0.1, 0.2], [0.3, 0.2], [0.2, 0.7]]
    sure, unsure = _run(rows, "AB", A0=0.07, A1=0.07), _run(rows, "AB", A0=0.08, A1=0.08)
    assert carryover.relative_forgetting(sure) == pytest.approx(0.5)
    assert carryover.relative_forgetting(unsure) is None


def test_an_environment_that_joined_starts_where_it_was_first_measured() -> None:
    matrix = _matrix([[0.1, 0.2], [0.6, 0.2], [0.5, 0.7], [0.5, 0.2]])
    del matrix[0, "B"]
    run = Matrices(matrix, matrix, {}, list("ABA"))
    assert carryover.relative_forgetting(run) == pytest.approx((0.1 / 0.5 + 1.0) / 2)
    assert carryover.left(run) == {"A": 5.0, "B": 1.0}


def test_a_missing_cell_makes_a_difference_unknown() -> None:
    matrix = _matrix(RETURNING)
    matrix[3, "B"] = None
    run = Matrices(matrix, matrix, {}, list("ABA"))
    assert carryover.backward_transfer(run) is None
    assert carryover.relative_forgetting(run) is None
    assert carryover.gain(run) == pytest.approx(0.15)
