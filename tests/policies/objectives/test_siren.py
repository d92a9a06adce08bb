import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from policies.objectives import Objective, ObjectiveConfig, ObjectiveError, ShapedRows, Totals
from policies.objectives.parts import PartState, Term
from policies.objectives.terms import siren
from tests.policies.objectives.steps import begun, rows_of, totals_of
from tests.policies.objectives.surrogates import entropy_terms
from tests.policies.objectives.surrogates.case import random_case
from tests.policies.objectives.worked import f64, memory, rows, surveyed


def make(**options: float) -> Term:
    term = siren.create(siren.Config.model_validate(options))
    assert term is not None
    return term


def played(entropy: list[list[float]], arms: list[int] | None = None) -> ShapedRows:
    """A step with these entropies at its start; no advantage anywhere."""
    shape = [[0.5] * len(row) for row in entropy]
    some = rows([[0.0] * len(row) for row in entropy], shape, entropy=entropy)
    arm_B = torch.tensor(arms or [0] * len(entropy))
    return replace(some, entropy_old_BT=some.entropy_BT, arm_B=arm_B)


ROW = [0.05, 0.1, 0.2, 0.6, 0.9]


def test_tokens_above_the_percentile_of_their_sequence_are_kept() -> None:
    """Reference: objectives.md 11.5."""
    some = f64([ROW])
    assert float(some.quantile(0.8)) == pytest.approx(0.66)
    assert siren.shares(some, torch.ones(1, 5, dtype=torch.bool), 0.8).tolist() == [[0, 0, 0, 0, 1]]


def test_the_coefficient_is_the_derivative_of_the_squared_gap() -> None:
    """Hbar .9 around an anchor of .7: .0002, with a derivative of .002. Reference: objectives.md 11.5."""
    kept = PartState({"": 0.7}, memory().rng)
    some, totals = surveyed(make(), played([ROW]), kept)
    added = make().apply(some, totals)
    assert added.k_BT is not None
    assert float(added.value_BT.sum()) / totals.num_tokens == pytest.approx(0.0002)
    assert (added.k_BT / totals.num_tokens)[0].tolist() == pytest.approx([0, 0, 0, 0, -0.002])


def test_the_first_step_is_the_anchor_and_gives_nothing() -> None:
    kept = memory()
    some, totals = surveyed(make(), played([ROW, ROW[::-1]]), kept)
    added = make().apply(some, totals)
    assert added.k_BT is not None
    assert not added.k_BT.any()
    assert kept.kept == {"": pytest.approx(0.9)}
    surveyed(make(), played([[2 * h for h in ROW]]), kept)
    assert kept.kept == {"": pytest.approx(0.9)}


@pytest.mark.parametrize(("now", "sign"), [(2.0, -1), (0.5, 1)])
def test_entropy_is_drawn_back_from_either_side(now: float, sign: int) -> None:
    kept = memory()
    surveyed(make(), played([ROW]), kept)
    some, totals = surveyed(make(), played([[now * h for h in ROW]]), kept)
    added = make().apply(some, totals)
    assert added.k_BT is not None
    assert added.k_BT.sum().sign() == sign


def test_every_environment_has_its_own_anchor() -> None:
    kept, arms = memory(), ("one/a", "two/b", "one/c")

    def begin(entropy: list[list[float]]) -> Tensor:
        some = played(entropy, [0, 1, 2])
        totals = Totals(num_tokens=6, num_sequences=3, arms=arms)
        survey = make(siren_percentile=0).survey
        assert survey is not None
        return survey(some, totals, kept).tokens["siren.gap"][:, 0]

    begin([[0.1, 0.5], [0.1, 2.0], [0.1, 0.7]])
    assert kept.kept == {"one": pytest.approx(0.6), "two": pytest.approx(2.0)}
    assert begin([[0.1, 0.6], [0.1, 2.0], [0.1, 0.8]]).tolist() == pytest.approx([0.1, 0, 0.1])


@pytest.mark.parametrize("row", [[0.4], [0.3, 0.3, 0.3]], ids=["one token", "equal entropies"])
def test_a_sequence_that_keeps_no_token_counts_with_a_mean_of_0(row: list[float]) -> None:
    kept = memory()
    surveyed(make(), played([row]), kept)
    assert kept.kept == {"": 0.0}


def test_padding_is_in_no_percentile() -> None:
    mask_BT = torch.tensor([[True] * 5 + [False] * 3, [False] * 8])
    wide_BT = torch.cat([f64([ROW, ROW]), torch.full((2, 3), 9.0, dtype=torch.float64)], dim=1)
    assert siren.shares(wide_BT, mask_BT, 0.8).tolist() == [[0, 0, 0, 0, 1, 0, 0, 0], [0] * 8]


@pytest.mark.parametrize("seed", range(3))
def test_away_from_the_anchor_its_gradient_is_that_of_the_published_loss(seed: int) -> None:
    case, anchors = random_case(seed), {"one": 0.8, "two": 1.9}
    step = begun("siren", case)
    objective = Objective(step.objective.config)
    objective.load_state(objective.state() | {"memory": {"siren": anchors}})
    some = rows_of(case, step.rows.advantage_BT)
    start = replace(some, lp_BT=some.lp_old_BT, entropy_BT=some.entropy_old_BT)
    noted = objective.survey(start, totals_of(some, case))
    found = objective.coefficients(replace(some, noted=noted.tokens), totals_of(some, case))
    [expected] = torch.autograd.grad(-entropy_terms.siren(case, anchors), case.entropy_BT)
    assert found.k_BT is not None
    assert found.k_BT.any()
    torch.testing.assert_close(found.k_BT, expected, rtol=1e-6, atol=1e-9)


def test_the_anchor_is_in_the_checkpoint() -> None:
    objective = begun("siren", random_case(0)).objective
    saved = json.loads(json.dumps(objective.state()))
    assert set(saved["memory"]["siren"]) == {"one", "two"}


def test_the_nucleus_is_told_to_the_learner() -> None:
    assert make(siren_mass=0.6).nucleus == 0.6
    assert make().needs == {"entropy", "entropy_grad", "old_entropy"}


def test_off_and_without_entropies() -> None:
    assert siren.create(siren.Config(siren_coefficient=0)) is None
    with pytest.raises(ObjectiveError, match="start of the step"):
        surveyed(make(), rows([[1.0]], [[0.5]]))


@pytest.mark.parametrize("changed", [{"siren_mass": 0.9}, {"siren_percentile": 0.5}, {"temperature": 0.7}, {}])
def test_an_anchor_of_other_entropies_begins_anew(changed: dict[str, float]) -> None:
    options = {key: value for key, value in changed.items() if key != "temperature"}
    fork = Objective(ObjectiveConfig.model_validate({"preset": "siren", **options}), 0, changed.get("temperature", 1.0))
    state = begun("siren", random_case(1)).objective.state()
    assert set(state["memory"]["siren"]) == {"one", "two"}
    assert fork.load_state(json.loads(json.dumps(state))) == (["what `siren` remembers"] if changed else [])
    assert fork.state()["memory"].get("siren", {}) == ({} if changed else state["memory"]["siren"])
