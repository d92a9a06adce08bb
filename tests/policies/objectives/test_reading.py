import json
import math
from typing import Any

import pytest

from policies.objectives import MixCorrectedEntropy, ObjectiveError
from policies.objectives.entropy_reading import Step, logged

H = {"env/a": 0.3, "env/b": 0.8}
EQUAL = {"env/a": (0.3 * 500, 500), "env/b": (0.8 * 500, 500)}
MOSTLY_A = {"env/a": (0.3 * 900, 900), "env/b": (0.8 * 100, 100)}


def fraction(reading: MixCorrectedEntropy, step: Step) -> float:
    """What a step reads, as a fraction of the start."""
    found = reading.observe(step)
    assert found is not None
    return found.fraction


@pytest.mark.parametrize(
    ("mode", "before", "after"),
    [("corrected", 1.0, 1.0), ("raw", 1.0, 0.35 / 0.55)],
)
def test_a_move_of_the_mix(mode: str, before: float, after: float) -> None:
    """Reference: objectives.md 12.2."""
    reading = MixCorrectedEntropy(mode)  # type: ignore[arg-type]
    reading.set_baseline(H)
    assert fraction(reading, EQUAL) == pytest.approx(before)
    assert fraction(reading, MOSTLY_A) == pytest.approx(after)
    assert fraction(reading, {"env/a": (30.0, 100)}) == pytest.approx(before if mode == "corrected" else 0.3 / 0.55)


def test_every_visited_category_weighs_the_same() -> None:
    reading = MixCorrectedEntropy()
    reading.set_baseline(H)
    assert fraction(reading, {"env/a": (0.15 * 10, 10), "env/b": (0.8 * 990, 990)}) == pytest.approx(0.75)


def test_half_of_the_weight_is_gone_after_the_half_life() -> None:
    reading = MixCorrectedEntropy(half_life=3)
    reading.set_baseline({"env/a": 1.0})
    reading.observe({"env/a": (1e9, 1e9)})  # so many tokens that only decay can matter beside the second
    keep = 0.5 ** (1 / 3)
    for _ in range(3):
        last = fraction(reading, {"env/a": (0.0, 1e9)})
    assert last == pytest.approx(keep**3 / (1 + keep + keep**2 + keep**3))


def test_a_category_that_was_never_visited_does_not_count() -> None:
    reading = MixCorrectedEntropy()
    reading.set_baseline(H)
    assert fraction(reading, {"env/a": (0.15 * 10, 10)}) == pytest.approx(0.5)


def test_a_category_without_a_baseline_takes_its_first_reading() -> None:
    reading = MixCorrectedEntropy()
    assert fraction(reading, {"new/x": (4.0, 10)}) == 1.0
    reading = MixCorrectedEntropy(half_life=1e-9)
    reading.observe({"new/x": (4.0, 10)})
    assert fraction(reading, {"new/x": (2.0, 10)}) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("baseline", "measured", "expected"),
    [(0.01, 0.02, 0.4), (0.01, 0.1, 2.0), (0.5, 0.001, 0.002), (0.08, 0.0, 0.0)],
    ids=["both below", "start below", "end below", "collapsed"],
)
def test_a_start_below_the_floor_counts_as_the_floor_and_a_collapse_reads_as_one(
    baseline: float, measured: float, expected: float
) -> None:
    reading = MixCorrectedEntropy()
    reading.set_baseline({"env/a": baseline})
    assert fraction(reading, {"env/a": (measured * 100, 100)}) == pytest.approx(expected)


def test_a_category_not_visited_keeps_its_value_and_ages() -> None:
    reading = MixCorrectedEntropy()
    reading.set_baseline(H)
    reading.observe({"env/a": (0.6 * 10, 10), "env/b": (0.8 * 10, 10)})
    for _ in range(2):
        last = fraction(reading, {"env/b": (0.8 * 10, 10)})
    assert last == pytest.approx(1.5)
    assert {key: visits["age"] for key, visits in reading.state()["visits"].items()} == {
        "env/a": 2,
        "env/b": 0,
    }
    assert reading.relative() == pytest.approx({"env/a": 2.0, "env/b": 1.0})


@pytest.mark.parametrize("step", [{}, {"env/a": (0.0, 0)}, {"env/a": (math.nan, 10)}])
@pytest.mark.parametrize("mode", ["corrected", "raw"])
def test_a_step_without_a_measurement_reads_nothing(mode: str, step: dict[str, tuple[float, float]]) -> None:
    reading = MixCorrectedEntropy(mode)  # type: ignore[arg-type]
    reading.set_baseline(H)
    reading.observe(EQUAL)
    assert reading.observe(step) is None
    assert fraction(reading, EQUAL) == pytest.approx(1.0)


@pytest.mark.parametrize("mode", ["corrected", "raw"])
def test_a_saved_reading_goes_on_as_if_uninterrupted(mode: str) -> None:
    steps = [EQUAL, {"env/b": (7.0, 9)}, MOSTLY_A, {"env/c": (3.0, 4), "env/a": (1.0, 5)}]
    whole, first, second = (MixCorrectedEntropy(mode) for _ in range(3))  # type: ignore[arg-type]
    for reading in (whole, first):
        reading.set_baseline(H)
    expected = [whole.observe(step) for step in steps]
    first.observe(steps[0])
    first.observe(steps[1])
    second.load_state(json.loads(json.dumps(first.state(), sort_keys=True)))
    assert [second.observe(step) for step in steps[2:]] == expected[2:]
    assert second.state() == whole.state()


