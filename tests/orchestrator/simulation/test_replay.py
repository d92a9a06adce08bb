"""Replays of logs whose truth is known."""

from functools import partial

import numpy as np
import pytest

from orchestrator.bandits import discounted_ucb, sec
from orchestrator.bandits.contracts import Feedback
from orchestrator.errors import UserError
from orchestrator.simulation.log_replay import batch_shares, follow, lessons, make_counterfactual
from orchestrator.simulation.logs import LoggedGroup, LoggedPick, LoggedStep, about_arm
from orchestrator.simulation.replay import replay
from tests.orchestrator.simulation.logs import MEANS, played, target, with_steps, without_missing
from tests.shares import share

OFTEN_A = {"type": "fixed", "weights": {"a": 0.8, "b": 0.2}}
OFTEN_B = "{type: fixed, weights: {a: 0.3, b: 0.7}}"
TRUTH = 0.3 * MEANS["a"] + 0.7 * MEANS["b"]
FLOORED = {"type": "sec", "floor": 0.3, "temperature": 0.3}


def replayed(log, bandit):
    return replay(log, [target(bandit)]).targets[0]


def near_zero(errors, within=3.0):
    """Whether a mean lies within so many standard errors of 0."""
    errors = np.asarray(errors)
    return abs(errors.mean()) < within * errors.std(ddof=1) / np.sqrt(len(errors))


@pytest.mark.parametrize("bandit", [OFTEN_A, FLOORED, "thompson", "uniform"])
def test_the_logged_bandit_itself_earns_exactly_its_own_mean(bandit):
    log = played(bandit)
    found = replayed(log, log.section.bandit.model_dump_json()).overall
    assert found.ips == found.snips == found.own
    assert (found.mean_weight, found.largest_weight, found.effective_share) == (1.0, 1.0, 1.0)
    rewards = [pick.signal for step in log.bandits[0].steps for pick in step.picks]
    assert found.own.value == pytest.approx(np.mean(rewards), abs=1e-15)


@pytest.mark.slow
def test_ips_is_unbiased_and_its_intervals_hold_the_truth():
    found = [replayed(played(OFTEN_A, seed=seed), OFTEN_B).overall for seed in range(160)]
    assert near_zero([one.ips.value - TRUTH for one in found])
    for kind in ("ips", "snips"):
        covered = np.mean([getattr(one, kind).low < TRUTH < getattr(one, kind).high for one in found])
        assert 0.90 < covered < 0.99
    logged = 0.8 * MEANS["a"] + 0.2 * MEANS["b"]
    covered = [one.snips_difference.low < TRUTH - logged < one.snips_difference.high for one in found]
    assert 0.90 < np.mean(covered) < 0.99


@pytest.mark.slow
def test_snips_is_consistent_and_steadier():
    spread = {}
    for num_steps in (20, 160):
        found = [replayed(played(OFTEN_A, num_steps=num_steps, seed=s), OFTEN_B).overall for s in range(24)]
        errors = np.array([one.snips.value - TRUTH for one in found])
        spread[num_steps] = float(np.sqrt((errors**2).mean()))
        assert errors.std() < np.std([one.ips.value for one in found])
    assert spread[160] < spread[20] / 1.8  # less than half, but for chance
    assert spread[160] < 0.03


@pytest.mark.parametrize("logged", share([{"type": "discounted_ucb", "floor": 0.4}, FLOORED], 1))
def test_a_bandit_that_learns_earns_what_its_probabilities_say_step_by_step(logged):
    """Also where the logged rule fills its slots in turn: each is weighed by its own probability."""
    errors = []
    for seed in range(80):
        log = played(logged, seed=seed)
        other = target("{type: sec, floor: 0.1, temperature: 0.2}")
        choice = make_counterfactual(log, other.label, other.config)
        rng = np.random.Generator(np.random.PCG64(0))
        taught = lessons(log, other.config, True)
        followed = follow(log.bandits[0], choice.bandits["one"], partial(about_arm, log, "one"), taught, rng)
        truth = np.mean([sum(share * MEANS[arm] for arm, share in s.shares.items()) for s in followed.steps])
        errors.append(replay(log, [other]).targets[0].overall.ips.value - truth)
    assert near_zero(errors)


def test_the_other_bandit_learns_the_logged_history():
    """Its shares are those of a bandit that was taught the same picks by hand."""
    log = played(FLOORED)
    steps = log.bandits[0].steps
    by_hand = sec.create(sec.Config(temperature=0.05), ["a", "b"], np.random.Generator(np.random.PCG64(9)))
    arms = {arm.arm: 0.0 for arm in replayed(log, "uniform").bandits[0].arms}
    for step in steps:
        for arm, probability in by_hand.probabilities().items():
            arms[arm] += probability / len(steps)
        picks = by_hand.witness([p.arm for p in step.picks], [p.probability for p in step.picks])
        by_hand.learn([Feedback(p, was.signal) for p, was in zip(picks, step.picks, strict=True)])
    found = replayed(log, "{type: sec, temperature: 0.05}").bandits[0]
    assert {arm.arm: arm.share for arm in found.arms} == pytest.approx(arms)
    assert sum(arm.picked_share for arm in found.arms) == pytest.approx(1.0)


def test_picks_without_a_signal_count_nowhere():
    log = played(FLOORED, missing=0.3)
    found, clean = (replayed(one, "{type: sec, temperature: 0.2}") for one in (log, without_missing(log)))
    assert found.overall == clean.overall
    assert found.bandits[0].num_missing == sum(p.signal is None for s in log.bandits[0].steps for p in s.picks) > 0
    assert "without a signal" in found.notes[0]
    assert clean.notes == []


