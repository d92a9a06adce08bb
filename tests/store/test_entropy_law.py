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
        ([1, 0.5, 0.2], [0.1, 0.2, 0.3], "4 points or more"),
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
