import math

import pytest

from store.entropy_law import EntropyLaw, fit
from store.errors import CannotFit

H = [1, 0.6, 0.3, 0.1]


def test_accuracy_follows_entropy_along_the_curve() -> None:
    law = EntropyLaw(a=0.3, b=0.75, r_squared=1.0)
    assert [law.accuracy(h) for h in H] == pytest.approx([-0.065485, 0.203364, 0.345042, 0.418449], abs=1e-6)


def test_points_of_a_curve_give_it_back() -> None:
    law = fit(H, [0.75 - 0.3 * math.exp(h) for h in H])
    assert (law.a, law.b, law.ceiling, law.r_squared) == pytest.approx((0.3, 0.75, 0.45, 1.0))


def test_noisy_points_give_the_worked_fit() -> None:
    law = fit(H, [0, 0.15, 0.36, 0.41])
    found = (law.a, law.b, law.ceiling, law.r_squared)
    assert found == pytest.approx((0.261122, 0.686666, 0.425543, 0.953509), abs=1e-6)


def test_the_rise_still_to_be_bought() -> None:
    law = fit(H, [0, 0.15, 0.36, 0.41])
    assert law.rise(0.1) == pytest.approx(law.ceiling - law.accuracy(0.1))
    assert law.rise(0.0) == 0


@pytest.mark.parametrize(
    ("entropies", "accuracies", "message"),
    [
        ([1, 0.5], [0.1, 0.2], "3 points or more"),
        ([0.5] * 5, [0.1, 0.2, 0.3, 0.2, 0.1], "all 5 points have the entropy 0.5"),
        ([1, 0.5, 0.2, math.nan], [0.1, 0.2, 0.3, 0.4], "finite"),
        ([1, 0.5, 0.2, 0.1], [0.1, 0.2, 0.3], "4 entropies and 3 accuracies"),
    ],
)
def test_points_that_cannot_tell_are_refused(entropies: list[float], accuracies: list[float], message: str) -> None:
    with pytest.raises(CannotFit, match=message):
        fit(entropies, accuracies)


def test_accuracies_without_spread_explain_nothing() -> None:
    law = fit(H, [0.4] * 4)
    assert (law.a, law.b, law.r_squared) == pytest.approx((0, 0.4, 0))


WORKED = [1.2, 0.8, 0.5, 0.3, 0.1]


def test_the_worked_numbers_of_the_reference() -> None:
    exact = fit(WORKED, [0.221586, 0.352935, 0.422153, 0.458017, 0.487379])
    assert (exact.a, exact.b, exact.ceiling) == pytest.approx((0.12, 0.62, 0.50), abs=1e-5)
    measured = [0.22, 0.36, 0.41, 0.47, 0.48]
    law = fit(WORKED, measured)
    found = (law.a, law.b, law.ceiling, law.r_squared, law.rmse, law.ceiling_stderr)
    assert found == pytest.approx((0.119218, 0.618077, 0.498859, 0.991150, 0.008893, 0.007933), abs=1e-5)
    early = fit(WORKED[:3], measured[:3])
    assert (early.ceiling, early.accuracy(0.1)) == pytest.approx((0.491542, 0.479390), abs=1e-5)


EIGHT = [1.2, 1.0, 0.8, 0.65, 0.5, 0.35, 0.2, 0.1]
NOISE = [0.004, -0.003, -0.004, 0.003, 0.004, -0.003, -0.004, 0.003]


def _accuracies(entropies: list[float], a: float = 0.12, noise: float = 1.0) -> list[float]:
    return [0.62 - a * math.exp(h) + noise * e for h, e in zip(entropies, NOISE, strict=True)]


@pytest.mark.parametrize(
    ("entropies", "accuracies", "reason"),
    [
        (EIGHT, _accuracies(EIGHT), None),
        (EIGHT, _accuracies(EIGHT, noise=0.0), None),
        (EIGHT[:7], _accuracies(EIGHT)[:7], "7 points, and 8 are needed"),
        ([h / 5 for h in EIGHT], _accuracies([h / 5 for h in EIGHT]), "spans a factor of 1.25"),
        (EIGHT, _accuracies(EIGHT, a=-0.12), "did not rise"),
        (EIGHT, _accuracies(EIGHT, noise=30.0), "of the variance"),
        # entropy comes and goes, and accuracy rises with the steps besides
        (
            [1.2, 0.2, 1.1, 0.25, 1.15, 0.15, 1.05, 0.1],
            [0.62 - 0.12 * math.exp(h) + 0.008 * i for i, h in enumerate([1.2, 0.2, 1.1, 0.25, 1.15, 0.15, 1.05, 0.1])],
            "follows the steps",
        ),
    ],
)
def test_a_law_is_believed_only_where_its_conditions_hold(
    entropies: list[float], accuracies: list[float], reason: str | None
) -> None:
    why_not = fit(entropies, accuracies).why_not
    assert why_not is None if reason is None else reason in (why_not or "")
