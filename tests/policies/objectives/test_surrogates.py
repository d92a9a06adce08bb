"""For every preset the gradient of the single loss is that of its conventional loss, written out independently.

The conventional losses stand in `surrogates/`, a file a family; a step is drawn at random, away from kinks.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from policies.objectives.presets import PRESETS
from tests.policies.objectives import surrogates
from tests.policies.objectives.steps import begun
from tests.policies.objectives.surrogates.case import Case, random_case

LOSSES: dict[str, Callable[[Case], Tensor]] = {
    name: loss
    for module in pkgutil.iter_modules(surrogates.__path__)
    if module.name != "case"
    for name, loss in importlib.import_module(f"{surrogates.__name__}.{module.name}").SURROGATES.items()
}


def test_every_preset_has_a_conventional_loss() -> None:
    assert set(LOSSES) == set(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("seed", range(6))
def test_the_gradient_of_the_single_loss_is_that_of_the_conventional_one(preset: str, seed: int) -> None:
    case = random_case(seed)
    found = begun(preset, case).fill()
    by_lp, by_entropy = torch.autograd.grad(
        LOSSES[preset](case), (case.lp_BT, case.entropy_BT), allow_unused=True, materialize_grads=True
    )
    assert_same(found.w_BT, -by_lp)
    k_BT = torch.zeros_like(case.entropy_BT) if found.k_BT is None else found.k_BT
    assert_same(k_BT, -by_entropy)
    assert found.w_BT.any() or found.k_BT is not None


def assert_same(found: Tensor, expected: Tensor) -> None:
    """Equal to 1e-6 of the largest: what trajectories carry is float32."""
    largest = float(expected.detach().abs().max())
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6 * max(largest, 1e-3))
