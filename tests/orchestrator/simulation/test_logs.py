"""What runs wrote down of their choices: read back, and held against the promise that every pick was drawn so."""

import json

import numpy as np
import pytest
from scipy import special

import orchestrator
from orchestrator.errors import UserError
from orchestrator.runs.catalog import opened
from orchestrator.simulation.logs import read_log
from orchestrator.simulation.replay import replay_run
from store.errors import LedgerError
from tests.orchestrator.simulation.logs import target
from tests.orchestrator.specs import FAKE, alone, small

UNLIKELY = 1e-3


@pytest.fixture(scope="module")
def longer(tmp_path_factory):
    """A home with a run of many picks, an index rule's, and forks with another signal and with another bandit."""
    home = tmp_path_factory.mktemp("home")
    noisy = {"type": FAKE, "character": "noisy", "in_process": True}
    about = {
        "warm_start": None,
        "environments": {
            "one": {**noisy, "categories": ["a", "b", "c"]},
            "two": noisy,
            "three": {**noisy, "categories": ["a"]},
        },
        "step": {"groups": 12, "group_size": 3},
        "evaluate": {"items": 1, "samples": 4},
        "learner": {"lr": 0.003},
        "sampler": {"max_tokens": 1},
    }
    stages = {"stages": 3, "stage": {"steps": 14, "replay": 0.25}}
    sharp = {"type": "sec", "temperature": 0.05, "floor": 0.1}
    for name, bandit in (("sharp", sharp), ("index", "discounted_ucb")):
        spec = small(name, curriculum={**stages, "bandit": bandit}, **about)
        assert orchestrator.run(spec, home=home).status == "finished"
    for name, change in (("fork", "bandit.signal=leave_one_out"), ("other", "bandit=thompson")):
        overrides = [f"name={name}", f"curriculum.{change}"]
        assert orchestrator.fork("sharp", 2, overrides=overrides, home=home).status == "finished"
    return home


def logs_of(home, run):
    with opened(home, run) as (_, ledger):
        return read_log(ledger.reading, run)


@pytest.mark.parametrize("run", ["small", "flat"])
def test_a_log_is_complete(finished, run):
    log = logs_of(finished, run)
    assert log.num_steps == 9
    assert sum(len(step.picks) for one in log.bandits for step in one.steps) == 9 * 4
    for one in log.bandits:
        for step in one.steps:
            assert sum(step.probabilities.values()) == pytest.approx(1.0, abs=1e-12)
            assert sorted(step.probabilities) == list(step.arms)
            assert not step.is_in_turn
            assert all(len(own.values) == len(own.correct) == 4 for pick in step.picks for own in pick.groups)


def test_what_a_bandit_may_know_of_its_arms_is_in_the_ledger(finished):
    log = logs_of(finished, "small")
    assert dict(log.about["numbers"]["30"].features) == {"min_value": 1.0, "max_value": 30.0}
    assert sorted(logs_of(finished, "flat").bandits[0].steps[0].arms) == sorted(
        f"{name}/{category}" for name, own in log.about.items() for category in own
    )


@pytest.mark.slow
def test_every_pick_was_drawn_with_its_arms_logged_probability(longer):
    log = logs_of(longer, "sharp")
    assert any(len(set(s.probabilities.values())) > 1 for one in log.bandits for s in one.steps)
    for one in log.bandits:
        for step in one.steps:
            for pick in step.picks:
                assert abs(step.probabilities[pick.arm] - pick.probability) <= 1e-12


def test_picks_are_as_frequent_as_their_probabilities_say(longer):
    """Chi-square of counts around their sum of probabilities, with the covariance of the draws."""
    for one in logs_of(longer, "sharp").bandits:
        arms = sorted(one.steps[0].arms)[:-1]  # the last follows from the others
        apart, spread = np.zeros(len(arms)), np.zeros((len(arms), len(arms)))
        for step in one.steps:
            p = np.array([step.probabilities[arm] for arm in arms])
            counts = [sum(pick.arm == arm for pick in step.picks) for arm in arms]
            apart += counts - len(step.picks) * p
            spread += len(step.picks) * (np.diag(p) - np.outer(p, p))
        if arms:
            chi2 = apart @ np.linalg.solve(spread, apart)
            assert special.chdtrc(len(arms), chi2) > UNLIKELY


@pytest.mark.parametrize(
    "bandit", [{"type": "sec", "temperature": 0.05}, {"type": "cumulative"}], ids=lambda b: b["type"]
)
def test_a_runs_own_bandit_is_told_what_the_run_told_it(tmp_path, bandit):
    """Also of groups that are played again or cannot be scored, and of replay: it picks as was logged."""
    one = {"type": FAKE, "character": "uneven", "in_process": True, "categories": ["a", "b", "c"]}
    spec = small(
        "own",
        environments={"one": one, "two": one},
        objective={"preset": "rloo", "plans": ["dynamic_sampling"]},
        curriculum={"stages": 4, "stage": {"steps": 4, "replay": 0.4}, "bandit": {**bandit, "floor": 0.2}},
        step={"groups": 8, "group_size": 3},
        evaluate={"items": 1, "samples": 4},
        warm_start=None,
    )
    assert orchestrator.run(spec, home=tmp_path).status == "finished"
    log = logs_of(tmp_path, "own")
    picks = [pick for one in log.bandits for step in one.steps for pick in step.picks]
    assert max(len(pick.groups) for pick in picks) > 1
    assert any(pick.signal is None for pick in picks)
    with opened(tmp_path, "own") as (_, ledger):
        found = replay_run(ledger.reading, "own", [target(json.dumps({**bandit, "floor": 0.2}))]).targets[0].overall
    assert (found.effective_share, found.largest_weight) == (pytest.approx(1.0), pytest.approx(1.0))


