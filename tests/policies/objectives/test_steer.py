from collections.abc import Mapping

import pytest
import torch

from policies.objectives.shapers import steer
from tests.policies.objectives.worked import f64, rows, surveyed

TOKENS = rows([[1, 1, -1]], [[0.9, 0.5, 0.1]], entropy=[[0.3, 0.7, 1.0]])


def weights(options: Mapping[str, object]) -> list[float]:
    part = steer.create(steer.Config.model_validate(options))
    seen, totals = surveyed(part, TOKENS)
    shaped_BT = part.apply(TOKENS.advantage_BT, seen, totals).advantage_BT
    return (shaped_BT / TOKENS.advantage_BT)[0].tolist()


EXPONENTIAL = {"steer_form": "exponential"}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            steer.change(TOKENS.advantage_BT, TOKENS.lp_BT, f64([[0.3, 0.7, 1.0]]))[0].tolist(),
            [0.019464, 0.003426, 1.172327],
        ),
        (weights({}), [1.194512, 1.2, 0.8]),
        (weights(EXPONENTIAL), [0.996302, 0.999348, 0.8]),
        (weights({"steer_least": 1.0, "steer_most": 1.0}), [1, 1, 1]),
        (weights(EXPONENTIAL | {"steer_least": 1.0}), [1, 1, 1]),
        # the median for the largest, and one above it
        (weights({"steer_quantile": 0.5}), [0.8, 1.2, 0.8]),
    ],
)
def test_changes_and_weights(found: list[float], expected: list[float]) -> None:
    """Reference: objectives.md 10.2."""
    assert found == pytest.approx(expected, abs=1e-6)


def test_k_of_the_exponential_form() -> None:
    """Reference: objectives.md 10.2."""
    weight = float(steer.exponential(f64([1.0]), 1.172327, 0.8))
    assert weight == pytest.approx(float(f64([-0.190342]).exp()), abs=1e-6)
    assert float(steer.exponential(f64([0.001]), 0.001, 0.8)) == pytest.approx(0.8 ** (0.001 / 0.02))


def test_equal_changes_weigh_the_same() -> None:
    assert steer.linear(f64([0.3, 0.3]), 0.3, 0.3, 0.8, 1.2).tolist() == [1, 1]


def test_what_stands_off_the_mask_sets_no_scale() -> None:
    wide = rows(
        [[1, 1, -1, 7]],
        [[0.9, 0.5, 0.1, 0.01]],
        entropy=[[0.3, 0.7, 1.0, 9.0]],
        mask=[[True, True, True, False]],
    )
    found = surveyed(steer.create(steer.Config()), wide)[0].noted["steer.weight"][0, :3]
    torch.testing.assert_close(found, f64([1.194512, 1.2, 0.8]), atol=1e-6, rtol=0)


def test_nothing_the_policy_wrote_weighs_1() -> None:
    nothing = rows([[1.0]], [[0.5]], entropy=[[1.0]], mask=[[False]])
    assert surveyed(steer.create(steer.Config()), nothing)[0].noted["steer.weight"].tolist() == [[1]]
