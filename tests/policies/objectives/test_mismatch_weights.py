"""Weights and masks against the mismatch of sampler and trainer: objectives.md 7, and 18 where it concerns them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from policies.objectives import Objective, ObjectiveConfig, ShapedRows, Totals
from policies.objectives.mismatch_weights import geo_mask, icepop, off_policy_mask, seq_mask, seq_tis, tis
from policies.objectives.parts import Shaped, Shaper
from policies.objectives.registry import names
from tests.policies.objectives.steps import on_every_tensor, rows_of, totals_of
from tests.policies.objectives.surrogates.case import random_case
from tests.policies.objectives.worked import P_NEW, P_OLD, P_ROLL, f64, rows, two_by_two

WHOLE = rows([[1, -1, -1, 1]], [P_NEW], [P_OLD], [P_ROLL])  # one sequence
HALVES = rows([[-1, -1], [-1, -1]], two_by_two(P_NEW), two_by_two(P_OLD), two_by_two(P_ROLL))
TOTALS = Totals(num_tokens=4, num_sequences=1)

EVERY: dict[str, Shaper | None] = {
    "tis": tis.create(tis.Config()),
    "icepop": icepop.create(icepop.Config()),
    "seq_tis": seq_tis.create(seq_tis.Config()),
    "seq_mask": seq_mask.create(seq_mask.Config()),
    "geo_mask": geo_mask.create(geo_mask.Config()),
    "off_policy_mask": off_policy_mask.create(off_policy_mask.Config(off_policy_mask_delta=0.1)),
}
OPTIONS = {
    "geo_mask": {"geo_mask_low": 0.8, "geo_mask_high": 1.2},
    "off_policy_mask": {"off_policy_mask_delta": 0.1},
}
EVERY_WEIGHT = pytest.mark.parametrize("name", EVERY)


def part(name: str) -> Shaper:
    found = EVERY[name]
    assert found is not None
    return found


def weights(shaped: Shaped, some: ShapedRows) -> Tensor:
    return shaped.advantage_BT / some.advantage_BT


def test_no_weight_is_left_out() -> None:
    assert set(EVERY) == set(names("mismatch_weights"))


@pytest.mark.parametrize(
    ("shaper", "expected"),
    [
        (icepop.create(icepop.Config(icepop_high=2)), [1.111111, 1, 0.947368, 0]),
        (icepop.create(icepop.Config(icepop_high=5.1)), [1.111111, 1, 0.947368, 5]),
        (icepop.create(icepop.Config(icepop_low=0.96, icepop_high=2)), [1.111111, 1, 0, 0]),
        (seq_tis.create(seq_tis.Config(seq_tis_cap=10)), [5.263158] * 4),
        (seq_tis.create(seq_tis.Config()), [2] * 4),
        (seq_mask.create(seq_mask.Config(seq_mask_cap=10)), [5.263158] * 4),
        (seq_mask.create(seq_mask.Config()), [0] * 4),
        (geo_mask.create(geo_mask.Config(geo_mask_high=1.514649)), [1] * 4),
        (geo_mask.create(geo_mask.Config(geo_mask_high=1.514647)), [0] * 4),
        (geo_mask.create(geo_mask.Config()), [0] * 4),
    ],
    ids=[
        "icepop .5/2",
        "icepop, wide",
        "icepop, from below",
        "seq_tis, raw",
        "seq_tis C = 2",
        "seq_mask, raw",
        "seq_mask C = 3",
        "geo_mask up to the mean",
        "geo_mask below the mean",
        "geo_mask of verl",
    ],
)
def test_weights_of_the_worked_tokens(shaper: Shaper, expected: list[float]) -> None:
    """Raw weights 10/9, 1, 18/19 and 5: their product is 5.263158, their geometric mean 1.514648.

    Reference: objectives.md 7.
    """
    shaped = shaper.apply(WHOLE.advantage_BT, WHOLE, TOTALS)
    torch.testing.assert_close(weights(shaped, WHOLE), f64([expected]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("delta", "kept"),
    [(0.125656, [0, 1]), (0.125658, [1, 1])],
    ids=["below the mean", "above it"],
)
def test_the_off_policy_mask_drops_bad_answers_that_the_policy_left(delta: float, kept: list[float]) -> None:
    """The means of lp_roll - lp are .125657 and -1.354025. Reference: objectives.md 7."""
    shaper = off_policy_mask.create(off_policy_mask.Config(off_policy_mask_delta=delta))
    shaped = shaper.apply(HALVES.advantage_BT, HALVES, TOTALS)
    assert weights(shaped, HALVES).tolist() == [[kept[0]] * 2, [kept[1]] * 2]


def test_off_policy_mask_leaves_good_answers_alone() -> None:
    """Reference: objectives.md 7."""
    shaper = off_policy_mask.create(off_policy_mask.Config(off_policy_mask_delta=0.1))
    shaped = shaper.apply(f64([[1, -1], [1, -1]]), HALVES, TOTALS)
    assert shaped.advantage_BT.tolist() == [[1, 0], [1, -1]]


def test_off_policy_mask_has_no_default() -> None:
    """Reference: objectives.md 7."""
    with pytest.raises(ValidationError, match="off_policy_mask_delta"):
        ObjectiveConfig.model_validate({"preset": "rloo", "mismatch": "off_policy_mask"})


@EVERY_WEIGHT
def test_equal_log_probs_change_nothing(name: str) -> None:
    """Reference: objectives.md 7."""
    equal = replace(HALVES, lp_roll_BT=HALVES.lp_old_BT, lp_BT=HALVES.lp_old_BT)
    shaped = part(name).apply(equal.advantage_BT, equal, TOTALS)
    assert torch.equal(shaped.advantage_BT, equal.advantage_BT)


@pytest.mark.parametrize(
    ("name", "mean", "squared", "largest", "share", "value"),
    [
        ("tis", (10 / 9 + 1 + 18 / 19 + 2) / 4, (100 / 81 + 1 + 324 / 361 + 4) / 4, 2, "capped_frac", 0.25),
        ("icepop", (10 / 9 + 1 + 18 / 19) / 4, (100 / 81 + 1 + 324 / 361) / 4, 10 / 9, "masked_frac", 0.25),
        ("seq_tis", 2, 4, 2, "capped_frac", 1),
        ("seq_mask", 0, 0, 0, "masked_frac", 1),
    ],
)
def test_what_a_weight_logs(name: str, mean: float, squared: float, largest: float, share: str, value: float) -> None:
    """Reference: objectives.md 7."""
    options = {"icepop_high": 2} if name == "icepop" else {}
    objective = Objective(ObjectiveConfig.model_validate({"preset": "rloo", "mismatch": name, **options}))
    found = objective.coefficients(WHOLE, TOTALS)
    own = {key for key in {**found.sums, **found.maxima} if key.startswith(name)}
    suffixes = ("weight_mean", "weight_squared", "weight_max", share)
    assert own == {f"{name}_{suffix}" for suffix in suffixes}
    assert found.sums[f"{name}_weight_mean"] == pytest.approx((4 * mean, 4))
    assert found.sums[f"{name}_weight_squared"] == pytest.approx((4 * squared, 4))
    assert found.sums[f"{name}_{share}"] == pytest.approx((4 * value, 4))
    assert found.maxima[f"{name}_weight_max"] == pytest.approx(largest)


def test_effective_sample_size_from_the_two_means() -> None:
    """Reference: objectives.md 7."""
    weight_BT = tis.weigh(WHOLE.lp_old_BT - WHOLE.lp_roll_BT, 2.0)
    shaped = part("tis").apply(WHOLE.advantage_BT, WHOLE, TOTALS)
    share = shaped.means["tis_weight_mean"].mean() ** 2 / shaped.means["tis_weight_squared"].mean()
    assert float(share) == pytest.approx(float(weight_BT.sum() ** 2 / (weight_BT**2).sum()) / 4)


@pytest.mark.parametrize("name", ["geo_mask", "off_policy_mask"])
def test_a_mask_logs_the_share_masked(name: str) -> None:
    """Reference: objectives.md 7."""
    shaped = part(name).apply(HALVES.advantage_BT, HALVES, TOTALS)
    assert set(shaped.means) == {f"{name}_masked_frac"}
    assert not shaped.maxima
    assert torch.equal(shaped.means[f"{name}_masked_frac"], (shaped.advantage_BT == 0).double())


def test_a_mask_may_multiply_a_weight() -> None:
    """Reference: objectives.md 7."""
    given = {"preset": "rloo", "mismatch": ["tis", "geo_mask"], "geo_mask_low": 0, "geo_mask_high": 1.1}
    objective = Objective(ObjectiveConfig.model_validate(given | {"ratio": "reinforce"}))
    found = objective.coefficients(replace(HALVES, advantage_BT=-HALVES.advantage_BT), TOTALS)
    torch.testing.assert_close(found.w_BT * 4, f64([[10 / 9, 1], [0, 0]]))
    assert {"tis_weight_mean", "geo_mask_masked_frac"} <= set(found.sums)


@EVERY_WEIGHT
def test_no_advantage_stays_none(name: str) -> None:
    """Reference: objectives.md 18."""
    shaped = part(name).apply(torch.zeros_like(HALVES.lp_BT), HALVES, TOTALS)
    assert part(name).zero_stays_zero
    assert not shaped.advantage_BT.any()


@EVERY_WEIGHT
def test_a_sequence_without_a_token_of_the_policy_is_harmless(name: str) -> None:
    empty = replace(HALVES, mask_BT=torch.tensor([[True, True], [False, False]]))
    shaped = part(name).apply(empty.advantage_BT, empty, TOTALS)
    for value_BT in (shaped.advantage_BT, *shaped.means.values(), *shaped.maxima.values()):
        assert value_BT.isfinite().all()


@pytest.mark.parametrize("gap", [1e4, -1e4])
@EVERY_WEIGHT
def test_a_huge_gap_stays_finite(name: str, gap: float) -> None:
    far = replace(HALVES, lp_roll_BT=HALVES.lp_roll_BT + gap)
    assert part(name).apply(far.advantage_BT, far, TOTALS).advantage_BT.isfinite().all()


@pytest.mark.parametrize("junk", [float("nan"), float("inf")])
@EVERY_WEIGHT
def test_padding_and_what_stands_in_it_do_not_matter(name: str, junk: float) -> None:
    """Reference: objectives.md 18."""
    clean, wide, dirty = of_case(name, 0, 0.0), of_case(name, 3, 0.0), of_case(name, 3, junk)
    assert torch.equal(wide, dirty)
    torch.testing.assert_close(clean, dirty[:, : clean.shape[1]])
    assert not dirty[:, clean.shape[1] :].any()


def of_case(name: str, padding: int, junk: float) -> Tensor:
    """W of a random step with some columns of padding more, and something in it."""
    case = random_case(3)
    some = rows_of(case, case.rloo() * case.mask_BT)
    totals = totals_of(some, case)
    some = on_every_tensor(some, lambda x: x if x.ndim == 1 else torch.nn.functional.pad(x, (0, padding)))
    off_BT = ~some.mask_BT
    some = on_every_tensor(some, lambda x: x.masked_fill(off_BT, junk) if x.is_floating_point() and x.ndim == 2 else x)
    given = {"preset": "rloo", "mismatch": name} | OPTIONS.get(name, {})
    return Objective(ObjectiveConfig.model_validate(given)).coefficients(some, totals).w_BT
