from dataclasses import replace

import pytest
import torch
from torch import Tensor

from policies.objectives import ObjectiveError, Totals
from policies.objectives.parts import Shaper
from policies.objectives.shapers import repo, repo_r
from policies.objectives.statistics import Centre
from tests.policies.objectives.worked import f64, rows, totals_of

# Section 8.0: an exact softmax over three actions.
P = f64([0.7, 0.2, 0.1])
A = f64([0.2, -0.4, -0.6])


def entropy(p: Tensor) -> Tensor:
    return -(p * p.log()).sum(-1)


L = P.log() + entropy(P)
BETA_STAR = float((P * P * A * L).sum() / (P * P * L * L).sum())


def entropy_change(advantage: Tensor, eta: float) -> float:
    """Of one exact policy-gradient step: logits += eta * E[A * (onehot - p)]."""
    logits = P.log() + eta * (P * advantage - P * (P * advantage).sum())
    return float(entropy(logits.softmax(-1)) - entropy(P))


def natural_entropy_change(advantage: Tensor, eta: float) -> float:
    """Of one natural-gradient step: logits += eta * A."""
    return float(entropy((P.log() + eta * advantage).softmax(-1)) - entropy(P))


def shape_actions(shaper: Shaper) -> Tensor:
    """The three actions as one row of tokens, with the exact entropy at each."""
    some = rows([A.tolist()], [P.tolist()], entropy=[[float(entropy(P))] * 3])
    return shaper.apply(some.advantage_BT, some, totals_of(some)).advantage_BT[0]


@pytest.mark.parametrize(
    ("found", "expected", "tolerance"),
    [
        (float(entropy(P)), 0.801819, 1e-6),
        (L.tolist(), [0.445144, -0.807619, -1.500767], 1e-6),
        (float((P * P * A * L).sum()), 0.065551, 1e-6),
        (float((P * P * L * L).sum()), 0.145708, 1e-6),
        (BETA_STAR, 0.449877, 1e-6),
        (entropy_change(A, 0.01), -0.00065571, 1e-8),
        (entropy_change(A, 0.1), -0.00657542, 1e-8),
        (-0.01 * float((P * P * A * L).sum()), -0.00065551, 1e-8),
        (float((P * A * L).sum()), 0.216976, 1e-6),
        (float((P * L * L).sum()), 0.494387, 1e-6),
        (float((P * A * L).sum() / (P * L * L).sum()), 0.438878, 1e-6),
        (natural_entropy_change(A, 0.01), -0.00217117, 1e-8),
        ((A - BETA_STAR * L).tolist(), [-0.000260, -0.036671, 0.075160], 1e-6),
    ],
)
def test_the_entropy_change_of_a_step_and_the_strength_that_cancels_it(
    found: object, expected: object, tolerance: float
) -> None:
    """Reference: objectives.md 8.0."""
    assert found == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(("eta", "bound"), [(0.01, 1e-9), (0.1, 1e-7)])
def test_repo_at_beta_star_keeps_entropy(eta: float, bound: float) -> None:
    """Reference: objectives.md 8.0."""
    shaper = repo.create(repo.Config(strength=BETA_STAR, centre="exact"))
    assert abs(entropy_change(shape_actions(shaper), eta)) < bound


TOKENS = rows([[1, 1, -1, -1]], [[0.9, 0.1, 0.5, 0.05]])


def test_batch_centring() -> None:
    """Reference: objectives.md 8.1."""
    shaper = repo.create(repo.Config(strength=0.1, centre="batch"))
    shaped = shaper.apply(TOKENS.advantage_BT, TOKENS, totals_of(TOKENS))
    torch.testing.assert_close(
        shaped.advantage_BT, f64([[0.858115, 1.077838, -1.083106, -0.852847]]), atol=1e-6, rtol=0
    )


def test_exact_centring() -> None:
    """Reference: objectives.md 8.1."""
    shaper = repo.create(repo.Config(strength=0.1))
    torch.testing.assert_close(shape_actions(shaper), f64([0.155486, -0.319238, -0.449923]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("zeta", "advantage", "lp", "expected"),
    [
        (0.05, 2, -3, 2.3),
        (0.05, -2, -3, -1.7),
        (0.05, 1, -0.1, 1.005),
        (0.05, -1, -0.1, -0.995),
        (0.05, -1, -25, 0),
        (0.05, 0, -3, 0),
        (-0.05, 2, -3, 1.7),
        (-0.05, -2, -3, -2.3),
        (-0.05, 1, -25, 0),
        (0.1, 2, -3, 2.6),
        (0.1, -2, -3, -1.4),
    ],
)
def test_shaped_advantages(zeta: float, advantage: float, lp: float, expected: float) -> None:
    """Reference: objectives.md 8.2."""
    assert float(repo_r.shape(f64([[advantage]]), f64([[lp]]), zeta)) == pytest.approx(expected, abs=1e-12)


def test_repo_r_is_relative_repo() -> None:
    some = rows([[1.5, -0.5, 0.25]], [[0.3, 0.02, 0.9]])
    by_repo = repo.shape(some.advantage_BT, some.lp_BT, 0.03 * some.advantage_BT.abs())
    torch.testing.assert_close(repo_r.shape(some.advantage_BT, some.lp_BT, 0.03), by_repo)


@pytest.mark.parametrize("module", [repo, repo_r])
@pytest.mark.parametrize(("centre", "message"), [("exact", "entropy of every token"), ("batch", "Totals.mean_lp")])
def test_a_centre_without_what_it_reads_is_refused(module: object, centre: Centre, message: str) -> None:
    shaper = module.create(module.Config(centre=centre))  # type: ignore[attr-defined]
    with pytest.raises(ObjectiveError, match=message):
        shaper.apply(TOKENS.advantage_BT, TOKENS, Totals(num_tokens=4, num_sequences=1))


@pytest.mark.parametrize(("centre", "needs"), [("exact", {"entropy"}), ("batch", {"mean_lp"}), ("none", set())])
def test_centring_needs_the_entropy_or_the_mean_over_the_step(centre: Centre, needs: set[str]) -> None:
    assert repo_r.create(repo_r.Config(centre=centre)).needs == needs


def test_an_environment_without_signal_is_not_pushed_as_hard_as_the_one_beside_it_earns() -> None:
    some = replace(rows([[0.4, -0.4], [0.1, -0.1], [0.0, 0.0]], [[0.5, 0.2]] * 3), arm_B=torch.tensor([0, 1, 2]))
    totals = replace(
        totals_of(some), arms=("a/x", "b/y", "c/z"), signal=0.5 / 3, signals={"a": 0.4, "b": 0.1, "c": 0.0}
    )
    alike = repo.create(repo.Config(strength=0.1, centre="none")).apply(some.advantage_BT, some, totals).advantage_BT
    own = repo.create(repo.Config(strength=0.1, centre="none", per_environment=True))
    moved = own.apply(some.advantage_BT, some, totals).advantage_BT - some.advantage_BT
    share = (moved / (alike - some.advantage_BT)).mean(-1)
    assert share.tolist() == pytest.approx([1.0, 0.1 / (0.5 / 3), 0.0])
    silent = own.apply(some.advantage_BT, some, replace(totals, signal=0.0)).advantage_BT
    assert torch.equal(silent, alike), "where nothing has a signal, none has less than another"
