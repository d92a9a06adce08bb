"""The property tests of objectives.md 18 that concern coefficients, over generated rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from policies.objectives import Coefficients, ShapedRows
from policies.objectives.mismatch_weights import tis
from policies.objectives.presets import PRESETS
from policies.objectives.ratio_rules import ppo, reinforce
from policies.objectives.shapers import repo, repo_r
from tests.policies.objectives.steps import begun, on_every_tensor
from tests.policies.objectives.surrogates.case import random_case
from tests.policies.objectives.worked import f64

EVERY_PRESET = pytest.mark.parametrize("preset", PRESETS)
PUSHES_WITHOUT_SIGNAL = {"repo", "repo_adaptive", "repo_d", "entropy_bonus", "skywork", "epo", "dppo"}
PUSHES_BY_DRIFT = {"disco", "drpo", "siren"}  # or by the distance to an anchor: sometimes
seeds = st.integers(0, 2**31 - 1)
Change = Callable[[Tensor], Tensor]
few = settings(max_examples=20, derandomize=True)
a_few = settings(few, max_examples=2)  # of every preset


def some_rows(seed: int) -> ShapedRows:
    """A step whose first group has no spread, and whose fourth row has no token of the policy."""
    return begun("rloo", random_case(seed)).rows


def assert_same(found: Coefficients, expected: Coefficients, change: Change) -> None:
    torch.testing.assert_close(found.w_BT, change(expected.w_BT))
    assert (found.k_BT is None) == (expected.k_BT is None)
    if found.k_BT is not None and expected.k_BT is not None:
        torch.testing.assert_close(found.k_BT, change(expected.k_BT))


@EVERY_PRESET
@a_few
@given(seeds, st.integers(1, 22))
def test_the_micro_batch_split_does_not_matter(preset: str, seed: int, at: int) -> None:
    """Reference: objectives.md 18."""
    step = begun(preset, random_case(seed))
    whole = step.fill()
    num = len(step.rows.lp_BT)
    for places in (list(range(at)), list(range(at, num))):
        [piece] = step.cut(places)
        assert_same(step.fill(piece), whole, lambda x, places=places: x[torch.tensor(places)])


@EVERY_PRESET
@a_few
@given(seeds)
def test_the_order_of_rows_does_not_matter(preset: str, seed: int) -> None:
    """Reference: objectives.md 18."""
    case = random_case(seed)
    order = torch.randperm(len(case.lp_BT), generator=torch.Generator().manual_seed(seed))
    shuffled = begun(preset, case, lambda rows: on_every_tensor(rows, lambda x: x[order]))
    assert_same(shuffled.fill(), begun(preset, case).fill(), lambda x: x[order])


@EVERY_PRESET
@a_few
@given(seeds, st.sampled_from([float("nan"), float("inf"), -float("inf")]))
def test_padding_and_what_stands_in_it_do_not_matter(preset: str, seed: int, junk: float) -> None:
    """Reference: objectives.md 18."""
    case = random_case(seed)

    def pad(x: Tensor) -> Tensor:
        return x if x.ndim == 1 else torch.nn.functional.pad(x, (0, 3))

    def dirty(rows: ShapedRows) -> ShapedRows:
        wide = on_every_tensor(rows, pad)
        return on_every_tensor(
            wide, lambda x: x.masked_fill(~wide.mask_BT, junk) if x.is_floating_point() and x.ndim == 2 else x
        )

    found, expected = begun(preset, case, dirty).fill(), begun(preset, case).fill()
    assert_same(found, expected, pad)
    for name, metric in expected.sums.items():
        assert found.sums[name] == pytest.approx(metric)
    assert found.maxima == pytest.approx(expected.maxima)


@EVERY_PRESET
@a_few
@given(seeds)
def test_nothing_reaches_tokens_the_policy_did_not_write(preset: str, seed: int) -> None:
    """Reference: objectives.md 18."""
    step = begun(preset, random_case(seed))
    found = step.fill()
    assert not found.w_BT[~step.rows.mask_BT].any()
    assert found.k_BT is None or not found.k_BT[~step.rows.mask_BT].any()


@pytest.mark.parametrize("preset", [name for name in PRESETS if name not in PUSHES_BY_DRIFT])
@a_few
@given(seeds)
def test_no_signal_gives_no_coefficient(preset: str, seed: int) -> None:
    """A group without spread is left alone by all but those that push on entropy or compare with other groups.

    Reference: objectives.md 18.
    """
    step = begun(preset, random_case(seed))
    is_silent_B = ~step.rows.advantage_BT.any(-1)
    found = step.fill()
    is_moved = bool(found.w_BT[is_silent_B].any()) or found.k_BT is not None
    assert is_moved == (preset in PUSHES_WITHOUT_SIGNAL)


@few
@given(seeds)
def test_without_strength_a_shaper_is_the_identity(seed: int) -> None:
    """Reference: objectives.md 18."""
    rows = some_rows(seed)
    assert torch.equal(repo.shape(rows.advantage_BT, rows.lp_BT, 0.0), rows.advantage_BT)
    assert torch.equal(repo_r.shape(rows.advantage_BT, rows.lp_BT, 0.0), rows.advantage_BT)
    assert torch.equal(tis.weigh(torch.zeros_like(rows.lp_BT), 2.0), torch.ones_like(rows.lp_BT))


@few
@given(seeds, st.floats(-1, 1))
def test_repo_r_never_changes_the_sign(seed: int, zeta: float) -> None:
    """Reference: objectives.md 18."""
    rows = some_rows(seed)
    shaped_BT = repo_r.shape(rows.advantage_BT, rows.lp_BT, zeta)
    assert (shaped_BT * rows.advantage_BT >= 0).all()


RULES = {
    "reinforce": reinforce.create(reinforce.Config()),
    "ppo": ppo.create(ppo.Config()),
    "ppo dual clip": ppo.create(ppo.Config(dual_clip=1.4)),
}
EVERY_RULE = pytest.mark.parametrize("rule", RULES)


@EVERY_RULE
@few
@given(seeds, st.floats(0.01, 100))
def test_a_ratio_rule_sees_only_the_sign(rule: str, seed: int, weight: float) -> None:
    """Reference: objectives.md 18."""
    rows = some_rows(seed)
    c_BT = RULES[rule].apply(rows.advantage_BT, rows).c_BT
    assert torch.equal(RULES[rule].apply(weight * rows.advantage_BT, rows).c_BT, c_BT)


@EVERY_RULE
@few
@given(seeds)
def test_the_gradient_of_the_value_is_minus_a_times_c(rule: str, seed: int) -> None:
    """Reference: objectives.md 18."""
    rows, step = some_rows(seed), 1e-6
    rho_BT = (rows.lp_BT - rows.lp_old_BT).exp()
    is_far_BT = ((rho_BT[..., None] - f64([0.8, 1.28, 1.4])).abs() > 1e-4).all(-1)  # undefined at the bounds

    def value(shift: float) -> Tensor:
        return RULES[rule].apply(rows.advantage_BT, replace(rows, lp_BT=rows.lp_BT + shift)).value_BT

    slope_BT = (value(step) - value(-step)) / (2 * step)
    expected_BT = -rows.advantage_BT * RULES[rule].apply(rows.advantage_BT, rows).c_BT
    torch.testing.assert_close(slope_BT[is_far_BT], expected_BT[is_far_BT], atol=1e-7, rtol=1e-6)