def test_slots_filled_in_turn_are_recognised_and_such_a_run_is_refused(longer):
    log = logs_of(longer, "index")
    assert any(step.is_in_turn for one in log.bandits for step in one.steps)
    with (
        opened(longer, "index") as (_, ledger),
        pytest.raises(UserError, match=r"(?s)cannot be judged by index.*had probability 1.*floor"),
    ):
        replay_run(ledger.reading, "index", [target("uniform")])


def test_a_fork_whose_parent_was_given_another_signal_is_refused(longer):
    with pytest.raises(UserError, match=r"raw signal of the value; fork: leave_one_out.*replay sharp"):
        logs_of(longer, "fork")


def test_a_fork_says_whose_picks_it_has_and_where_its_own_bandits_began(longer):
    with opened(longer, "other") as (_, ledger):
        found = replay_run(ledger.reading, "other", [target("uniform")])
    assert found.notes[0] == "up to stage 2 the picks are those of sharp, made by sec"
    unknown = [s.step for one in logs_of(longer, "other").bandits for s in one.steps if s.probabilities is None]
    assert set(unknown) <= {
        29,
        30,
        31,
        32,
    }  # where fresh bandits are first asked: nothing was kept of them before
    assert all(arm.logged_share is not None for one in found.targets[0].bandits for arm in one.arms)


def test_an_unknown_run_is_refused(finished):
    with pytest.raises(LedgerError, match="no run 'smal'"):
        logs_of(finished, "smal")


def test_the_runs_own_bandit_explains_its_log_and_a_hotter_one_differs(longer):
    own, hot = "{type: sec, temperature: 0.05, floor: 0.1}", "{type: sec, temperature: 1, floor: 0.1}"
    with opened(longer, "sharp") as (_, ledger):
        found = replay_run(ledger.reading, "sharp", [target(own), target(hot), target("thompson")])
    first, second, third = (one.overall for one in found.targets)
    assert first.snips == first.ips == first.own == second.own
    assert first.effective_share == 1.0 > second.effective_share
    assert second.snips.value != first.snips.value
    assert all(one.is_reliable for one in (first, second, third))
    spreads = [[max(a.share for a in one.arms) for one in target.bandits] for target in found.targets]
    assert spreads[0] > spreads[1]  # the hotter one is nearer to uniform
    assert sum(one.num_picks for one in found.targets[0].bandits) == 42 * 12 - _in_one_arm(longer)
    windows = found.targets[0].windows
    assert (windows[0][0], windows[-1][1]) == (1, 42)
    assert sum(one.num_slots for _, _, one in windows if one is not None) == first.num_slots


def _in_one_arm(home):
    log = logs_of(home, "sharp")
    return sum(len(s.picks) for one in log.bandits if not one.has_choice for s in one.steps)


def test_a_run_that_is_too_short_is_refused(tmp_path):
    spec = alone(steps=2, stages=2, categories=["easy", "hard", "last"], held_out=["last"])
    orchestrator.run(spec, home=tmp_path)
    assert list(logs_of(tmp_path, "alone").about["one"]) == [
        "easy",
        "hard",
    ]  # what is only held out is no arm
    with (
        opened(tmp_path, "alone") as (_, ledger),
        pytest.raises(UserError, match=r"alone has 4 steps with picks.*evergreen resume alone"),
    ):
        replay_run(ledger.reading, "alone", [target("uniform")])


def test_a_step_that_set_a_category_aside_still_had_it_and_the_run_can_be_replayed(tmp_path):
    broken = tmp_path / "broken"
    broken.write_text("one/hard")
    spec = alone()
    spec["environments"]["one"] = {"type": "tests.integration.patchy:create", "path": str(broken)}
    quarantine = {"after": 2, "steps": 6}
    spec["curriculum"] = {"stages": 1, "stage": {"steps": 10}, "bandit": "uniform", "quarantine": quarantine}
    spec["step"] = {"groups": 8, "group_size": 2}
    orchestrator.run(spec, home=tmp_path)
    steps = logs_of(tmp_path, "alone").bandits[0].steps
    assert [step.step for step in steps if list(step.arms) == ["easy", "hard"]] == [1, 2, 9]
    assert all(sorted(step.probabilities) == list(step.arms) for step in steps)
    with opened(tmp_path, "alone") as (_, ledger):
        found = replay_run(ledger.reading, "alone", [target("uniform")]).targets[0].overall
    assert found.snips == found.own


def test_rules_by_level_go_by_the_order_of_the_spec_and_say_which_they_took(tmp_path):
    spec = alone(steps=15, stages=1, character="noisy", categories=["level_2", "level_10", "level_1"])
    spec["curriculum"]["bandit"] = "uniform"
    orchestrator.run(spec, home=tmp_path)
    with opened(tmp_path, "alone") as (_, ledger):
        plain, named = replay_run(
            ledger.reading,
            "alone",
            [
                target("easy_to_hard"),
                target("{type: easy_to_hard, levels: {level_1: 1, level_2: 2, level_10: 10}}"),
            ],
        ).targets
    alone_at_first = [
        next(arm.arm for arm in one.bandits[0].windows[0].arms if arm.share == 1) for one in (plain, named)
    ]
    assert alone_at_first == ["level_2", "level_1"]
    assert plain.notes[0].startswith("takes one from the easiest to the hardest as level_2, level_10 and level_1, the")
    assert "name `levels`" in plain.notes[0]
    assert named.notes == []
