import math
from dataclasses import replace

import pytest
import torch

from policies.objectives import Objective, ObjectiveConfig
from policies.objectives.ratio_rules.hapo import bounds
from policies.objectives.shapers import hapo
from tests.policies.objectives.worked import f64, rows, surveyed, totals_of

ENTROPY = [0.02, 0.1, 0.4, 1.2, 2.0]
SCORE = [-1, -0.606912, -0.268324, 0, 1]
TOKENS = rows([[1.0, -1, 1, -1, 1]], [[0.5] * 5], entropy=[ENTROPY])


def scores(entropy: list[float], mask: list[bool] | None = None, share: float = 0.8) -> list[float]:
    mask_BT = torch.tensor([[True] * len(entropy) if mask is None else mask])
    return hapo.score(f64([entropy]), mask_BT, share)[0].tolist()


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (scores(ENTROPY), SCORE),
        (bounds(f64(SCORE), 0.2, 0.2)[0].tolist(), [0.4, 0.321382, 0.253665, 0.2, 0.2]),
        (bounds(f64(SCORE), 0.2, 0.2)[1].tolist(), [0.2, 0.2, 0.2, 0.2, 0.4]),
        (scores([*ENTROPY, 1e9, 0.0], [True] * 5 + [False] * 2), [*SCORE, 0, 0]),
        (scores([0.7, 0.7]), [0, 0]),  # all equal: nobody is above or below
        (scores([0.5, 1.0], share=1.0), [-1, 0]),
        (scores([0.5, 1.0], share=0.0), [0, 1]),
        (scores([0.0, 1e-8, 1.0]), [-1, -1, 0]),  # held at 1e-8
        (scores([1.0, 1.0], [False, False]), [0, 0]),
    ],
)
def test_scores_and_bounds(found: list[float], expected: list[float]) -> None:
    """Reference: objectives.md 10.5."""
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("score", "rho", "expected"),
    [
        (0.5, 1.0, 1),  # undecided: the weight counts outside, here of .9 to 1.15
        (0.5, 1.14, 1),
        (0.5, 1.16, 1.5),
        (0.5, 0.89, 1.5),
        (-0.5, 1.0, 0.5),  # decided: inside, here of .85 to 1.1
        (-0.5, 0.86, 0.5),
        (-0.5, 0.84, 1),
        (-0.5, 1.11, 1),
        (0.0, 1.0, 1),
        (0.0, 2.0, 1),
    ],
)
def test_weights(score: float, rho: float, expected: float) -> None:
    """Reference: objectives.md 10.5."""
    found = hapo.weigh(f64([[score]]), f64([[math.log(rho)]]), 0.2, 0.2)
    assert found.tolist() == [[pytest.approx(expected)]]


def test_it_weighs_by_the_score_of_the_start_and_the_ratio_of_now() -> None:
    part = hapo.create(hapo.Config())
    seen, totals = surveyed(part, TOKENS)
    moved = replace(seen, lp_BT=seen.lp_BT + math.log(1.3), entropy_BT=f64([[1.0] * 5]))
    shaped_BT = part.apply(moved.advantage_BT, moved, totals).advantage_BT
    torch.testing.assert_close(shaped_BT, f64([[1, -1, 1, -1, 2]]))
    shaped_BT = part.apply(seen.advantage_BT, seen, totals).advantage_BT
    expected = [a * (1 + min(h, 0)) for a, h in zip([1, -1, 1, -1, 1], SCORE, strict=True)]
    torch.testing.assert_close(shaped_BT, f64([expected]), atol=1e-6, rtol=0)


def test_the_ratio_rule_of_its_name_finds_the_score() -> None:
    objective = Objective(ObjectiveConfig.model_validate("hapo"))
    assert objective.needs == {"lp_old", "lp_roll", "old_entropy", "step"}
    start = replace(TOKENS, entropy_old_BT=TOKENS.entropy_BT)
    noted = objective.survey(start, totals_of(TOKENS))
    assert noted.tokens["hapo.score"][0].tolist() == pytest.approx(SCORE, abs=1e-6)
    moved = replace(TOKENS, lp_BT=TOKENS.lp_BT + math.log(1.3), noted=noted.tokens)
    found = objective.coefficients(moved, totals_of(TOKENS))
    # good tokens are clipped above 1.2, the last one, of score 1, only above 1.4
    expected = [0, -1.3, 0, -1.3, 2 * 1.3]
    assert found.w_BT[0].tolist() == pytest.approx([w / 5 for w in expected])
