"""TextArena's games: of one player, and of two against a function."""

import random
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from environments import EnvironmentFault, EnvironmentSource
from environments.scoring.jobs import ScoringJob, play
from tests.environments.checker.here import findings_here

textarena = pytest.importorskip("textarena")

LAKE = {"id": "FrozenLake-v0", "categories": {"small": {"size": 4}, "large": {"size": 6, "num_holes": 8}}}
NOUGHTS = {"id": "TicTacToe-v0", "opponent": "./other.py:first_free", "reward_range": [-1, 1]}
OPPONENT = """
import re

def first_free(observation, rng):
    return re.findall(r"\\[\\d\\]", observation.rpartition("Available Moves:")[2])[0]

def stubborn(observation, rng):
    return None

def lost(observation, rng):
    raise RuntimeError("no idea")

def illegal(observation, rng):
    return "[9]"

def without_generator(observation):
    return "[0]"

def to_text(observation, env):
    kinds = [kind.name for sender, text, kind in observation]
    return f"{env.state.game_state['board']} {kinds[-1]}"

def to_text_of_more(observation, env, more):
    return more

def way(text, env):
    return text if text.startswith("[") else None

def to_action(text, env):
    if text == "pass":
        raise ValueError("there is no passing")
    return {"first": "0", "middle": "[4]", "odd": 5}.get(text)
"""
OWN = {**NOUGHTS, "observation": "./other.py:to_text", "action": "./other.py:to_action"}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "other.py").write_text(OPPONENT)
    return str(tmp_path)


def source(options, folder=None):
    return EnvironmentSource("game", "textarena", options, folder)


def played(environment, completions, index=0):
    task = environment.task(environment.categories[0].name, index)
    return [play(environment, ScoringJob(task, tuple(completions[: n + 1]))) for n in range(len(completions))]


def test_the_checker_finds_nothing_but_that_there_are_no_reference_answers(folder):
    for options in (LAKE, NOUGHTS):
        assert {found.rule for found in findings_here(source(options, folder))} == {"no-answer"}


def test_a_seed_is_a_lake_whatever_anybody_draws():
    lake = source(LAKE).create()
    first = [lake.task("small", index).messages for index in range(4)]
    random.seed(5)
    state = random.getstate()
    assert [source(LAKE).create().task("small", index).messages for index in range(4)] == first
    assert len(set(map(str, first))) == 4
    assert random.getstate() == state
    assert len(lake.task("large", 0).messages[0]["content"]) > len(lake.task("small", 0).messages[0]["content"])


def test_a_game_of_two_is_played_against_the_function(folder):
    noughts = source(NOUGHTS, folder).create()
    turns = played(noughts, ["[4]", "8", "[2]"])
    assert [turn.done for turn in turns] == [False, False, False]
    assert "[Player 1] [0]" in turns[0].messages[0]["content"]
    assert "Player 0 placed" in turns[0].messages[0]["content"]
    assert "[Player 0]" not in turns[0].messages[0]["content"]
    won = played(noughts, ["[4]", "[2]", "[6]"])[-1]
    assert (won.done, won.score.value, won.score.correct) == (True, 1.0, True)
    lost = played(noughts, ["[4]", "[8]", "[7]"])[-1]
    assert (lost.done, lost.score.value, lost.score.correct) == (True, 0.0, False)


def test_the_policy_may_be_the_second_player(folder):
    second = source({**NOUGHTS, "seat": 1}, folder).create()
    assert "[Player 0] [0]" in second.task("default", 0).messages[0]["content"]
    assert played(second, ["[4]", "[8]"])[-1].score.value == 0.0


def test_invalid_moves_are_the_games_own_business_and_turns_end():
    lake = source(LAKE).create()
    warned, over = played(lake, ["swim", "swim"])
    assert "invalid move" in warned.messages[0]["content"]
    assert over.done
    assert over.score.value < 1
    short = source({"id": "LightsOut-v0", "turns": 2}).create()
    assert [(turn.done, turn.score.value) for turn in played(short, ["[0 0]", "[0 1]"])] == [(False, 0.0), (True, 0.0)]


def test_functions_of_the_users_own_write_and_read(folder):
    noughts = source(OWN, folder).create()
    empty = "['', '', '']"
    assert noughts.task("default", 3).messages[0]["content"] == f"Game 3.\n\n[{empty}, {empty}, {empty}] GAME_BOARD"
    missed, passed, moved = played(noughts, ["centre", "pass", "middle"])
    assert missed.messages[0]["content"] == "That is no action: it is none that the game knows."
    assert passed.messages[0]["content"] == "That is no action: there is no passing."
    assert moved.messages[0]["content"] == f"[['X', '', ''], ['', 'O', ''], {empty}] GAME_BOARD"
    assert moved.score.components == {"turns": 3.0, "invalid": 2.0}
    with pytest.raises(EnvironmentFault, match="to_action returned 5, no move"):
        played(noughts, ["odd"])
    with pytest.raises(EnvironmentFault, match=r"called as to_text\(observation, env\): missing a required argument"):
        source({**OWN, "observation": "./other.py:to_text_of_more"}, folder).create()


