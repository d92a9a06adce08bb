import numpy as np
import pytest

from orchestrator.teachers.riac import Config, Region, Riac, create
from tests.orchestrator.teachers.bands import noisy, rising, share


def teacher(num_dims: int = 1, seed: int = 0, **options) -> Riac:
    return create(Config(**options), num_dims, np.random.default_rng(seed))


@pytest.mark.parametrize(("scores", "least"), [(noisy, 0.3), (rising, 0.35)])
def test_section_5_3_the_share_in_the_band(scores, least):
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
def test_section_5_3_progress_of_a_region(scores, progress):
    region = Region(np.zeros(1), np.ones(1), np.empty((len(scores), 1)), np.array(scores))
    assert region.progress == pytest.approx(progress)


def full(one: Riac, num: int = 201, seed: int = 0) -> None:
    """Below .5 nothing happens, above it scores go from 0 to 1 half way."""
    points = np.random.default_rng(seed).random((num, one.num_dims))
    late = np.arange(num) >= num // 2
    one.learn(points, np.where(points[:, 0] < 0.5, 0.5, late.astype(float)))


def test_section_5_3_a_leaf_is_cut_when_it_holds_more_than_its_size():
    one = teacher()
    full(one, 200)
    assert len(one.regions) == 1
    full(one, 1, seed=1)
    assert len(one.regions) == 3


def test_section_5_3_the_best_of_the_cuts_is_made():
    one = teacher(cuts=400)
    full(one)
    root, below, above = one.regions
    assert below.high[0] == above.low[0] == pytest.approx(0.5, abs=0.1)
    assert (below.progress, above.progress) == (pytest.approx(0.0, abs=0.2), pytest.approx(1.0, abs=0.2))
    assert len(below.scores) + len(above.scores) == len(root.scores) == 201


def test_section_5_3_the_population_of_both_parts_counts():
    one = teacher()
    points = np.linspace(0, 1, 201).reshape(-1, 1)
    scores = np.where(np.arange(201) % 2 == 0, 0.0, 1.0)
    region = Region(np.zeros(1), np.ones(1), points, scores)
    lopsided = one._score(region, 0, 0.1)
    below, above = region.scores[points[:, 0] < 0.1], region.scores[points[:, 0] >= 0.1]
    means = [
        abs(part[: -(len(part) // 2)].mean() - part[-(len(part) // 2) :].mean()) for part in (below, above)
    ]
    assert lopsided == pytest.approx(len(below) * len(above) * abs(means[0] - means[1]))


@pytest.mark.parametrize(("threshold", "num"), [(0.05, 201), (0.97, 201)])
def test_section_5_3_parts_that_are_too_narrow_or_too_empty_are_no_parts(threshold, num):
    region = Region(np.zeros(1), np.ones(1), np.linspace(0, 1, num).reshape(-1, 1), np.zeros(num))
    assert teacher()._score(region, 0, threshold) == -1
    crowded = Region(np.zeros(1), np.ones(1), np.full((num, 1), 0.9), np.zeros(num))
    assert teacher()._score(crowded, 0, 0.5) == -1


def test_section_5_3_where_no_cut_is_possible_the_oldest_quarter_is_forgotten():
    one = teacher()
    one.learn(np.full((201, 1), 0.5), np.arange(201) / 201)
    assert len(one.regions) == 1
    assert one.regions[0].scores.tolist() == (np.arange(50, 201) / 201).tolist()


def test_section_5_3_the_three_ways_of_choosing():
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