def test_after_another_mode_the_next_values_are_the_start() -> None:
    raw, reading = MixCorrectedEntropy("raw"), MixCorrectedEntropy()
    raw.set_baseline({"env/a": 0.15, "env/b": 0.4})
    raw.observe(EQUAL)
    assert reading.load_state(json.loads(json.dumps(raw.state()))) == ["env"]
    assert reading.state() == MixCorrectedEntropy().state()
    found = reading.observe(EQUAL)
    assert found is not None
    assert (found.fraction, found.raw) == pytest.approx((1.0, 1.0))


@pytest.mark.parametrize(
    ("before", "now", "anew"),
    [
        ({}, {"book": "corrected"}, []),
        ({"book": "corrected"}, {}, []),
        ({}, {"book": "corrected", "lake": "recent"}, []),
        ({}, {"book": "recent"}, ["book"]),
        ({"book": "recent", "words": "recent"}, {"words": "recent"}, ["book"]),
    ],
    ids=["another entry", "an entry less", "an environment joins", "another mode", "another mode by leaving it out"],
)
def test_only_environments_that_are_read_in_another_way_begin_anew(before: Any, now: Any, anew: list[str]) -> None:
    parent, fork = MixCorrectedEntropy(modes=before), MixCorrectedEntropy(modes=now)
    parent.set_baseline({"words/3": 1.0, "book/a": 2.0})
    parent.observe({"words/3": (5.0, 10), "book/a": (10.0, 10)})
    assert fork.load_state(json.loads(json.dumps(parent.state()))) == anew
    found = fork.observe({"words/3": (5.0, 10), "book/a": (10.0, 10)})
    assert found is not None
    fractions = found.environments["entropy_reading"]
    assert fractions == pytest.approx({"words": 0.5, "book": 1.0 if anew else 0.5})


def test_a_state_of_other_entropies_is_not_read_as_these() -> None:
    warm, cold = (MixCorrectedEntropy(source={"temperature": one}) for one in (1.0, 0.4))
    warm.set_baseline(H)
    state = json.loads(json.dumps(warm.state()))
    assert (warm.load_state(state), cold.load_state(state)) == ([], ["env"])
    assert cold.state()["baseline"] == {}
    del state["source"]
    assert cold.load_state(state) == []  # as earlier versions saved it
    assert fraction(cold, {"env/a": (0.15 * 10, 10)}) == pytest.approx(0.5)


@pytest.mark.parametrize("entropy", [math.nan, -0.1])
def test_a_baseline_that_is_no_entropy_is_refused(entropy: float) -> None:
    with pytest.raises(ObjectiveError, match="env/a"):
        MixCorrectedEntropy().set_baseline({"env/a": entropy})


@pytest.mark.parametrize(
    ("mode", "before", "after"),
    [("corrected", 0.55, 0.55), ("raw", 0.55, 0.35)],
)
def test_the_reading_in_nats_is_corrected_too(mode: str, before: float, after: float) -> None:
    """Reference: objectives.md 12.2."""
    reading = MixCorrectedEntropy(mode)  # type: ignore[arg-type]
    reading.set_baseline(H)
    found = [reading.observe(step) for step in (EQUAL, MOSTLY_A)]
    assert [one.nats for one in found if one] == pytest.approx([before, after])


def test_the_reading_before_the_correction_is_told_beside_it() -> None:
    reading, raw = MixCorrectedEntropy(), MixCorrectedEntropy("raw")
    for one in (reading, raw):
        one.set_baseline(H)
        one.observe(EQUAL)
    corrected, plain = reading.observe(MOSTLY_A), raw.observe(MOSTLY_A)
    assert corrected is not None
    assert plain is not None
    assert corrected.raw == plain.raw == plain.fraction == pytest.approx(0.35 / 0.55)
    assert corrected.log() == {
        "entropy_reading": corrected.fraction,
        "entropy_reading_nats": corrected.nats,
        "entropy_reading_raw": corrected.raw,
    }


def test_nats_know_no_floor() -> None:
    found = MixCorrectedEntropy().observe({"env/a": (0.01 * 100, 100)})
    assert found is not None
    assert (found.fraction, found.nats, found.raw) == pytest.approx((0.2, 0.01, 0.2))


@pytest.mark.parametrize("mode", ["corrected", "raw"])
def test_what_begins_anew_takes_what_comes_for_its_start(mode: str) -> None:
    reading = MixCorrectedEntropy(mode)  # type: ignore[arg-type]
    reading.set_baseline(H)
    reading.observe(EQUAL)
    reading.begin_anew()
    assert reading.state()["visits"] == {}
    reading.set_baseline({"env/a": 0.15})
    assert fraction(reading, {"env/a": (0.3 * 10, 10)}) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("reading", "expected"),
    [(None, {}), (math.nan, {}), (0.5, {"entropy_reading": 0.5})],
)
def test_what_is_no_number_is_not_logged(reading: float | None, expected: dict[str, float]) -> None:
    assert logged(reading) == expected
