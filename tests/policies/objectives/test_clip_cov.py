from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from policies.objectives.parts import PartState, Shaper
from policies.objectives.shapers import clip_cov
from tests.policies.objectives.worked import rows, surveyed

FIXTURE = rows([[1, 1, -1, -1]], [[0.9, 0.1, 0.5, 0.05]])


def shaper(**options: float) -> Shaper:
    made = clip_cov.create(clip_cov.Config.model_validate(options))
    assert made is not None
    return made


def kept(part: Shaper, some: object = FIXTURE, seed: int = 0) -> list[int]:
    """Which tokens of the fixture keep their advantage."""
    assert isinstance(some, type(FIXTURE))
    seen, totals = surveyed(part, some, PartState({}, np.random.default_rng(seed)))
    shaped_BT = part.apply(some.advantage_BT, seen, totals).advantage_BT
    assert torch.equal(shaped_BT[shaped_BT != 0], some.advantage_BT[shaped_BT != 0])
    return shaped_BT[0].nonzero()[:, 0].tolist()


@pytest.mark.parametrize(
    ("options", "possible"),
    [
        ({}, [[1, 2, 3], [0, 1, 2]]),  # eligible 0 and 3, one of them is left out
        ({"clip_cov_low": 1.45}, [[0, 1, 2]]),  # eligible 3
        ({"clip_cov_high": 1.45}, [[1, 2, 3]]),  # eligible 0
        ({"clip_cov_ratio": 0.5}, [[1, 2]]),  # floor(.5 * 4)
        ({"clip_cov_ratio": 1.0}, [[1, 2]]),  # no more than are eligible
        ({"clip_cov_low": 2.0}, [[0, 1, 2, 3]]),  # none is eligible
    ],
)
def test_eligible_and_drawn(options: dict[str, float], possible: list[list[int]]) -> None:
    """Reference: objectives.md 9.1."""
    found = [kept(shaper(**options), seed=seed) for seed in range(20)]
    assert all(one in possible for one in found)
    assert all(one in found for one in possible)


def test_a_ratio_of_0_leaves_it_out() -> None:
    assert clip_cov.create(clip_cov.Config(clip_cov_ratio=0)) is None


def test_bounds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValidationError, match="no token is eligible"):
        clip_cov.Config(clip_cov_low=5, clip_cov_high=1)


def test_tokens_stay_left_out_for_all_updates_of_the_step() -> None:
    part = shaper()
    seen, totals = surveyed(part, FIXTURE)
    later = replace(seen, lp_BT=seen.lp_BT - 1)
    assert torch.equal(
        part.apply(later.advantage_BT, later, totals).advantage_BT,
        part.apply(seen.advantage_BT, seen, totals).advantage_BT,
    )


def test_the_same_tokens_are_drawn_whatever_the_order_of_rows() -> None:
    rng = torch.Generator().manual_seed(0)
    lp_BT = -4 * torch.rand(16, 8, generator=rng, dtype=torch.float64)
    advantage_BT = torch.where(torch.arange(16) % 3 == 0, 2.0, -1.0).double()[:, None].expand(16, 8)
    order = torch.randperm(16, generator=rng)
    some = replace(rows(advantage_BT.tolist(), lp_BT.exp().tolist()), lp_BT=lp_BT, lp_old_BT=lp_BT, lp_roll_BT=lp_BT)
    shuffled = replace(some, advantage_BT=advantage_BT[order], lp_old_BT=lp_BT[order])
    part = shaper(clip_cov_ratio=0.05)
    keep_BT = surveyed(part, some)[0].noted["clip_cov.keep"]
    assert int((keep_BT == 0).sum()) == 6
    assert torch.equal(surveyed(part, shuffled)[0].noted["clip_cov.keep"], keep_BT[order])


def test_nothing_the_policy_wrote_leaves_nothing_out() -> None:
    part = shaper()
    nothing = rows([[1, -1]], [[0.9, 0.1]], mask=[[False, False]])
    assert surveyed(part, nothing)[0].noted["clip_cov.keep"].tolist() == [[1, 1]]