def test_a_reply_that_is_no_action_does_what_the_spec_says(folder):
    alone = {**OWN, "opponent": "./other.py:first_free"}
    (over,) = played(source({**alone, "invalid": "end"}, folder).create(), ["centre"])
    assert (over.done, over.score.value) == (True, 0.0)
    lake = {"id": "FrozenLake-v0", "action": "./other.py:way", "kwargs": {"num_holes": 0}}
    ways = ["?", *["[down]"] * 3, *["[right]"] * 3]
    kept = played(source(lake, folder).create(), ways)[-1]
    paid = played(source({**lake, "invalid": "penalty", "penalty": 0.25}, folder).create(), ways)[-1]
    assert (kept.done, kept.score.value, kept.score.components["invalid"]) == (True, 1.0, 1.0)
    assert (paid.done, paid.score.value) == (True, 0.75)


def test_random_answers_are_drawn_of_the_moves_that_the_game_lists(folder):
    noughts = source(NOUGHTS, folder).create()
    task, rng = noughts.task("default", 0), np.random.default_rng(0)
    assert {noughts.legal_answer(task, rng) for _ in range(200)} == {f"[{n}]" for n in range(9)}
    (turn,) = played(noughts, ["[4]"])
    later = replace(task, messages=(*task.messages, {"role": "assistant", "content": "[4]"}, *turn.messages))
    assert {noughts.legal_answer(later, rng) for _ in range(200)} == {f"[{n}]" for n in (1, 2, 3, 5, 6, 7, 8)}
    tagged = source({**LAKE, "answer": "tag"}).create()
    ways = [f"<answer>[{way}]</answer>" for way in ("up", "down", "left", "right", "w", "a", "s", "d")]
    assert {tagged.legal_answer(tagged.task("small", 0), rng) for _ in range(200)} == set(ways)


def test_where_moves_are_not_known_the_refusal_says_what_to_write(folder):
    rng = np.random.default_rng(0)
    for options, why in (({"id": "LightsOut-v0"}, "LightsOut-v0 does not list its moves"), (OWN, "to_action reads as")):
        silent = source(options, folder).create()
        with pytest.raises(EnvironmentFault, match=rf"{why}.*`legal: \[TEXT, ...\]`"):
            silent.legal_answer(silent.task("default", 0), rng)
        told = source({**options, "legal": ["first", "middle"]}, folder).create()
        assert {told.legal_answer(told.task("default", 0), rng) for _ in range(50)} == {"first", "middle"}


def test_games_that_download_are_refused_by_name():
    with pytest.raises(EnvironmentFault, match=r"Hangman-v0 needs word lists .*: python -m nltk.downloader words"):
        source({"id": "Hangman-v0"}).create()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"id": "TicTacTo-v0"}, "did you mean TicTacToe-v0"),
        ({"id": "FrozenLakes-v0"}, "did you mean FrozenLake-v0[^-]"),
        ({"id": "FrozenLake-v0-raw"}, "no game 'FrozenLake-v0-raw'; did you mean FrozenLake-v0[^-]"),
        ({"id": "FrozenLake-v0-train"}, "no game 'FrozenLake-v0-train'; did you mean .*FrozenLake-v0 or"),
        ({"id": "TicTacToe-v0", "seat": 1}, "name an `opponent`"),
        ({"id": "TicTacToe-v0", "opponent": "random"}, "`opponent` is a function"),
        ({**LAKE, "observation": "board"}, "./file.py:function, found 'board'"),
        ({**LAKE, "action": "ways"}, "./file.py:function, found 'ways'"),
        ({**LAKE, "invalid": "end"}, "which the game judges: leave `invalid` out"),
        ({**OWN, "penalty": 0.5}, "belong together"),
        ({**LAKE, "legal": []}, "at least 1 item"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_the_spec_is_read(options, said):
    with pytest.raises(ValidationError, match=said):
        source(options).create()


def test_what_cannot_be_played_is_refused_when_it_is_made(folder):
    with pytest.raises(EnvironmentFault, match="for a game of two, name an `opponent`"):
        source({"id": "TicTacToe-v0"}).create()
    with pytest.raises(EnvironmentFault, match=r"cannot be begun.*sizes"):
        source({"id": "FrozenLake-v0", "kwargs": {"sizes": 4}}).create()
    with pytest.raises(EnvironmentFault, match="returned None, no move"):
        source({**NOUGHTS, "opponent": "./other.py:stubborn", "seat": 1}, folder).create()
    with pytest.raises(EnvironmentFault, match=r"game, category default, game 0: ./other.py:lost raised RuntimeError"):
        source({**NOUGHTS, "opponent": "./other.py:lost", "seat": 1}, folder).create()
    with pytest.raises(EnvironmentFault, match=r"opponent\(observation, rng\): too many positional arguments"):
        source({**NOUGHTS, "opponent": "./other.py:without_generator"}, folder).create()
    with pytest.raises(EnvironmentFault, match=r"other\.py has no function 'nobody'"):
        source({**NOUGHTS, "opponent": "./other.py:nobody"}, folder).create()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lost", "./other.py:lost raised RuntimeError: no idea, in other.py:11"),
        ("illegal", "./other.py:illegal ended it by an illegal move, '[9]'"),
    ],
)
def test_a_game_that_the_opponent_spoils_says_nothing_of_the_policy(folder, name, said):
    environment = source({**NOUGHTS, "opponent": f"./other.py:{name}"}, folder).create()
    (turn,) = played(environment, ["[4]"])
    assert (turn.done, turn.score.value, turn.score.reason) == (True, None, said)
    assert said in " ".join(map(str, findings_here(source({**NOUGHTS, "opponent": f"./other.py:{name}"}, folder))))
