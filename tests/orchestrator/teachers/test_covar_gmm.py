import numpy as np
import pytest

from orchestrator.teachers.covar_gmm import Config, CovarGmm, create
from orchestrator.teachers.mixture_teacher import Mixture
from tests.orchestrator.teachers.bands import rising, share


def teacher(seed: int = 0, **options) -> CovarGmm:
    return create(Config(**options), 1, np.random.default_rng(seed))


def test_the_share_in_the_band_where_scores_rise():
    shares = [share(teacher(seed), rising, seed) for seed in range(2)]
    assert np.mean(shares) > 0.4, "uniform would be .2"


@pytest.mark.slow
def test_the_share_in_the_band_where_scores_rise_over_many_seeds():
    shares = [share(teacher(seed), rising, seed) for seed in range(8)]
    assert np.mean(shares) > 0.45
    assert min(shares) > 0.3


def test_rows_hold_the_place_in_their_block_and_the_score():
    one = teacher(fit_every=10)
    one.learn(np.full((4, 1), 0.5), np.array([0.1, 0.2, 0.3, 0.4]))
    one.learn(np.full((8, 1), 0.5), np.zeros(8))
    times = [row[1] for row in one.state()["rows"]]
    assert times == pytest.approx([*(k / 10 for k in range(10)), 0.0, 0.1])
    assert [row[2] for row in one.state()["rows"]][:5] == [0.1, 0.2, 0.3, 0.4, 0.0]
    one.close()


@pytest.mark.parametrize(("absolute", "worth"), [(False, [0.02, 0.0, 0.0]), (True, [0.02, 0.03, 0.0])])
def test_gaussians_are_worth_the_covariance_of_time_and_score(absolute, worth):
    covariances = np.stack([np.eye(3)] * 3)
    covariances[:, 1, 2] = covariances[:, 2, 1] = [0.02, -0.03, 1e-17]  # the last is rounding
    mixture = Mixture(np.ones(3) / 3, np.zeros((3, 3)), covariances)
    assert teacher(absolute=absolute).worth(mixture).tolist() == worth


def test_where_no_score_moves_every_gaussian_is_as_likely():
    one = teacher(fit_every=50)
    rng = np.random.default_rng(0)
    for _ in range(2):
        one.learn(rng.random((50, 1)), np.full(50, 0.5))
    assert one.mixture is not None
    assert one.worth(one.mixture).sum() == 0
    assert np.histogram(one.choose(2000), 4, (0, 1))[0].min() > 200
    one.close()
