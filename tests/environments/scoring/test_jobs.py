import asyncio
import json
import math

import numpy as np
import pytest

from environments import Score, ScoringJob, SingleTurn, Turn
from environments.scoring.jobs import play
from tests.environments import fakes
from tests.source_lines import place

AGAIN = {"role": "user", "content": "again"}


def played(character, *completions):
    fake = fakes.create("fake", character)
    return play(fake, ScoringJob(fake.task("easy", 3), completions or ("3",)))


@pytest.mark.parametrize(
    ("character", "reason"),
    [
        ("wrong_valued", "bad value: float above 1; a value lies in 0..1"),
        ("not_a_number", "bad value: float, not finite; a value lies in 0..1"),
        ("text_valued", "bad value: str, not a number"),
        ("not_a_score", "bad value: the score is a float, not an environments.Score"),
        ("silent", "no score"),
        ("undecided", "judge not reachable"),
        ("raising", "raised ValueError: cannot read this" + place(fakes._raising)),
        ("exiting", "raised SystemExit: enough" + place(fakes._exiting, "sys.exit")),
    ],
)
def test_what_is_no_score_is_unscorable_with_its_reason(character, reason):
    turn = played(character)
    assert turn.score == Score.unscorable(reason)
    assert turn.done


def test_a_good_score_comes_through():
    assert played("learnable").score == Score.of(1.0)
    assert played("learnable", "4").score == Score.of(0.0)


@pytest.mark.parametrize("value", [True, np.bool_(True), np.float32(1), 1])
def test_a_number_of_any_kind_is_a_value_and_so_is_a_truth(monkeypatch, value):
    monkeypatch.setitem(fakes.BEHAVIOURS, "truthful", lambda task, completion: Score(value, None))
    assert played("truthful").score == Score.of(1.0)


@pytest.mark.parametrize("part", [math.nan, math.inf, np.float32("-inf")])
def test_a_score_with_a_part_that_is_not_finite_is_unscorable(monkeypatch, part):
    monkeypatch.setitem(fakes.BEHAVIOURS, "meaningless", lambda task, completion: Score.of(1.0, length=2.0, mean=part))
    assert played("meaningless").score == Score.unscorable("bad value: component mean is not finite")


def test_a_reason_is_one_short_line_that_no_terminal_obeys():
    score = played("long_winded").score
    assert score is not None
    assert score.reason is not None
    assert score.reason.startswith("\\x1b[2J \\u202eno\\x00 xxx")
    assert score.reason.endswith("x... (999,521 more characters)")
    assert len(score.reason) < 550
    assert score.reason.isprintable()


def test_an_exception_that_cannot_be_told_is_told_so(monkeypatch):
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    def mute(task, completion):
        raise Mute

    monkeypatch.setitem(fakes.BEHAVIOURS, "mute", mute)
    assert played("mute").score == Score.unscorable("raised Mute: its message cannot be read" + place(mute))


def test_the_line_that_is_told_is_the_innermost_of_the_users_own(monkeypatch):
    def misread(task, completion):
        return json.loads("what?")  # raises in Python's own library

    monkeypatch.setitem(fakes.BEHAVIOURS, "misread", misread)
    assert played("misread").score.reason.endswith(f"(char 0){place(misread, 'json')}")
    fake = fakes.create("fake")
    monkeypatch.setattr(type(fake), "start", SingleTurn.step)  # raises in ours, called by none of the user's
    turn = play(fake, ScoringJob(fake.task("easy", 3), ("3",)))
    assert turn.score.reason.startswith("raised ")
    assert ", in " not in turn.score.reason


def test_earlier_completions_are_replayed():
    first = played("many_turns", "a")
    assert (first.done, first.score, first.messages[0]["content"]) == (False, None, "not yet, a")
    assert played("many_turns", "a", "b").messages[0]["content"] == "not yet, b"
    assert played("many_turns", "a", "b", "b").score == Score.of(2 / 3, turns=3.0)


@pytest.mark.parametrize(
    ("turn", "checked"),
    [
        (Turn((), None, done=False), "no reply"),
        (Turn((), Score.of(0.5), done=False), "no reply"),
        (Turn((AGAIN,), None, done=True), "no score"),
        (Turn((AGAIN,), Score.unscorable("judge not reachable"), done=False), "judge not reachable"),
        (Turn((AGAIN,), Score(2.0, True), done=False), "bad value: float above 1; a value lies in 0..1"),
    ],
)
def test_a_turn_that_nothing_can_come_after_ends_its_episode(monkeypatch, turn, checked):
    monkeypatch.setattr(fakes.Countdown, "step", lambda episode, completion: turn)
    assert played("many_turns", "a", "b") == Turn(score=Score.unscorable(checked), done=True)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            {"role": "robot", "content": "go on"},
            "bad value: a message of the role 'robot', not of system, user, assistant, tool",
        ),
        ({"role": "user", "content": 5}, "bad value: a message's content is a int, not a text"),
    ],
)
def test_a_message_that_no_template_knows_ends_an_episode_with_the_reason(monkeypatch, message, reason):
    monkeypatch.setattr(fakes.Countdown, "step", lambda episode, completion: Turn((message,), None, done=False))
    assert played("many_turns", "a").score == Score.unscorable(reason)


def test_a_turn_before_the_last_may_say_what_the_episode_is_worth_so_far(monkeypatch):
    so_far = Turn((AGAIN,), Score.of(0.5), done=False)
    monkeypatch.setattr(fakes.Countdown, "step", lambda episode, completion: so_far)
    assert played("many_turns", "a", "b") == so_far


def test_what_is_no_exception_is_caught_as_well(monkeypatch):
    def cancelled(task, completion):
        raise asyncio.CancelledError("by itself")

    monkeypatch.setitem(fakes.BEHAVIOURS, "cancelled", cancelled)
    assert played("cancelled").score == Score.unscorable("raised CancelledError: by itself" + place(cancelled))


def test_an_interrupt_is_not_a_score(monkeypatch):
    def interrupted(task, completion):
        raise KeyboardInterrupt

    monkeypatch.setitem(fakes.BEHAVIOURS, "interrupted", interrupted)
    with pytest.raises(KeyboardInterrupt):
        played("interrupted")
