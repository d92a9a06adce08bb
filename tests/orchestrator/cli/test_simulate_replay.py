"""simulate --replay: what the screen, a program and a page are told."""

import json

import pytest

from orchestrator.cli.simulate import print_replay_of
from orchestrator.errors import SpecError, UserError
from orchestrator.simulation.replay import SAYS

COLD, HOT = "{type: sec, temperature: 0.02}", "{type: sec, temperature: 2}"


def told(capsys, home, run, *bandits, as_json=False, plot=None):
    print_replay_of(run, bandits, home, as_json, plot)
    return capsys.readouterr()


def test_the_screen_says_what_it_says_and_what_not(finished, capsys):
    text = told(capsys, finished, "small", COLD, HOT).out
    assert SAYS in text
    assert "small  9 steps of headroom, raw signal of the value" in text
    for words in (
        "headroom, as",
        "1 sec",
        "2 sec",
        "numbers.10",
        "noise.",
        "By environment",
        "scheduler's picks",
    ):
        assert words in text


def test_a_flat_run_has_one_bandit_and_no_scheduler(finished, capsys):
    text = told(capsys, finished, "flat", "sec", "uniform").out
    assert "Share of the picks" in text
    assert "book/2" in text
    assert "By environment" not in text
    assert "scheduler" not in text


def test_a_program_is_told_the_same(finished, capsys):
    facts = json.loads(told(capsys, finished, "small", "headroom", HOT, as_json=True).out)
    assert facts["says"] == SAYS
    own, hot = facts["targets"]
    assert own["overall"]["snips"] == own["overall"]["own"]
    assert hot["label"] == "sec temperature=2"
    assert hot["options"]["temperature"] == 2
    assert hot["overall"]["snips"]["low"] < hot["overall"]["snips"]["value"] < hot["overall"]["snips"]["high"]
    assert {bandit["bandit"] for bandit in hot["bandits"]} == {"book", "noise", "numbers"}
    for bandit in hot["bandits"]:
        assert sum(arm["share"] for arm in bandit["arms"]) == pytest.approx(1.0)
        assert sum(step["num_slots"] for step in bandit["steps"]) == bandit["num_picks"] - bandit["num_missing"]


def test_an_estimate_that_hangs_on_few_picks_is_shown_and_marked(finished, capsys, monkeypatch):
    monkeypatch.setattr("orchestrator.simulation.estimates.RELIABLE", 0.99)
    text = told(capsys, finished, "small", HOT, COLD).out
    assert "sec temperature=0.02: not to be relied on. The run's" in text
    assert "% !" in text


def test_a_page_holds_the_curves_and_the_same_words(finished, capsys, tmp_path):
    page = tmp_path / "replay.html"
    printed = told(capsys, finished, "small", COLD, "uniform", as_json=True, plot=page)
    json.loads(printed.out)
    assert "open it in a browser" in printed.err
    text = page.read_text()
    assert SAYS in text
    assert text.count("<figure") == 1 + 6  # earned, and the arms of three environments
    assert "<script" not in text


@pytest.mark.parametrize(
    ("run", "bandit", "message"),
    [
        ("smal", "sec", "there is no run 'smal'; there are: .*small"),
        ("small", "sek", "Did you mean 'sec'"),
        ("small", "{powr: 1}", "Did you mean 'power'"),
        ("small", "nowhere.module:make", "cannot import"),
        ("small", "builtins:dict", "part of Python itself"),
    ],
)
def test_what_cannot_be_is_said(finished, run, bandit, message):
    with pytest.raises((UserError, SpecError), match=message):
        print_replay_of(run, [bandit], finished, False, None)


def test_the_verb_replays_and_refuses_what_a_log_has_no_use_for(finished, evergreen):
    done = evergreen("simulate", "--replay", "flat", "--bandit", "uniform", "--json", "--home", str(finished))
    assert json.loads(done.stdout)["says"] == SAYS
    refused = evergreen("simulate", "a", "--replay", "flat", "--steps", "9", "--home", str(finished))
    assert refused.exit_code == 2
    assert "--steps, WORLD has no meaning: leave it out" in refused.stderr
    refused = evergreen("simulate", "--replay", "flat", "--seeds", "8", "--first-seed", "0", "--home", str(finished))
    assert refused.exit_code == 2
    assert "--seeds, --first-seed has no meaning: leave it out" in refused.stderr
