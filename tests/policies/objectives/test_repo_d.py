import pytest

from policies.objectives import ObjectiveConfig
from policies.objectives.objective import Objective
from policies.objectives.shapers import repo_d
from policies.objectives.statistics import Centre, centred_lp
from tests.policies.objectives.worked import f64, rows, surveyed, totals_of

TOKENS = rows([[1, 1, -1, -1]], [[0.9, 0.1, 0.5, 0.05]], entropy=[[0.3, 0.5, 0.7, 0.2]])  # the data of 8.1
L = centred_lp(TOKENS, totals_of(TOKENS), "batch")


def shaped(strength: float, centre: Centre = "batch") -> list[float]:
    part = repo_d.create(repo_d.Config(strength=strength, centre=centre))
    seen, totals = surveyed(part, TOKENS)
    return part.apply(TOKENS.advantage_BT, seen, totals).advantage_BT[0].tolist()


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (repo_d.expected_change(TOKENS, L), 0.320233),
        (float((L**2).mean()), 1.368761),
        (1 / float((L**2).mean()), 0.730588),
        (shaped(0.730588), [0.668049, 1.182108, -1.194433, -0.655724]),
        (shaped(0.1), [0.954564, 1.024926, -1.026613, -0.952877]),
        (float((f64([shaped(1 / float((L**2).mean()))]) * L).mean()), 0.0),  # the covariance is gone
    ],
)
def test_the_expected_change_and_the_push_against_it(found: object, expected: object) -> None:
    """Reference: objectives.md 8.3."""
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("centre", ["exact", "batch", "none"])
def test_without_strength_it_is_the_identity(centre: Centre) -> None:
    assert shaped(0.0, centre) == TOKENS.advantage_BT[0].tolist()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_one_strength_damps_the_change_whichever_way_it_goes(sign: float) -> None:
    part = repo_d.create(repo_d.Config(strength=0.3, centre="batch"))
    some = rows((sign * TOKENS.advantage_BT).tolist(), TOKENS.lp_BT.exp().tolist())
    seen, totals = surveyed(part, some)
    after = float((part.apply(some.advantage_BT, seen, totals).advantage_BT * L).mean())
    assert 0 < sign * after < 0.320233


def test_exact_centring_reads_the_entropy_of_then_and_now() -> None:
    part = repo_d.create(repo_d.Config())
    assert part.needs == {"entropy", "old_entropy"}
    assert repo_d.create(repo_d.Config(centre="batch")).needs == {"mean_lp"}
    exact = TOKENS.lp_BT + f64([[0.3, 0.5, 0.7, 0.2]])
    change = float((TOKENS.advantage_BT * exact).mean())
    assert shaped(0.2, "exact") == pytest.approx((TOKENS.advantage_BT - 0.2 * change * exact)[0].tolist())


def test_nothing_the_policy_wrote_leaves_advantages_alone() -> None:
    nothing = rows([[1, -1]], [[0.9, 0.1]], entropy=[[1, 1]], mask=[[False, False]])
    assert repo_d.expected_change(nothing, nothing.lp_BT) == 0


def test_it_comes_before_what_multiplies() -> None:
    with pytest.raises(ValueError, match="`repo_d` subtracts from the advantage"):
        ObjectiveConfig.model_validate({"preset": "rloo", "shapers": ["top_entropy", "repo_d"]})


def test_its_preset_moves_a_positive_strength_around_the_entropy_of_the_start() -> None:
    objective = Objective(ObjectiveConfig.model_validate("repo_d"))
    [controller] = objective.describe()["controllers"]
    assert {k: controller[k] for k in ("type", "knob", "target", "factor", "low", "high")} == {
        "type": "geometric",
        "knob": "strength",
        "target": 1.0,
        "factor": 1.2,
        "low": 1e-4,
        "high": 0.1,
    }
    assert objective.observe(0.5)["coefficient"] == 1e-3
    assert objective.observe(0.5)["coefficient"] == pytest.approx(1.2e-3)
