"""`protocol: nemo_gym` with resources servers of NeMo Gym's own, in processes and an environment of their own."""

from __future__ import annotations

import json

import pytest

from environments import EnvironmentSource, Scorer, ScoringJob
from environments.checker import check
from orchestrator.runs.api import run
from tests.environments.remote.server import foreign_server, short_run
from tests.environments.remote.test_adapters import ROWS, call

pytestmark = pytest.mark.slow


def served(name):
    """Start one of the servers that the package has."""
    return foreign_server("nemo-gym", "nemo_gym_server.py", name)


def source_of(url, rows, folder, **options):
    file = folder / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    given = {"protocol": "nemo_gym", "urls": [url], "nemo_gym": {"tasks": str(file), **options}}
    return EnvironmentSource("gym", "http", given)


@pytest.fixture(scope="module")
def counter(tmp_path_factory):
    """Their stateful counter, with rows as theirs are."""
    with served("example_session_state_mgmt") as url:
        asked = ROWS[0]["responses_create_params"]
        rows = [
            {**ROWS[0], "responses_create_params": {**asked, "input": f"Add {num}, then say done."},
             "expected_count": 3 + num, "level": ("easy", "hard")[num % 2]}
            for num in range(1, 401)
        ]  # fmt: skip
        yield source_of(url, rows, tmp_path_factory.mktemp("counter"), category="level")


def test_the_checker_finds_nothing_but_that_rows_have_no_answers(counter):
    assert {found.rule for found in check(counter)} == {"no-answer"}


def test_tools_of_a_session_are_called_and_the_whole_is_verified(counter):
    gym = counter.create()
    task = gym.task("easy", 4)
    assert task.messages[-1]["content"].startswith("Add 10,")
    with Scorer([counter], {"gym": gym}) as scorer:
        said = [f"Let me. {call(count=2)}{call(count='no')}", call(count=8), "done"]
        first, second, last = (
            scorer.turns([ScoringJob(task, tuple(said[:num]), "one")])[0] for num in range(1, len(said) + 1)
        )
        (other,) = scorer.turns([ScoringJob(task, ("done",), "two")])
        (replayed,) = scorer.turns([ScoringJob(task, tuple(said))])
    assert [json.loads(message["content"]) for message in (first.messages[0], *second.messages)] == [
        {"success": True}, {"success": True},
    ]  # fmt: skip
    assert "int_parsing" in first.messages[1]["content"], "what a tool says of a mistake is read"
    assert (last.done, last.score.value, last.score.correct) == (True, 1.0, True)
    assert replayed == last
    assert (other.done, other.score.value) == (True, 0.0)


def test_it_is_trained_on(counter, tmp_path):
    assert run(short_run("gym", counter.options), home=tmp_path).status == "finished"


def test_answers_without_tools_are_graded_by_theirs(tmp_path):
    letters = {"A": "blood", "B": "bone"}
    asked = "Put the letter into \\boxed{}. What breaks?\nA: blood\nB: bone"
    row = {
        "responses_create_params": {"input": [{"role": "user", "content": asked}]},
        "options": [{letter: text} for letter, text in letters.items()], "expected_answer": "B",
        "grading_mode": "strict_single_letter_boxed",
    }  # fmt: skip
    with served("mcqa") as url:
        source = source_of(url, [row], tmp_path)
        gym = source.create()
        with Scorer([source], {"gym": gym}) as scorer:
            turns = scorer.turns([ScoringJob(gym.task("all", 0), (f"\\boxed{{{letter}}}",)) for letter in "AB"])
    assert [(turn.done, turn.score.value) for turn in turns] == [(True, 0.0), (True, 1.0)]


def test_their_servers_of_another_kind_are_refused(tmp_path):
    with served("blackjack") as url, pytest.raises(Exception, match=r"no route /seed_session: .*its Gymnasium servers"):
        source_of(url, ROWS, tmp_path).create()
