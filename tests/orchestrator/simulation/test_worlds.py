"""The worlds: what is measured, who knows what, and that a seed says it all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.random import default_rng

from orchestrator.bandits.softmax import softmax
from orchestrator.errors import UserError
from orchestrator.simulation import skill_worlds, worlds
from orchestrator.simulation.candidates import make_named, pair_up
from orchestrator.simulation.ranking import TrialJob, run_job
from orchestrator.simulation.skill_worlds import Gap, Oracle
from orchestrator.simulation.skills import BATCH, Skills, arm_names
from orchestrator.simulation.trials import Candidate, Trial, TrialSetting, thinned
from orchestrator.simulation.worlds import WORLDS, find_world


def entrant(bandit: Any, scheduler: Any = None) -> Candidate:
    schedulers = [make_named(scheduler, "scheduler", "here")] if scheduler else []
    return pair_up([make_named(bandit, "bandit", "here")], schedulers)[0]


def trial(world: str, bandit: Any, scheduler: Any = None, seed: int = 0, **setting: Any) -> Trial:
    steps = setting.pop("num_steps", 40)
    return run_job(TrialJob(world, entrant(bandit, scheduler), seed, TrialSetting(steps, **setting)))


@pytest.mark.parametrize("world", [world.name for world in WORLDS])
def test_a_seed_says_it_all(world: str) -> None:
    scheduler = "boltzmann" if find_world(world).has_stages else None
    one, same, other = (trial(world, "sec", scheduler, seed=seed) for seed in (3, 3, 4))
    assert one.numbers == same.numbers
    assert np.array_equal(one.curve, same.curve)
    assert not np.array_equal(one.curve, other.curve)
    assert set(one.numbers) >= {metric.name for metric in find_world(world).metrics}
    assert one.shares.sum(axis=1) == pytest.approx(np.ones(len(one.shares)))
    assert one.shares.shape[1] == len(find_world(world).arm_groups)


def test_numbers_follow_from_the_curve() -> None:
    found = trial("skills", "uniform", num_steps=300)
    assert found.numbers["auc"] == pytest.approx(found.curve.mean())
    assert found.numbers["final"] == found.curve[-1]
    first = int(found.numbers["steps"])
    assert found.curve[first - 1] >= 0.8 > found.curve[first - 2]


def test_a_goal_never_reached_counts_one_step_more_than_there_were() -> None:
    assert skill_worlds.steps_to(0.8, np.array([0.1, 0.2])) == 3
    assert skill_worlds.steps_to(0.8, np.array([0.1, 0.8])) == 2


def test_traps_take_their_share_of_a_uniform_budget() -> None:
    assert trial("traps", "uniform", num_steps=100).numbers["traps"] == pytest.approx(2 / 14, abs=0.02)


def test_the_oracle_reads_the_world_and_avoids_traps() -> None:
    world = Skills(default_rng(0))
    bandit = Oracle(arm_names(has_traps=True), default_rng(1), world)
    found = bandit.probabilities()
    room = world.pass_rates() * (1 - world.pass_rates())
    value = 4 * room * 7 / 8 * np.array([(world.transfer[i] * room).sum() for i in range(12)])
    expected = 0.9 * softmax(value / 0.02) + 0.1 / 12
    assert [found[name] for name in arm_names()] == pytest.approx(expected.tolist())
    assert found["trap.noise"] == found["trap.impossible"] == 0


def test_regret_is_what_the_best_arm_would_have_earned_more() -> None:
    always = {"type": "fixed", "weights": {"arm3": 1}, "others": 0}
    found = trial("switching", always, num_steps=500, seed=7)
    means = default_rng(7).random((5, 10))
    expected = 100 * (means.max(axis=1) - means[:, 3]).sum()
    assert found.numbers["regret"] == pytest.approx(expected)
    assert found.curve[-1] == pytest.approx(expected, rel=0.01)


def test_bandits_of_the_switching_world_are_rewarded_by_its_own_stream() -> None:
    means, u = default_rng(2).random((5, 10)), default_rng(2 + worlds.REWARDS).random(1000)
    wins = u[:, None] < np.repeat(means, 200, axis=0)
    greedy = trial("switching", {"type": "sec", "floor": 0, "temperature": 0.01}, num_steps=1000, seed=2)
    assert wins.mean(axis=0).max() < 1
    assert greedy.numbers["regret"] < trial("switching", "uniform", num_steps=1000, seed=2).numbers["regret"]


@pytest.mark.parametrize(("share", "num_replay"), [(0.0, 0), (0.2, 13), (0.5, 32)])
def test_a_share_of_every_batch_is_replay_of_the_others(share: float, num_replay: int) -> None:
    blocks = {"type": "sequence", "order": ["type1"]}
    found = trial("stages", "uniform", blocks, num_steps=20, replay_share=share)
    assert found.shares[:, 1] == pytest.approx(np.full(20, 1 - num_replay / BATCH))


def test_bandits_learn_from_replay_of_their_environment() -> None:
    only = {"type": "sequence", "order": ["type0"]}
    levels = skill_worlds.TwoLevels(Skills(default_rng(0)), entrant("sec", only), 0, TrialSetting(20, replay_share=0.5))
    levels.follow()
    assert all(value for value in levels.inner[0].values().values())
    assert sum(levels.inner[2].num_picks.values()) > 20 * 10
    assert any(value for value in levels.inner[2].values().values())


def test_forgetting_is_peak_less_end() -> None:
    blocks = {"type": "sequence", "order": ["type0", "type1"]}
    found = trial("stages", "uniform", blocks, replay_share=0.0)
    assert found.numbers["forgetting"] > 0.02
    assert trial("stages", "uniform", "none").numbers["forgetting"] < 0.005


def test_the_mastered_environment_of_the_heterogeneous_world_fades_and_the_impossible_one_stays() -> None:
    last = {"type": "sequence", "order": ["type2"]}
    found = trial("heterogeneous", "uniform", last, num_steps=100, replay_share=0.0)
    assert found.curve[0] > 0.35
    assert found.curve[-1] < found.curve[0] - 0.1
    assert found.numbers["worst"] < 0.01


def test_the_gap_rule_prefers_what_was_lost_then_what_is_left() -> None:
    rule = Gap(["a", "b", "c"], default_rng(0))
    rule.see({"a": 0.9, "b": 0.5, "c": 0.5})
    assert rule.probabilities() == {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}
    for _ in range(3):
        rule.pick(1)
    for _ in range(20):
        rule.see({"a": 0.4, "b": 0.5, "c": 0.5})
    assert rule.q == pytest.approx([2 * 0.5 + 0.3 * 0.6, 0.3 * 0.5, 0.3 * 0.5], abs=1e-4)
    assert rule.probabilities() == pytest.approx({"a": 0.95 - 0.05, "b": 0.05, "c": 0.05}, abs=1e-3)


def test_curves_are_averaged_down_to_300_points() -> None:
    rows = thinned(np.arange(10_000.0))
    assert len(rows) == 300
    assert rows.mean() == pytest.approx(4999.5, rel=1e-3)
    assert np.array_equal(thinned(np.ones((5, 2))), np.ones((5, 2)))


@pytest.mark.parametrize("word", ["b", "B", "traps", "Traps"])
def test_worlds_have_names_and_letters(word: str) -> None:
    assert find_world(word).name == "traps"


@pytest.mark.parametrize(
    ("world", "bandit", "scheduler", "says"),
    [
        ("traps", "size", None, "size: "),
        ("switching", "linucb", None, "linucb: "),
        ("switching", "oracle", None, "its regret is 0: leave it out"),
        ("stages", "oracle", "uniform", "give it --scheduler none"),
        (
            "traps",
            {"type": "sec", "signal_scale": "quantile"},
            None,
            "a simulated world has one: leave it out",
        ),
        (
            "stages",
            "sec",
            {"type": "boltzmann", "min_share": 0.5},
            "min_share 0.5 for each of 3 environments",
        ),
    ],
)
def test_what_a_world_cannot_honour_is_refused_in_words(world: str, bandit: Any, scheduler: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        trial(world, bandit, scheduler)
