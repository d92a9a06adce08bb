"""A policy that is no model earns what its answers are worth, the same for the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from environments import Category, Environment, EnvironmentSource, Episode, Score, Scorer, Task, Turn
from orchestrator.errors import UserError
from orchestrator.scripted_play import Played, ScriptedPolicy, TurnBudget, play_category
from policies.samplers.contracts import CutOff


class Parity(Environment):
    """Is a number even? Two thirds are."""

    name, version, scores_in_process = "parity", "1", True

    def __init__(self, *, has_answers: bool = True) -> None:
        self.has_answers = has_answers

    @property
    def categories(self) -> Sequence[Category]:
        return [Category("all")]

    def size(self, category: str) -> None:
        return None

    def task(self, category: str, index: int) -> Task:
        answer = "no" if index % 3 == 0 else "yes"
        question = {"role": "user", "content": f"is number {index} good?"}
        return Task(self.name, category, index, (question,), answer=answer if self.has_answers else None)

    def score(self, task: Task, completion: str) -> Score:
        if completion == "what?":
            return Score.unscorable("unreadable")
        return Score.of(float(completion == ("no" if task.index % 3 == 0 else "yes")))


class Lawful(Parity):
    def legal_answer(self, task: Task, rng: np.random.Generator) -> str:
        return ["yes", "no", "perhaps"][int(rng.integers(3))]


def played(environment: Environment, policy: ScriptedPolicy, seed: int = 0, text: str | None = None) -> Played:
    with Scorer([], {environment.name: environment}) as scorer:
        return play_category(environment, "all", policy, scorer, num_tasks=300, seed=seed, text=text)


def test_floors_and_the_ceiling_are_where_they_must_be() -> None:
    assert played(Parity(), "reference").pass_rate == 1
    assert played(Parity(), "constant").pass_rate == pytest.approx(2 / 3, abs=0.08), "the most frequent answer"
    assert played(Parity(), "constant", text="no").pass_rate == pytest.approx(1 / 3, abs=0.08)
    assert played(Parity(), "random").pass_rate == pytest.approx(5 / 9, abs=0.09), "answers of other tasks"
    assert played(Lawful(), "random").pass_rate == pytest.approx(1 / 3, abs=0.09), "a legal answer"


def test_the_seed_decides_what_is_random() -> None:
    first, again, other = (played(Parity(), "random", seed).scores for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_what_cannot_be_scored_is_no_failure() -> None:
    found = played(Parity(), "constant", text="what?")
    assert (found.pass_rate, len(found.scores), len(found.scored)) == (None, 300, 0)


@pytest.mark.parametrize(("policy", "remedy"), [("reference", "no reference policy"), ("random", "legal_answer")])
def test_an_environment_without_answers_is_told_so(policy: ScriptedPolicy, remedy: str) -> None:
    with pytest.raises(UserError, match=remedy):
        played(Parity(has_answers=False), policy)


def test_the_reference_gives_its_answer_in_every_turn() -> None:
    source = EnvironmentSource("g", "examples.guess:create", {"numbers": [5], "tries": 2})
    environment = source.create()
    with Scorer([source], {"g": environment}) as scorer:
        right = play_category(environment, "5", "reference", scorer, num_tasks=40, seed=0)
        nonsense = play_category(environment, "5", "constant", scorer, num_tasks=40, seed=0, text="x")
        blind = play_category(environment, "5", "random", scorer, num_tasks=400, seed=0)
    assert (right.pass_rate, nonsense.pass_rate) == (1, 0)
    assert blind.pass_rate == pytest.approx(0.36, abs=0.08), "examples/guess.py says so of who guesses blindly"


class Endless(Parity):
    """Every turn is worth 1 so far, and another follows."""

    scores_in_process = True

    def start(self, task: Task) -> Episode:
        return EndlessEpisode(task)


class EndlessEpisode(Episode):
    def __init__(self, task: Task) -> None:
        self.messages = task.messages

    def step(self, completion: str) -> Turn:
        score = Score.unscorable("unreadable") if completion == "what?" else Score.of(1.0)
        return Turn(({"role": "user", "content": "go on"},), done=False, score=score)


@pytest.mark.parametrize(("cut_off", "rate"), [("score", 1), ("mask", 1), ("zero", 0)])
def test_what_is_cut_off_is_worth_what_the_spec_says(cut_off: CutOff, rate: int) -> None:
    environment, budget = Endless(), TurnBudget(2, cut_off)
    with Scorer([], {environment.name: environment}) as scorer:
        games, unreadable = (
            play_category(environment, "all", "constant", scorer, num_tasks=4, seed=0, text=text, budget=budget)
            for text in ("x", "what?")
        )
    assert (games.pass_rate, games.tally.num_cut_off) == (rate, 4)
    assert [score.value for score in games.scores] == [rate] * 4
    assert (unreadable.pass_rate, unreadable.tally.num_unscorable) == (None, 4)


def test_a_game_of_many_turns_takes_each_step_once(tmp_path: Path) -> None:
    """A hundred turns took as long as five thousand: all before were replayed at each."""
    source = EnvironmentSource("c", "tests.environments.counted:create", {"path": str(tmp_path / "steps")})
    environment = source.create()
    with Scorer([source], {"c": environment}) as scorer:
        games = play_category(
            environment, "all", "constant", scorer, num_tasks=2, seed=0, text="x", budget=TurnBudget(6)
        )
    assert (tmp_path / "steps").stat().st_size == 2 * 6
    assert games.tally.num_cut_off == 2
