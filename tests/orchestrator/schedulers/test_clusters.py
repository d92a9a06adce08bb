"""Schedulers over clusters of environments: the product of two levels, each of which learns."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from orchestrator.bandits.contracts import Bandit, Feedback
from orchestrator.bandits.testing import BanditSuite
from orchestrator.choosing.choice import make_scheduler
from orchestrator.choosing.stage_scheduler import StageScheduler
from orchestrator.errors import SpecError
from orchestrator.progress import Progress
from orchestrator.schedulers import boltzmann, discounted_ucb, headroom
from orchestrator.schedulers.clusters import ClusteredScheduler, clusters_of

CLUSTERS = {"games": ["lake", "jack"], "maths": ["math_*"]}
NAMES = ["lake", "math_sums", "jack", "math_logs", "math_roots"]


def clustered(seed: int = 0, names: list[str] | None = None, **options: Any) -> ClusteredScheduler:
    config = boltzmann.Config(**{"clusters": CLUSTERS, **options})
    made = make_scheduler(config, names or NAMES, np.random.default_rng(seed), "curriculum.scheduler: ")
    assert isinstance(made, ClusteredScheduler)
    return made


def stage(scheduler: Bandit, rewards: dict[str, float]) -> str:
    pick = scheduler.pick(1)[0]
    scheduler.learn([Feedback(pick, rewards[pick.arm], 4, rewards[pick.arm])])
    return pick.arm


class TestClusters(BanditSuite):
    keeps_ratios = False

    def make(self, arms, rng):
        config = boltzmann.Config(min_share=0.0, clusters={"one": ["a", "b"], "other": ["c", "d"]})
        of = {"a": "one", "b": "one", "c": "other", "d": "other", "e": "other"}

        def make(names, what):
            return boltzmann.create(config, names, rng)

        return ClusteredScheduler(arms, of, make, rng)


@pytest.mark.parametrize("kind", [boltzmann, discounted_ucb, headroom])
def test_the_probability_is_that_of_the_cluster_times_that_in_it(kind: Any) -> None:
    config = kind.Config(clusters=CLUSTERS)
    scheduler = make_scheduler(config, NAMES, np.random.default_rng(3))
    assert isinstance(scheduler, ClusteredScheduler)
    rewards = {name: 0.1 + 0.15 * k for k, name in enumerate(NAMES)}
    for _ in range(25):
        outer, whole = scheduler.outer.probabilities(), scheduler.probabilities()
        for name, inner in scheduler.inner.items():
            for arm, probability in inner.probabilities().items():
                assert whole[arm] == pytest.approx(outer[name] * probability, abs=1e-12)
        assert sum(whole.values()) == pytest.approx(1)
        stage(scheduler, rewards)
    assert scheduler.num_picks.keys() == set(NAMES)
    assert sum(scheduler.outer.num_picks.values()) == sum(scheduler.num_picks.values()) == 25
    assert scheduler.outer.num_picks["games"] == scheduler.num_picks["lake"] + scheduler.num_picks["jack"]


def test_every_cluster_has_the_first_stages_and_then_the_better_one_has_more() -> None:
    names = [f"{kind}{k}" for kind in ("good", "poor") for k in range(50)]
    rewards = {name: 0.4 if name.startswith("good") else 0.02 for name in names}
    clusters = {"good": ["good*"], "poor": ["poor*"]}
    scheduler = clustered(names=names, clusters=clusters)
    first = [stage(scheduler, rewards)[:4] for _ in range(2)]
    assert sorted(first) == ["good", "poor"], "the second stage has the cluster that had none"
    later = [stage(scheduler, rewards)[:4] for _ in range(18)]
    assert later.count("good") >= 14, "twenty stages tell the clusters apart, of a hundred environments"
    assert len({name for name, num in scheduler.num_picks.items() if num}) == 20, (
        "each had a first stage in its cluster"
    )


def test_the_least_share_holds_at_both_levels() -> None:
    scheduler = clustered(min_share=0.1)
    rewards = {name: float(name == "lake") for name in NAMES}
    for _ in range(60):
        stage(scheduler, rewards)
    assert min(scheduler.outer.probabilities().values()) >= 0.1
    assert min(scheduler.probabilities().values()) >= 0.1 * 0.1 - 1e-12


def test_a_cluster_whose_environments_are_all_gone_is_not_picked_until_one_is_back() -> None:
    scheduler = clustered()
    rewards = dict.fromkeys(NAMES, 0.3)
    for _ in range(10):
        stage(scheduler, rewards)
    pending = scheduler.pick(1)[0]
    for name in ("lake", "jack"):
        scheduler.retire(name)
    assert scheduler.outer.arms == ["maths"]
    assert sum(scheduler.probabilities().values()) == pytest.approx(1)
    scheduler.learn([Feedback(pending, 0.5)])
    copy = clustered(seed=5)
    copy.load_state(json.loads(json.dumps(scheduler.state())))
    for one in (scheduler, copy):
        one.add("lake")
        assert set(one.probabilities()) == {*NAMES} - {"jack"}
        assert one.inner["games"].arms == ["lake"]
    assert [stage(scheduler, rewards) for _ in range(12)] == [stage(copy, rewards) for _ in range(12)]


def test_a_run_goes_on_alike_and_a_fork_to_other_clusters_begins_anew() -> None:
    def scheduling(clusters: Any, names: list[str]) -> StageScheduler:
        config = boltzmann.Config(clusters=clusters)
        return StageScheduler(config, make_scheduler(config, names, np.random.default_rng(1)))

    def play(scheduler: StageScheduler) -> str:
        choice, at = scheduler.next_environment(), Progress(9, 10)
        at.begin_stage(choice.pick)
        at.signal_sum, at.num_signals, at.stage_step = 1.5, 4, 10
        scheduler.end_stage(at, {})
        return choice.why

    one = scheduling(CLUSTERS, NAMES)
    said = [play(one) for _ in range(9)]
    assert re.match(
        r"\w+, picked by boltzmann in cluster (games|maths) with probability .*, new: every cluster", said[0]
    )
    assert re.search(r"\(of each cluster: games \d\.\d\d; maths \d\.\d\d\)$", said[-1])
    state = json.loads(json.dumps(one.state()))
    same, joined = scheduling(CLUSTERS, NAMES), scheduling({**CLUSTERS, "new": ["new"]}, [*NAMES, "new"])
    assert (same.load_state(state, NAMES), joined.load_state(state, [*NAMES, "new"])) == ([], [])
    assert [play(same) for _ in range(9)] == [play(one) for _ in range(9)]
    assert "new" in joined.scheduler.arms
    play(joined)
    for clusters in ({"games": ["lake"], "maths": ["math_*", "jack"]}, None):
        assert scheduling(clusters, NAMES).load_state(state, NAMES) == ["the scheduler"]
    without = scheduling(None, NAMES).state()
    assert scheduling(CLUSTERS, NAMES).load_state(json.loads(json.dumps(without)), NAMES) == ["the scheduler"]


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        ({"games": ["lake", "jak"], "maths": ["math_*"]}, "clusters.games: 'jak' is no environment to train on; there"),
        ({"games": ["lake", "jack"], "maths": ["math_*", "jack"]}, "clusters: jack is in games and in maths: leave it"),
        ({"games": ["lake"], "maths": ["math_*"]}, "clusters: jack in none of them: put each into one"),
    ],
)
def test_clusters_that_are_no_partition_are_refused(clusters: dict[str, list[str]], message: str) -> None:
    with pytest.raises(SpecError, match=re.escape(f"curriculum.scheduler: {message}")):
        clustered(clusters=clusters)


def test_what_clusters_cannot_do_is_refused_in_words() -> None:
    with pytest.raises(ValidationError, match="`max_gap` counts the stages without an environment"):
        boltzmann.Config(clusters=CLUSTERS, max_gap=9)
    for empty in ({}, {"games": []}):
        with pytest.raises(ValidationError, match="at least 1 item"):
            boltzmann.Config(clusters=empty)
    with pytest.raises(SpecError, match=r"curriculum.scheduler: of cluster maths: min_share 0\.4 for each of 3"):
        clustered(min_share=0.4)


def test_patterns_tell_cases_apart_and_one_may_say_a_name_again() -> None:
    assert clusters_of({"a": ["m*", "mx"], "b": ["M*"]}, ["mx", "My"]) == {"mx": "a", "My": "b"}
