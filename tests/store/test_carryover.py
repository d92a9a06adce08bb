"""The worked numbers of plasticity.md 1.6, 1.7, 5.2 and 5.3."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator

import pytest

from store import carryover
from store.carryover import Journey, Matrices, Mean
from store.ledger.queries.runs import matrices_of
from store.ledger.query_rows import CellRow, StageRow

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
    assert carryover.unseen(run.up_to(1)).value == pytest.approx(math.sqrt(0.95 / 1.2 * 0.80 / 0.9))
    assert carryover.unseen(run) == Mean(None, 0, 0)
    assert carryover.collateral(run.up_to(2)).value == pytest.approx(math.sqrt(0.45 / 0.40 * 0.60 / 0.80))


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
    assert carryover.geometric_mean([-0.3]) == 0.0


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
    assert measure(_run(ONE_PASS, "ABC")).value == (expected and pytest.approx(expected, abs=1e-5))


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
    assert measure(_run(RETURNING, "ABA")).value == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("measure", "expected"),
    [(carryover.gain, [0.5, 0.45, 0.15]), (carryover.interference, [0.05, 0.0, -0.025])],
)
def test_what_each_stage_did(measure, expected: list[float]) -> None:
    run = _run(RETURNING, "ABA")
    assert [measure(run.up_to(stage)).value for stage in (1, 2, 3)] == pytest.approx(expected, abs=1e-5)


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
    found = carryover.relative_forgetting(_run(rows, trained)).value
    assert found == (expected and pytest.approx(expected))


def test_what_may_be_noise_was_not_learnt() -> None:
    rows = [[0.1, 0.2], [0.3, 0.2], [0.2, 0.7]]
    sure, unsure = _run(rows, "AB", A0=0.07, A1=0.07), _run(rows, "AB", A0=0.08, A1=0.08)
    assert carryover.relative_forgetting(sure).value == pytest.approx(0.5)
    assert carryover.relative_forgetting(unsure) == Mean(None, 0, 0)


def test_an_environment_that_joined_starts_where_it_was_first_measured() -> None:
    matrix = _matrix([[0.1, 0.2], [0.6, 0.2], [0.5, 0.7], [0.5, 0.2]])
    del matrix[0, "B"]
    run = Matrices(matrix, matrix, {}, list("ABA"))
    assert carryover.relative_forgetting(run).value == pytest.approx((0.1 / 0.5 + 1.0) / 2)
    assert carryover.left(run) == {"A": 5.0, "B": 1.0}


def test_where_boundary_0_was_lost_with_a_ledger_no_start_is_known() -> None:
    whole = {at: value for at, value in _matrix([[0.1, 0.2], [0.6, 0.2], [0.5, 0.7], [0.5, 0.2]]).items() if at[0]}
    run = Matrices(whole, whole, {}, list("ABA"), cumulative={1: Journey(1.0, 10)})
    numbers = carryover.means_of_run(run)
    assert carryover.left(run) == {"A": None, "B": None}
    assert [numbers[name].value for name in ("relative_forgetting", "entropy_left", "entropy_cumulative")] == [None] * 3
    assert numbers["forgetting"].value == pytest.approx((0.1 + 0.5) / 2), "what began after the start is known"


def test_an_undefined_value_makes_a_difference_unknown() -> None:
    matrix = _matrix(RETURNING)
    matrix[3, "B"] = None
    run = Matrices(matrix, matrix, {}, list("ABA"))
    assert carryover.backward_transfer(run).value is None
    assert carryover.relative_forgetting(run).value is None
    assert carryover.gain(run).value == pytest.approx(0.15)


def _with_holes(rows: list[list[float]], trained: str, *holes: str) -> Matrices:
    """A run whose boundaries left environments out, by place as in A1."""
    matrix = {key: value for key, value in _matrix(rows).items() if f"{key[1]}{key[0]}" not in holes}
    return Matrices(matrix, matrix, {}, list(trained))


def test_a_hole_takes_its_environment_out_of_a_mean_and_the_mean_says_so() -> None:
    run = _with_holes(ONE_PASS, "ABC", "B1", "C1")
    assert carryover.forward_transfer(run) == Mean(pytest.approx(0.15), 1, 2), "B's arrival was not measured"
    assert carryover.average(run) == Mean(pytest.approx(0.616667, abs=1e-5), 3, 3)
    assert carryover.backward_transfer(run).value == pytest.approx(-0.125)
    assert carryover.interference(run.up_to(2)) == Mean(pytest.approx(-0.1), 1, 2)
    assert carryover.gain(run.up_to(2)) == Mean(None, 0, 1)
    assert carryover.partly(run) == {"forward_transfer": (1, 2), "entropy_retained": (2, 3), "entropy_carried": (1, 2)}


def test_the_best_of_an_environment_is_not_known_where_a_boundary_between_left_it_out() -> None:
    run = _with_holes([*ONE_PASS, [0.4, 0.6, 0.8]], "ABCA", "B3")
    assert carryover.forgetting(run) == Mean(pytest.approx(0.1), 2, 3)
    assert carryover.relative_forgetting(run).of == 3


def test_a_hole_is_not_filled_from_another_boundary() -> None:
    run = _with_holes(ENTROPY, "ABC", "C3")
    assert carryover.left(run) == {"A": 0.5, "B": pytest.approx(1 / 3), "C": None}


def test_a_collapsed_environment_counts_in_what_it_belongs_to_and_where_it_cannot_that_is_said() -> None:
    rows = [[1.0, 1.0], [0.02, 0.5], [0.01, 0.25], [0.0, 0.2]]
    run = _run(rows, "ABA")
    numbers = carryover.means_of_run(run)
    assert numbers["entropy_left"] == Mean(0.0, 2, 2)
    assert carryover.means_of_run(run.up_to(2))["entropy_left"] == Mean(pytest.approx(math.sqrt(0.01 * 0.25)), 2, 2)
    assert carryover.retained(run) == [0.02, 0.5, None], "a share of next to nothing says nothing"
    assert numbers["entropy_retained"] == Mean(pytest.approx(0.1), 2, 3)
    assert carryover.carried(run) == [0.5, pytest.approx(0.01)]


def test_in_flat_mode_every_stage_trains_all() -> None:
    matrix = _matrix(RETURNING)
    run = Matrices(matrix, matrix, {}, [None] * 3, everywhere="AB")
    numbers = carryover.of_run(run)
    assert numbers["average"] == pytest.approx(0.625)
    assert numbers["forgetting"] == pytest.approx((-0.05 + 0.10) / 2)
    assert numbers["zero_shot_gain"] == pytest.approx(0.20)
    assert numbers["entropy_left"] is not None
    unknown = {name for name, value in numbers.items() if value is None}
    assert unknown == {
        *("backward_transfer", "forward_transfer", "entropy_retained", "entropy_carried", "entropy_cumulative"),
    }
    assert carryover.of_run(run.up_to(2))["average"] == pytest.approx(0.6)


def test_entropy_along_the_training_of_a_stage() -> None:
    steps, entropies = [0, 50, 100, 150, 200], [1.0, 0.6, 0.4, 0.3, 0.3]
    area = sum((a + b) / 2 * 50 for a, b in itertools.pairwise(entropies))
    assert area == pytest.approx(97.5)
    run = Matrices({(0, "A"): 0.1, (1, "A"): 0.2}, {(0, "A"): 1.0}, {}, ["A"], cumulative={1: Journey(area, steps[-1])})
    assert carryover.cumulative_entropy(run) == Mean(pytest.approx(0.4875), 1, 1)
    longer = Matrices(
        run.accuracy, run.entropy, {}, ["A", "A"], cumulative={1: Journey(97.5, 200), 2: Journey(10, 100)}
    )
    assert carryover.cumulative_entropy(longer).value == pytest.approx(107.5 / 300)


def _at_random(seed: int) -> Matrices:
    """Stages that come back, holes, values that are undefined, environments that join late or have no stage."""
    draw = random.Random(seed)
    places = [(i, name) for i in range(8) for name in "ABCDE" if name != "E" or i > 3]
    accuracy, errors = ({at: draw.choice([None, *[draw.random()] * 9]) for at in places} for _ in range(2))
    entropy: dict[tuple[int, str], float | None] = {at: draw.choice([0.01, draw.random()]) for at in places}
    for at in places:
        if 0 < at[0] < 7 and draw.random() < 0.2:
            del accuracy[at], entropy[at]
    journeys = {i: Journey(draw.random(), 10) for i in range(1, 7)}
    is_flat = seed % 4 == 0
    stages = [None if is_flat else draw.choice("ABCE") for _ in range(7)]
    return Matrices(accuracy, entropy, errors, stages, "ABC" if is_flat else (), journeys)


@pytest.mark.parametrize("seed", range(20))
def test_a_run_as_it_was_after_a_stage_is_the_run_that_has_nothing_later(seed: int) -> None:
    run = _at_random(seed)
    for stage in range(8):
        maps = ({at: v for at, v in own.items() if at[0] <= stage} for own in (run.accuracy, run.entropy, run.errors))
        journeys = {i: one for i, one in run.cumulative.items() if i <= stage}
        alone = Matrices(*maps, run.stages[:stage], run.everywhere, journeys)
        assert carryover.means_of_run(run.up_to(stage)) == carryover.means_of_run(alone)
        assert carryover.means_of_switch(run, stage) == carryover.means_of_switch(alone, stage)


class Counted(dict[tuple[int, str], float | None]):
    """A matrix that counts how often all of it is read."""

    num_reads = 0

    def __iter__(self) -> Iterator[tuple[int, str]]:
        self.num_reads += 1
        return super().__iter__()

    def items(self):  # type: ignore[no-untyped-def]
        self.num_reads += 1
        return super().items()


def test_a_course_does_not_read_the_matrices_anew_at_every_boundary() -> None:
    stages = ["A", "B", "C"] * 10
    matrix = Counted({(i, name): 0.01 * i for i in range(len(stages) + 1) for name in "ABCD"})
    assert len(list(carryover.of_course(Matrices(matrix, matrix, matrix, stages)))) > len(stages)
    assert matrix.num_reads < len(stages)


def _cells(metric: str, **values: list[float | None]) -> list[CellRow]:
    """Cells of environments as wholes, by boundary."""
    places = [(i, name, value) for name, own in values.items() for i, value in enumerate(own)]
    return [CellRow(i, "", name, None, metric, value, None, 2, 4) for i, name, value in places]


def test_an_environment_that_is_only_held_out_counts_nowhere() -> None:
    stages = [StageRow(i, name, 0, 1, 0.0, 1, None, "", None) for i, name in enumerate("AB", start=1)]
    known: dict[str, list[float | None]] = {"A": [0.1, 0.6, 0.5], "B": [0.5, 0.5, 0.7]}
    nothing: list[float | None] = [None] * 3
    run, alone = (
        matrices_of(_cells("pass_1", **own), _cells("entropy_token", **own), stages)
        for own in ({**known, "H": nothing}, known)
    )
    assert carryover.interference(run.up_to(2)) == Mean(pytest.approx(-0.1), 1, 1)
    assert list(carryover.of_course(run)) == list(carryover.of_course(alone))
    unscored = matrices_of(_cells("pass_1", **{**known, "B": nothing}), _cells("entropy_token", **known), stages)
    assert carryover.average(unscored) == Mean(None, 1, 2), "what was trained counts, also where it has no value"
