from dataclasses import replace

import pytest
import torch

from policies.objectives.statistics import token_covariance
from tests.policies.objectives.worked import f64, rows

FIXTURE = rows([[1, 1], [-1, -1]], [[0.9, 0.1], [0.5, 0.05]])


def test_covariances_of_the_worked_tokens() -> None:
    """Reference: objectives.md 9."""
    found = token_covariance(FIXTURE)
    torch.testing.assert_close(found, f64([[1.418846, -0.778379], [-0.831059, 1.471526]]), atol=1e-6, rtol=0)
    assert float(found.mean()) == pytest.approx(0.320233, abs=1e-6)


def test_it_is_of_the_start_of_the_step() -> None:
    moved = replace(FIXTURE, lp_BT=FIXTURE.lp_BT - 1)
    assert torch.equal(token_covariance(moved), token_covariance(FIXTURE))


def test_what_stands_off_the_mask_does_not_count() -> None:
    mask = [[True, True, False], [True, True, False]]
    wide = rows([[1, 1, 9], [-1, -1, 9]], [[0.9, 0.1, 0.3], [0.5, 0.05, 0.3]], mask=mask)
    found = token_covariance(wide)
    torch.testing.assert_close(found[:, :2], token_covariance(FIXTURE))
    assert not found[:, 2].any()


def test_no_valid_token_gives_0() -> None:
    nothing = rows([[1, -1]], [[0.9, 0.1]], mask=[[False, False]])
    assert token_covariance(nothing).tolist() == [[0, 0]]
