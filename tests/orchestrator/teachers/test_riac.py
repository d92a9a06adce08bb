import numpy as np
import pytest

from orchestrator.teachers import riac
from orchestrator.teachers.riac import Config, Region, Riac, create
from tests.orchestrator.teachers.bands import noisy, rising, share
from tests.shares import slow


def teacher(num_dims: int = 1, seed: int = 0, **options) -> Riac:
    return create(Config(**options), num_dims, np.random.default_rng(seed))


@pytest.mark.parametrize(("scores", "least"), [slow((noisy, 0.3)), (rising, 0.35)])
def test_the_share_in_the_band(scores, least):
    shares = [share(teacher(seed=seed), scores, seed) for seed in range(4)]
    assert np.mean(shares) > least, "uniform would be .2"


@pytest.mark.parametrize(
    ("scores", "progress"),
    [
        ([], 0.0),
        ([0.0, 1.0], 0.0),  # two or fewer
        ([0.0, 0.0, 1.0], 1.0),  # of an odd number the older part has one more
        ([0.2, 0.4, 0.6, 1.0], 0.5),
        ([1.0, 1.0, 0.0, 0.0], 1.0),
    ],
)
def test_progress_of_a_region(scores, progress):
    region = Region(np.zeros(1), np.ones(1), np.empty((len(scores), 1)), np.array(scores))
    assert region.progress == pytest.approx(progress)


def full(one: Riac, num: int = 201, seed: int = 0) -> None:
    """Below .5 nothing happens, above it scores go from 0 to 1 half way."""
    points = np.random.default_rng(seed).random((num, one.num_dims))
    late = np.arange(num) >= num // 2
    one.learn(points, np.where(points[:, 0] < 0.5, 0.5, late.astype(float)))


def test_a_leaf_is_cut_when_it_holds_more_than_its_size():
    one = teacher()
    full(one, 200)
    assert len(one.regions) == 1
    full(one, 1, seed=1)
    assert len(one.regions) == 3


def test_the_best_of_the_cuts_is_made():
    one = teacher(cuts=400)
    full(one)
    root, below, above = one.regions
    assert below.high[0] == above.low[0] == pytest.approx(0.5, abs=0.1)
    assert (below.progress, above.progress) == (pytest.approx(0.0, abs=0.2), pytest.approx(1.0, abs=0.2))
    assert len(below.scores) + len(above.scores) == 201
    assert len(root.scores) == 200


def test_a_region_remembers_its_last_200_scores_and_its_progress_is_theirs():
    one = teacher()
    points, scores = np.random.default_rng(0).random((450, 1)), np.random.default_rng(1).random(450)
    one.learn(points, scores)
    root = one.regions[0]
    assert root.scores.tolist() == scores[-200:].tolist()
    assert root.progress == pytest.approx(abs(scores[-200:-100].mean() - scores[-100:].mean()))
    assert max(len(region.scores) for region in one.regions) == 200


def test_a_state_with_201_scores_of_a_region_loses_the_oldest():
    """As it was written before."""
    one, again = teacher(), teacher()
    full(one)
    state = one.state()
    state["regions"][0]["scores"].insert(0, 1.0)
    state["regions"][0]["points"].insert(0, [0.5])
    again.load_state(state)
    assert again.state() == one.state()
    assert again.regions[0].progress == one.regions[0].progress


