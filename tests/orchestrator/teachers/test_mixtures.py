import subprocess
import sys

import numpy as np
import pytest

from orchestrator.teachers import mixture_teacher
from orchestrator.teachers.mixture_teacher import clusters, fit

CENTRES = np.array([[0.2, 0.2], [0.8, 0.3], [0.5, 0.9]])


def clouds(num: int = 60, seed: int = 0):
    rng = np.random.default_rng(seed)
    return np.vstack([centre + 0.03 * rng.standard_normal((num, 2)) for centre in CENTRES])


def sorted_means(mixture):
    return mixture.means[np.argsort(mixture.means[:, 0])]


def test_the_number_of_clouds_and_their_places_are_found():
    best = fit(clouds(), range(1, 7), "bic", seed=0).best
    assert best.weights == pytest.approx([1 / 3] * 3, abs=0.01)
    assert sorted_means(best) == pytest.approx(CENTRES[[0, 2, 1]], abs=0.02)


def test_the_same_rows_and_seed_give_the_same_mixture():
    one, same = (fit(clouds(), range(2, 6), "aic", seed=7).best.state() for _ in range(2))
    assert one == same


def test_an_independent_fit_is_not_more_likely():
    from sklearn.mixture import GaussianMixture

    rows = clouds()
    theirs = GaussianMixture(3, random_state=0).fit(rows)
    ours = fit(rows, [3], "aic", seed=0).best
    assert ours.means[np.argsort(ours.means[:, 0])] == pytest.approx(
        theirs.means_[np.argsort(theirs.means_[:, 0])], abs=1e-4
    )


@pytest.mark.parametrize("criterion", ["aic", "bic"])
def test_the_criteria_are_those_of_scikit_learn(criterion):
    from sklearn.mixture import GaussianMixture

    rows = clouds()
    model = GaussianMixture(4, random_state=1).fit(rows)
    cost = mixture_teacher._cost(criterion, model.score(rows) * len(rows), 4, *rows.shape)
    assert cost == pytest.approx(getattr(model, criterion)(rows))


def test_aicc_asks_more_of_a_component_than_aic_and_everything_where_rows_are_few():
    assert mixture_teacher._cost("aicc", 0.0, 2, 30, 2) == pytest.approx(22 + 2 * 11 * 12 / 18)
    assert mixture_teacher._cost("aicc", 0.0, 2, 12, 2) == float("inf")


def test_rows_that_are_alike_are_one_cluster_and_do_not_fail():
    rows = np.repeat([[0.2, 0.0], [0.7, 1.0]], 30, axis=0)
    found = fit(rows, range(1, 6), "aic", seed=0)
    assert set(found.tried) == {1, 2}
    assert sorted_means(found.best) == pytest.approx(np.array([[0.2, 0.0], [0.7, 1.0]]))


@pytest.mark.parametrize("seed", range(20))
def test_no_cluster_is_empty(seed):
    rows = np.random.default_rng(seed).integers(0, 3, (40, 2)).astype(float)
    parts = clusters(rows, 7, np.random.default_rng(seed))
    assert parts.weights.min() > 0
    assert np.isfinite(parts.covariances).all()


def test_a_warm_start_begins_where_the_last_fit_ended():
    rows = clouds()
    before = fit(rows, [3], "aic", seed=0).tried
    again = fit(rows, [3], "aic", seed=99, before=before).best
    assert again.means == pytest.approx(before[3].means, abs=1e-6), "nothing is left to climb"


def test_draws_have_the_moments_of_their_gaussian_and_leave_the_rest_out():
    covariance = np.array([[0.04, 0.01, 0.3], [0.01, 0.09, 0.2], [0.3, 0.2, 9.0]])
    one = mixture_teacher.Mixture(np.ones(1), np.array([[1.0, 2.0, 3.0]]), covariance[None])
    drawn = one.draw(np.zeros(20_000, np.intp), 2, np.random.default_rng(0))
    assert drawn.mean(axis=0) == pytest.approx([1, 2], abs=0.01)
    assert np.cov(drawn.T) == pytest.approx(covariance[:2, :2], abs=0.003)


def test_fitting_leaves_the_thread_counts_of_the_process_alone_also_while_it_runs(monkeypatch):
    import threadpoolctl

    def refuse(*args, **kwargs):
        raise AssertionError("a fit changes the threads of the process")

    monkeypatch.setattr(threadpoolctl.ThreadpoolController, "limit", refuse)
    monkeypatch.setattr(threadpoolctl, "threadpool_limits", refuse)
    fit(clouds(), range(2, 5), "aic", seed=0)


LOADS = """
import random
import numpy as np
from orchestrator.teachers.alp_gmm import Config, create

teacher = create(Config(fit_every=20), 2, np.random.default_rng(0))
before = random.getstate()
BEGUN
assert random.getstate() == before
"""


def test_the_first_fit_leaves_the_global_generator_as_it_was():
    """Importing scikit-learn draws from `random`, in whichever moment of the others the fit's thread does it."""
    code = LOADS.replace("BEGUN", "teacher._begin(); teacher.close()")
    subprocess.run([sys.executable, "-c", code], check=True)
