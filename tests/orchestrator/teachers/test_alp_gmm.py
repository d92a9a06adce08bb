import json

import numpy as np
import pytest
from pydantic import ValidationError

from orchestrator.teachers.alp_gmm import AlpGmm, Config, create
from orchestrator.teachers.mixture_teacher import Mixture
from tests.orchestrator.teachers.bands import noisy, share


def teacher(num_dims: int = 1, seed: int = 0, **options) -> AlpGmm:
    return create(Config(**options), num_dims, np.random.default_rng(seed))


def test_the_share_in_the_band_of_a_coin():
    shares = [share(teacher(seed=seed), noisy, seed) for seed in range(2)]
    assert np.mean(shares) == pytest.approx(0.831, abs=0.03), "the reference: .831 +- .005 over 20 seeds"


@pytest.mark.slow
def test_the_share_in_the_band_of_a_coin_over_many_seeds():
    shares = [share(teacher(seed=seed), noisy, seed) for seed in range(12)]
    assert np.mean(shares) == pytest.approx(0.831, abs=0.02)


def test_progress_is_against_the_nearest_earlier_task():
    one = teacher(num_dims=2)
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [0.5, 0.5], [0.6, 0.6]], float)
    assert one.measure(corners, np.arange(6) / 10).ravel().tolist() == [0.0] * 6, "too few to compare with"
    later = one.measure(np.array([[0.9, 0.1], [0.9, 0.2]]), np.array([0.7, 0.4]))
    assert later.ravel() == pytest.approx([abs(0.7 - 0.2), abs(0.4 - 0.7)]), "also of the same call"


def test_of_tasks_at_the_same_place_the_latest_counts():
    one = teacher()
    assert one.measure(np.full((8, 1), 0.5), np.array([0, 1, 0, 1, 0, 0.2, 1, 0.9])).ravel() == pytest.approx(
        [0, 0, 0, 0, 0, 0, 0.8, 0.1]
    )


def test_only_the_history_serves_as_neighbours():
    long, short = teacher(history=None), teacher(history=6)
    for one in (long, short):
        one.measure(np.array([[0.5]] + [[0.1]] * 8), np.array([1.0] + [0.0] * 8))
    assert long.measure(np.array([[0.5]]), np.array([0.4]))[0, 0] == pytest.approx(0.6)
    assert short.measure(np.array([[0.5]]), np.array([0.4]))[0, 0] == pytest.approx(0.4)


def test_gaussians_are_worth_their_mean_progress_whatever_their_weight():
    mixture = Mixture(np.array([0.9, 0.1]), np.array([[0.5, 0.1], [0.5, 0.3]]), np.stack([np.eye(2)] * 2))
    assert teacher().worth(mixture).tolist() == [0.1, 0.3]


def test_it_is_uniform_before_the_first_fit_and_in_its_share_after():
    one = teacher(seed=3, fit_every=50)
    first = one.choose(2000)
    assert np.histogram(first, 5, (0, 1))[0].min() > 320
    one.mixture = Mixture(np.ones(1), np.array([[0.5, 1.0]]), 1e-6 * np.eye(2)[None])
    later = one.choose(5000)
    assert np.mean(np.abs(later - 0.5) > 0.01) == pytest.approx(0.2 * 0.98, abs=0.02)


def test_how_the_groups_are_cut_into_steps_does_not_matter_to_what_is_fitted():
    rng = np.random.default_rng(0)
    points, scores = rng.random((300, 1)), rng.random(300)
    rows = []
    for batch in (1, 30, 300):
        one = teacher(fit_every=100)
        for begin in range(0, 300, batch):
            one.learn(points[begin : begin + batch], scores[begin : begin + batch])
        rows.append(one.state()["rows"][-200:])
        one.close()
    assert rows[0] == rows[1] == rows[2]


def test_the_mixture_is_taken_at_the_next_learning_however_fast_the_thread_was():
    one = teacher(fit_every=50)
    rng = np.random.default_rng(0)
    points = rng.random((60, 1))
    one.learn(points, rng.random(60))
    assert one._fit is not None
    one._fit.result()
    one.choose(4)
    assert one.mixture is None
    assert one.state()["seed"] is not None
    one.learn(points[:1], np.zeros(1))
    assert one.mixture is not None
    assert one.state()["seed"] is None
    one.close()


def test_a_fit_reads_the_last_full_block():
    one = teacher(fit_every=50)
    rng = np.random.default_rng(0)
    far, near = rng.uniform(0.8, 1.0, (50, 1)), rng.uniform(0.0, 0.2, (50, 1))
    one.learn(np.vstack([near, far, near[:30]]), rng.random(130))
    one.learn(near[:1], np.zeros(1))
    assert one.mixture is not None
    assert one.mixture.means[:, 0].min() > 0.8
    one.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"min_components": 11}, "max_components is 10"),
        ({"fit_every": 20, "min_components": 5}, "fit_every 20 allows 4"),
        ({"criterion": "mdl"}, "'aic', 'bic' or 'aicc'"),
    ],
)
def test_options_that_leave_nothing_to_fit_are_refused(options, words):
    with pytest.raises(ValidationError, match=words):
        Config(**options)


@pytest.mark.parametrize("fit_every", [20, 50, 100, 300])
def test_a_fork_with_blocks_of_another_length_goes_on(fit_every):
    """While a fit was under way, which it drops unless its blocks are as long."""
    rng = np.random.default_rng(1)
    parent = create(Config(fit_every=50), 2, np.random.default_rng(0))
    parent.learn(parent.choose(56), rng.random(56))
    state = json.loads(json.dumps(parent.state()))
    parent.close()
    assert state["seed"] is not None
    fork = create(Config(fit_every=fit_every), 2, np.random.default_rng(0))
    fork.load_state(state)
    fork.learn(fork.choose(16), rng.random(16))
    assert (fork.mixture is not None) == (fit_every == 50)
    for _ in range(20):
        fork.learn(fork.choose(16), rng.random(16))
    assert fork.mixture is not None
    fork.close()