def test_the_population_of_both_parts_counts():
    points = np.linspace(0, 1, 201).reshape(-1, 1)
    scores = np.where(np.arange(201) % 2 == 0, 0.0, 1.0)
    region = Region(np.zeros(1), np.ones(1), points, scores)
    lopsided = riac._difference(region, 0, 0.1)
    below, above = region.scores[points[:, 0] < 0.1], region.scores[points[:, 0] >= 0.1]
    means = [abs(part[: -(len(part) // 2)].mean() - part[-(len(part) // 2) :].mean()) for part in (below, above)]
    assert lopsided == pytest.approx(len(below) * len(above) * abs(means[0] - means[1]))


def tried(monkeypatch, one: Riac, points: np.ndarray) -> np.ndarray:
    """The cuts (dimension, threshold) that are weighed for a leaf with these points, [50, 2]."""
    cuts = []
    monkeypatch.setattr(riac, "_difference", lambda region, *cut: cuts.append(cut) or 0.0)
    one.learn(points, np.zeros(len(points)))
    return np.array(cuts)


def test_every_one_of_the_50_cuts_leaves_parts_large_and_wide_enough(monkeypatch):
    """Nearly all points lie in a corner: of cuts drawn anywhere in the box few would."""
    rng = np.random.default_rng(0)
    points = np.vstack([0.92 + 0.08 * rng.random((186, 2)), rng.random((15, 2))])
    cuts = tried(monkeypatch, teacher(num_dims=2), points)
    assert len(cuts) == 50
    for dim, threshold in cuts:
        num_below = int((points[:, int(dim)] < threshold).sum())
        assert 10 <= num_below <= 191
        assert 1 / 15 <= threshold <= 14 / 15


def test_cuts_are_uniform_among_the_valid_ones(monkeypatch):
    """In dimension 0 a cut may lie in half of the region, in dimension 1 in a tenth."""
    points = np.random.default_rng(0).random((201, 2))
    points[:, 0] = np.where(points[:, 0] < 0.5, 0.25, 0.75)
    points[:, 1] = np.where(points[:, 1] < 0.5, 0.5, 0.6)
    cuts = tried(monkeypatch, teacher(num_dims=2, cuts=20_000), points)
    first, second = cuts[cuts[:, 0] == 0, 1], cuts[cuts[:, 0] == 1, 1]
    assert len(second) / len(cuts) == pytest.approx(1 / 6, abs=0.015)
    assert (first.min(), first.mean(), first.max()) == pytest.approx((0.25, 0.5, 0.75), abs=0.01)
    assert (second.min(), second.mean(), second.max()) == pytest.approx((0.5, 0.55, 0.6), abs=0.01)


@pytest.mark.parametrize("place", [0.02, 0.5, 0.98])
def test_where_all_points_are_one_there_is_no_cut(monkeypatch, place):
    assert len(tried(monkeypatch, teacher(), np.full((201, 1), place))) == 0


def test_points_around_the_worst_stay_in_its_region():
    """Of width .1, which a step of sd .1 from within leaves more often than not."""
    one = teacher(num_dims=2, explore=0.0, around_worst=1.0)
    low, high = np.array([0.4, 0.0]), np.array([0.5, 1.0])
    one.regions = [Region(low, high, (low + high).reshape(1, 2) / 2, np.zeros(1))]
    chosen = one.choose(2000)
    assert all(one.regions[0].holds(point) for point in chosen)
    on_the_edge = np.isclose(chosen[:, 0], 0.4, atol=2e-5) | np.isclose(chosen[:, 0], 0.5, atol=2e-5)
    assert np.mean(on_the_edge) == pytest.approx(0.617, abs=0.04), "clipped, as 2 (1 - Phi(.5)) of them"


def test_where_no_cut_is_possible_the_oldest_quarter_is_forgotten():
    one = teacher()
    one.learn(np.full((201, 1), 0.5), np.arange(201) / 201)
    assert len(one.regions) == 1
    assert one.regions[0].scores.tolist() == (np.arange(50, 201) / 201).tolist()


def test_the_three_ways_of_choosing():
    one = teacher(seed=1)
    full(one)
    root, below, above = one.regions
    root.progress = below.progress = 0.0
    above.scores[:] = 1.0
    above.scores[0], above.points[0] = 0.0, 0.75
    above.progress = 1.0
    points = one.choose(20_000)[:, 0]
    edge = float(above.low[0])
    assert np.mean(points < edge) == pytest.approx(0.2 * edge + 0.1 * 0.01, abs=0.015), "20 % anywhere"
    bump = np.mean(np.abs(points - 0.75) < 0.02) - np.mean(np.abs(points - 0.95) < 0.02)
    assert bump == pytest.approx(0.1 * (0.159 - 0.022), abs=0.006), "10 % around the worst, normal with sd .1"


def test_leaves_only_leaves_the_parents_out():
    one = teacher(leaves_only=True, explore=0, around_worst=0)
    full(one)
    for leaf in one.regions[1:]:
        leaf.progress = 0.0
    one.regions[1].progress = 1.0
    assert one.choose(500).max() <= one.regions[1].high[0]


def test_every_point_is_in_one_leaf_also_on_the_edges():
    one = teacher(num_dims=2, region_size=40)
    rng = np.random.default_rng(0)
    one.learn(rng.random((600, 2)), rng.random(600))
    assert len(one.regions) > 5
    for point in [*rng.random((50, 2)), np.zeros(2), np.ones(2), one.regions[1].high]:
        leaves = [region for region in one.regions if region.parts is None and region.holds(point)]
        assert [list(one._around(point))[-1]] == leaves
