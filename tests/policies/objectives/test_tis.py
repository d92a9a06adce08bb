import pytest
import torch

from policies.objectives import Objective, ObjectiveConfig, Totals
from policies.objectives.mismatch_weights import tis
from tests.policies.objectives.worked import P_NEW, P_OLD, P_ROLL, f64, rows

FIXTURE = rows([[1, -1, -1, 1]], [P_NEW], [P_OLD], [P_ROLL])
TOTALS = Totals(num_tokens=4, num_sequences=1)


@pytest.mark.parametrize(
    ("cap", "weights"),
    [(1e9, [1.111111, 1, 0.947368, 5]), (2.0, [1.111111, 1, 0.947368, 2])],
    ids=["raw", "C = 2"],
)
def test_token_weights(cap: float, weights: list[float]) -> None:
    """Reference: objectives.md 7."""
    shaper = tis.create(tis.Config(tis_cap=cap))
    assert shaper is not None
    shaped = shaper.apply(FIXTURE.advantage_BT, FIXTURE, TOTALS)
    torch.testing.assert_close(shaped.advantage_BT, FIXTURE.advantage_BT * f64([weights]), atol=1e-6, rtol=0)


def test_it_reports_weight_and_share_at_the_cap() -> None:
    shaper = tis.create(tis.Config())
    assert shaper is not None
    shaped = shaper.apply(FIXTURE.advantage_BT, FIXTURE, TOTALS)
    assert shaped.means["tis_capped_frac"].tolist() == [[0, 0, 0, 1]]
    assert float(shaped.maxima["tis_weight_max"].max()) == 2


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("tis_weight_mean", 0.5 + 1 + 2),
        ("tis_weight_squared", 0.25 + 1 + 4),
        ("tis_capped_frac", 1),
        ("sampler_kl", 0.193147 + 0 + 0.901388),  # a mean of .364845
        ("sampler_gap_mean", 0.693147 + 0 + 1.098612),
    ],
)
def test_rollouts_12_row_24_weights_of_known_gaps(name: str, total: float) -> None:
    """Gaps of ln .5, 0 and ln 3 with a cap of 2 (rollouts.md 12)."""
    seen = rows([[1, 1, 1]], [[0.1, 0.2, 0.6]], [[0.1, 0.2, 0.6]], [[0.2, 0.2, 0.2]])
    objective = Objective(ObjectiveConfig.model_validate("rloo"))
    found = objective.coefficients(seen, Totals(num_tokens=3, num_sequences=1))
    assert found.sums[name] == pytest.approx((total, 3), abs=1e-6)
    assert found.maxima["tis_weight_max"] == 2


def test_no_cap_means_no_weights() -> None:
    assert tis.create(tis.Config(tis_cap=None)) is None
