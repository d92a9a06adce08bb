"""The worked numbers of docs/reference/plasticity.md, sections 1.1, 1.2, 1.8 and 3.3 to 3.8."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from policies.forward import entropy_of
from policies.objectives.diagnostics import covariances
from policies.objectives.padding import pad
from policies.objectives.statistics import surprisal
from policies.objectives.terms.kl import k3
from policies.plasticity import dormant, ranks
from policies.plasticity.drift import Kept, compare
from policies.plasticity.frozen_rows import FrozenRows
from policies.plasticity.gradients import EnvironmentGradient as Gradient
from policies.plasticity.gradients import cosine, cosines, diversity, noise_scale, sketch
from policies.plasticity.weights import sums_of
from tests.policies.fakes import random_trajectories

TOLERANCE = 1e-5


def near(value: object) -> object:
    return pytest.approx(value, abs=TOLERANCE)


def f64(*values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(("temperature", "nats"), [(1, 0.947537), (0.5, 0.455429), (2, 1.245050)])
def test_token_entropy(temperature: float, nats: float) -> None:
    logits = f64(2, 1, 0, -1) / temperature
    assert float(entropy_of(logits.log_softmax(-1))) == near(nats)


def test_sampled_estimates_of_entropy() -> None:
    q, p = f64(0.5, 0.3, 0.2), f64(0.7, 0.2, 0.1)
    assert float(entropy_of(p.log())) == near(0.801819)
    assert float((q * -p.log()).sum()) == near(1.121686)
    assert float((q * surprisal(p.log(), q.log())).sum()) == near(0.801819)
    spread = (p * (p.log() + entropy_of(p.log())) ** 2).sum()
    logits = f64(2, 1, 0, -1).log_softmax(-1)
    assert float((logits.exp() * (logits + entropy_of(logits)) ** 2).sum().sqrt()) == near(0.785230)
    assert spread > 0


def test_the_covariance_that_costs_entropy() -> None:
    rows = random_trajectories(5, num_groups=1, group_size=2)[:1]
    batch = pad(rows).map(lambda value: value[:1])
    at = torch.tensor([[1.0, -1.0]]), torch.tensor([[-0.1, -2.0]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    made = type(batch)(**{**vars(batch), "mask_BT": mask, "advantage_BT": at[0], "lp_roll_BT": at[1]})
    total, count = covariances(made)[""]
    assert total / count == near(0.95)


def test_the_law_of_the_covariance() -> None:
    z, advantage = f64(1, 0, -1), f64(1, -0.5, -0.5)
    p = z.softmax(-1)
    dz = 1e-3 * (advantage - (p * advantage).sum())
    exact = entropy_of((z + dz).log_softmax(-1)) - entropy_of(z.log_softmax(-1))
    lp = z.log_softmax(-1)
    law = -((p * lp * dz).sum() - (p * lp).sum() * (p * dz).sum())
    assert float(exact) == pytest.approx(-0.000424, abs=1e-6)
    assert float(law) == pytest.approx(-0.000424, abs=1e-6)


def test_dormant_units() -> None:
    found = dormant.scores(f64(0, 0.01, 0.5, 1.49))
    assert found.tolist() == near([0, 0.02, 1, 2.98])
    assert dormant.share(found, 0.025) == 0.5
    assert dormant.share(found, 0) == 0.25
    functional = dormant.scores(f64(1, 1, 0.1, 2), f64(1, 0.01, 1, 0.5))
    assert functional.tolist() == near([1.895735, 0.018957, 0.189573, 1.895735])
    assert dormant.share(functional, 0.025) == 0.25


def test_dormant_units_are_pooled_over_units_and_not_over_layers() -> None:
    two_of_four, none_of_twelve = f64(0, 0, 1, 1), torch.ones(12, dtype=torch.float64)
    found = dormant.numbers([two_of_four, none_of_twelve], [torch.ones(4), torch.ones(12)])
    assert [found["dormant_0.025", layer] for layer in (-1, 0, 1)] == [0.125, 0.5, 0]
    assert found["log_activation_q50", 1] == 0
    assert found["log_activation_q01", 0] == near(math.log(dormant.LEAST)), "silent units do not make it infinite"
    assert dormant.share(dormant.scores(torch.zeros(3)), 0.025) == 1, "a silent layer is all dormant"


def test_ranks() -> None:
    sigma = f64(4, 2, 1, 1)
    assert ranks.erank(sigma) == near(3.363586)
    assert ranks.stable_rank(sigma) == near(1.375)
    assert [ranks.srank(sigma), ranks.srank(sigma, 0.2)] == [4, 3]
    assert [ranks.approx_rank(sigma, 0.9), ranks.approx_rank(sigma)] == [2, 4]
    assert ranks.participation(sigma) == near(1.766423)


def test_features_that_are_all_alike_have_no_rank_about_their_mean() -> None:
    width = 512  # with few, rounding may leave nothing
    generator = torch.Generator().manual_seed(0)
    one, gram = torch.randn(1, width, generator=generator), ranks.Gram()
    for _ in range(4):
        gram.add(one.expand(width, width))
    found = ranks.numbers(gram)
    assert found["erank"] == pytest.approx(1, abs=1e-3)
    assert {value for name, value in found.items() if name.endswith("_centred")} == {None}
    gram.add(one + 1e-3 * torch.randn(width, width, generator=generator))
    assert (ranks.numbers(gram)["erank_centred"] or 0) > width / 2, "what differs little differs"


def test_a_large_mean_hides_all_other_directions() -> None:
    gram = ranks.Gram()
    gram.add(torch.tensor([[10.0, 1], [10, -1]]))
    gram.add(torch.tensor([[10.0, 1], [10, -1]]))
    assert gram.singular_values().tolist() == near([20, 2])
    assert gram.singular_values(centred=True).tolist() == near([2, 0])
    assert ranks.numbers(gram)["stable_rank"] == near(1.01)
    assert [ranks.measured_layers(num) for num in (1, 2, 4, 24)] == [[0], [0, 1], [0, 1, 2, 3], [5, 11, 17, 23]]


def test_weights_and_updates() -> None:
    found = sums_of(f64(3, 5), f64(3, 4))
    assert found.norm == near(5.830952)
    assert [found.distance, found.relative_distance, found.cosine] == near([1, 0.2, 0.994692])
    assert sums_of(f64(3.003, 4.004), f64(3, 4)).relative_distance == near(0.001)
    assert sums_of(f64(1), f64(0)).relative_distance is None


def test_k3() -> None:
    r = f64(0.1, -0.2)
    assert float((r.exp() - 1 - r).mean()) == near(0.011951)
    assert float(k3(-r[None])[0].mean()) == near(0.011951), "the term's d is log(p / p_ref)"


BEFORE = f64([0.7, 0.2, 0.1], [0.4, 0.35, 0.25]).log()
AFTER = f64([0.6, 0.3, 0.1], [0.3, 0.45, 0.25]).log()


def test_churn() -> None:
    kl, flipped = compare(Kept.of(BEFORE, 3), AFTER)
    assert kl.tolist() == near([0.026812, 0.027113])
    assert float(kl.mean()) == near(0.026963)
    assert flipped.tolist() == [False, True]
    assert not compare(Kept.of(BEFORE, 3), BEFORE)[0].any()


def test_what_is_not_kept_makes_the_kl_smaller_and_never_larger() -> None:
    before, after = torch.randn(2, 50, 300, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind()
    before, after = (3 * before).log_softmax(-1), (3 * after).log_softmax(-1)
    exact = (before.exp() * (before - after)).sum(-1)
    torch.testing.assert_close(compare(Kept.of(before, 300), after)[0], exact, rtol=1e-5, atol=1e-5)
    fewer = [compare(Kept.of(before, num), after)[0] for num in (8, 64, 200)]
    assert bool((fewer[0] < fewer[1]).all() and (fewer[1] < fewer[2]).all() and (fewer[2] < exact + 1e-6).all())
    assert not compare(Kept.of(before, 8), before)[1].any()
    joined = Kept.join([Kept.of(before, 64), Kept.of(before, 8)])
    torch.testing.assert_close(compare(joined.take(torch.arange(50)), after)[0], fewer[0], rtol=1e-4, atol=1e-5)
    nothing = Kept.of(torch.zeros(0, 1), 1)
    assert Kept.join([Kept.of(before, 8), nothing]).ids.shape == (50, 8), "what has no distribution cuts no other"
    assert Kept.join([nothing, nothing]).ids.shape == (0, 1)
    even = torch.zeros(1, 5).log_softmax(-1)
    assert not compare(Kept.of(even, 5), even)[1].any(), "of equally likely tokens none has overtaken"


def gradient(*values: float) -> Gradient:
    sketch_D = f64(*values)
    return Gradient(float(sketch_D.norm()), sketch_D, None, None, 0)


def test_gradients() -> None:
    found = {"a": gradient(1, 0, 1), "b": gradient(1, 1, 0), "c": gradient(0, 0, 0.5)}
    between = cosines(found)
    assert [float(between[i, j]) for i, j in ((0, 1), (0, 2), (1, 2))] == near([0.5, 0.707107, 0])
    assert torch.linalg.eigvalsh(between).flip(0).tolist() == near([1.866025, 1, 0.133975])
    assert diversity(between) == near(2.226352)
    assert noise_scale(f64([1, 0], [1, 1], [1, -1], [1, 0])) == near(0.666667)
    assert cosine(f64(1, 0), f64(0, 0)) is None


def test_a_sketch_keeps_cosines_and_norms() -> None:
    generator = torch.Generator().manual_seed(0)
    common, *own = torch.randn(3, 300_000, generator=generator)
    one, other = common + own[0], common + own[1]
    exact = float(torch.nn.functional.cosine_similarity(one, other, dim=0))
    found = [sketch([g[:100_000].view(100, 1000), g[100_000:]]) for g in (one, other)]
    assert cosine(*found) == pytest.approx(exact, abs=4 / 256)
    assert float(found[0].norm()) == pytest.approx(float(one.norm()), rel=0.02)
    torch.testing.assert_close(sketch([one + other]), sketch([one]) + sketch([other]), rtol=1e-4, atol=1e-2)
    before = torch.get_rng_state()
    sketch([one])
    assert torch.equal(torch.get_rng_state(), before)


def test_as_many_tokens_of_every_environment_are_followed() -> None:
    def prompt(num: int, written: int) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(np.arange(num), np.arange(num) >= num - written) for _ in range(3)]

    played = {"long": [prompt(30, 20)] * 5, "short": [prompt(5, 1)] * 5, "lost": [prompt(5, 0)]}
    rows = FrozenRows.take(played, prompts=4, responses=2, positions=60, ranked=9)
    assert rows.sizes("long") == rows.sizes("short") == (4, 2)
    assert np.bincount(rows.followed_environment).tolist() == [20, 8]
    assert not (rows.followed_L & ~rows.mask_L).any()
    assert rows.num_ranked == 9, "from the environments in turn, the fifth prompts without their answers"
    assert int((rows.num_written == 0).sum()) == 1
    assert FrozenRows.take(played, prompts=4, responses=2, positions=60, ranked=11).num_ranked == 0
    few = FrozenRows.take(played, prompts=4, responses=2, positions=2)
    assert np.bincount(few.followed_environment).tolist() == [1, 1], "of more environments than tokens one of each"
    seen = [row for batch in rows.batches(64) for row in batch.rows.tolist()]
    assert sorted(seen) == list(range(len(rows.length_R)))
