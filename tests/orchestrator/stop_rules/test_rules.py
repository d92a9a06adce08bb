"""Stop rules, against the curricula reference, section 7.3, and the plasticity reference, section 6."""

from __future__ import annotations

import pytest

from orchestrator.stop_rules.contracts import WindowStats
from orchestrator.stop_rules.dead_signal import DeadSignal
from orchestrator.stop_rules.mastery import Mastery, wilson
from orchestrator.stop_rules.plateau import Plateau, slope_and_bound


def evals(scores: list[float], signal: float | None = 0.2, num_groups: int = 250) -> list[WindowStats]:
    return [WindowStats(score, num_groups, signal) for score in scores]


def test_the_wilson_interval() -> None:
    assert wilson(0.30, 200) == pytest.approx((0.240747, 0.366791), abs=1e-6)


SECTION_7_3 = [
    ([0.50, 0.52, 0.53, 0.53, 0.53], 0.0070, 0.0129, False),
    ([0.530, 0.530, 0.535, 0.530, 0.532], 0.0004, 0.0022, True),
]


@pytest.mark.parametrize(("scores", "slope", "upper", "stops"), SECTION_7_3)
def test_the_slope_and_bound_of_a_plateau(scores: list[float], slope: float, upper: float, stops: bool) -> None:
    assert slope_and_bound(scores) == (pytest.approx(slope, abs=5e-5), pytest.approx(upper, abs=5e-5))
    reason = Plateau(delta=0.005).verdict(evals([0.1, *scores]))
    assert (reason is not None) == stops
    if reason:
        assert reason.startswith("plateau: the score gains 0.0004 in ten steps, below 0.0022")


def test_four_evals_are_no_plateau_yet() -> None:
    assert Plateau(0.005).verdict(evals([0.5] * 4)) is None
    assert Plateau(0.005).verdict(evals([0.5] * 5)) is not None


def test_mastery_wants_confidence_and_looks_at_the_newest_eval() -> None:
    rule = Mastery(target=0.9)
    assert rule.verdict(evals([0.99, 0.92])) is None, "250 groups leave .92 uncertain"
    assert rule.verdict(evals([0.92], num_groups=5000)) is not None
    reason = rule.verdict(evals([0.2, 0.97]))
    assert reason == "mastery: score 0.97, at least 0.94 with 95 % confidence, target 0.9"


DEAD = [
    ([0.01, 0.0, 0.019], True),
    ([0.5, 0.01, 0.0, 0.019], True),
    ([0.01, 0.02, 0.01], False),
    ([0.0, 0.0], False),
    ([0.0, None, 0.0], False),
]


@pytest.mark.parametrize(("signals", "stops"), DEAD)
def test_a_signal_is_dead_after_three_evals_below_the_threshold(signals: list[float | None], stops: bool) -> None:
    history = [WindowStats(1.0, 250, signal) for signal in signals]
    assert (DeadSignal(0.02).verdict(history) is not None) == stops