def test_windows_and_steps_add_up():
    found = replayed(played(FLOORED, num_steps=23), "uniform")
    windows = found.bandits[0].windows
    assert [(one.first, one.last) for one in windows] == [(1, 5), (6, 10), (11, 15), (16, 20), (21, 23)]
    assert sum(one.estimates.num_slots for one in windows) == found.overall.num_slots == 23 * 8
    steps = found.bandits[0].steps
    assert np.mean([one.ips for one in steps]) == pytest.approx(found.overall.ips.value)
    assert [first for first, _, _ in found.windows] == [one.first for one in windows]


def test_an_index_rule_is_asked_for_its_whole_batch():
    bandit = discounted_ucb.create(discounted_ucb.Config(), ["a", "b", "c"], np.random.default_rng(0))
    before = bandit.state()
    shares, is_mean = batch_shares(bandit, 6, np.random.default_rng(1))
    assert is_mean
    assert shares == pytest.approx(dict.fromkeys("abc", 1 / 3))  # two slots each, whoever begins
    assert bandit.state() == before
    assert any("in turn" in note for note in replayed(played(OFTEN_A), "discounted_ucb").notes)


def test_another_form_of_signal_is_worked_out_from_the_scores():
    """Groups of four, half of them right: raw .5, standardised .866; earnings stay in what was logged."""
    pick = LoggedPick("a", 0.5, 0.5, [LoggedGroup([1.0, 1.0, 0.0, 0.0], [True, True, False, False])])
    steps = [LoggedStep(t, ["a", "b"], {"a": 0.5, "b": 0.5}, [pick]) for t in range(1, 9)]
    log = with_steps(played("uniform"), steps)
    same, other = (
        replayed(log, f"{{type: sec, learning_rate: 1, floor: 0{form}}}") for form in ("", ", signal: standardised")
    )
    share = 1 / (1 + np.exp(-np.array([0.5, 0.8660254]) / 0.1))
    last = [one.bandits[0].windows[-1].arms[0].share for one in (same, other)]
    assert last == pytest.approx(share)
    assert other.overall.own.value == 0.5
    assert "its own form of signal" in other.notes[0]


def test_arms_that_join_later_are_told_to_the_other_bandit():
    log = played("uniform", {"a": 0.2, "b": 0.6, "c": 0.9})
    early = [
        LoggedStep(s.step, ["a", "b"], {"a": 0.5, "b": 0.5}, [LoggedPick("a", 0.5, 0.1)])
        for s in log.bandits[0].steps[:6]
    ]
    found = replayed(with_steps(log, [*early, *log.bandits[0].steps[6:]]), "uniform").bandits[0]
    assert [arm.arm for arm in found.windows[0].arms] == ["a", "b"]
    assert [arm.share for arm in found.windows[-1].arms] == pytest.approx([1 / 3] * 3)


# --- what a log cannot answer ------------------------------------------------------------------------------------


def without_signals(log):
    steps = [
        LoggedStep(s.step, s.arms, s.probabilities, [LoggedPick(p.arm, p.probability, None) for p in s.picks])
        for s in log.bandits[0].steps
    ]
    return with_steps(log, steps)


REFUSED = {
    "too few steps": (lambda: played(OFTEN_A, num_steps=4), "uniform", "4 steps with picks.*at least 5"),
    "no choice": (lambda: played("uniform", {"a": 0.5}), "uniform", "nobody chose"),
    "no signal": (lambda: without_signals(played(OFTEN_A)), "uniform", "earned a signal"),
    "certain": (
        lambda: played({"type": "fixed", "weights": {"a": 1, "b": 0}}),
        "uniform",
        "left to chance.*floor",
    ),
    "no support": (
        lambda: played({"type": "fixed", "weights": {"a": 1, "b": 1, "c": 0}}, {"a": 0.1, "b": 0.2, "c": 0.3}),
        "{type: fixed, weights: {a: 1, c: 3}}",
        r"(?s)bandit of one: at 20 of 20 steps.*step 1, \.60 to c.*floor",
    ),
    "an index rule's log": (
        lambda: played("discounted_ucb"),
        "uniform",
        "(?s)had probability 1.*left nothing to chance",
    ),
    "the oracle": (lambda: played(OFTEN_A), "oracle", "simulated worlds only"),
    "another scale": (
        lambda: played(OFTEN_A),
        "{type: sec, signal_scale: quantile}",
        "signal_scale: quantile",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_log_cannot_answer_is_refused_with_a_remedy(case):
    make, bandit, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        replayed(make(), bandit)


def test_an_arm_that_neither_would_pick_needs_no_support():
    means = {"a": 0.1, "b": 0.2, "c": 0.3}
    log = played({"type": "fixed", "weights": {"a": 1, "b": 1, "c": 0}}, means)
    found = replayed(log, "{type: fixed, weights: {a: 3, c: 0}}")
    assert found.bandits[0].arms[2].share == 0.0


def test_a_bandit_that_makes_no_sense_of_the_arms_is_refused_in_its_own_words():
    with pytest.raises(UserError, match=r"cannot be replayed on known: .*not all 0.*how many tasks"):
        replayed(played(OFTEN_A), "{type: fixed, others: 0}")


def test_without_the_arms_probabilities_support_is_judged_by_the_picks_and_said_so():
    log = played(OFTEN_A, {"a": 0.2, "b": 0.6, "c": 0.5})
    hidden = [LoggedStep(s.step, s.arms, None, [p for p in s.picks if p.arm != "c"]) for s in log.bandits[0].steps]
    found = replayed(with_steps(log, hidden), "uniform")
    assert "not known for" in found.notes[0]
    assert ".33 of its own" in found.notes[0]
    assert found.bandits[0].arms[0].logged_share is None
