"""Tasks played without a model: at random, with one text always, or with the reference answers.

    random      a legal answer of the environment, else the answer of another task of the category; anew every turn
    constant    one text: a given one, else the category's most frequent answer
    reference   the task's own `answer`, in every turn

The first two are a floor: what a policy earns that has learnt the form of an answer and nothing else. The last is a
ceiling where one reply is the whole answer; in an environment whose `answer` is only a good first of several replies,
it is what that reply earns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from environments import (
    Environment,
    EnvironmentFault,
    Message,
    Pool,
    Score,
    Scorer,
    ScoringJob,
    Task,
    Turn,
    first_tasks,
)
from orchestrator import random_streams
from orchestrator.episode_options import score_cut_off
from orchestrator.errors import UserError
from orchestrator.rollout.episode_queue import limit_of
from orchestrator.tallies import Tally
from policies.samplers.contracts import CutOff
from store.floors import Kind

ScriptedPolicy = Literal["random", "constant", "reference"]
KIND_OF: Mapping[ScriptedPolicy, Kind] = {"random": "floor", "constant": "floor", "reference": "ceiling"}
OTHER_TASKS = 256  # of a category, whose answers stand for what an answer may be
MOST_TURNS = 32  # of an episode, where no spec says how many

# A task's reply in a turn, counted from 0, to the conversation so far.
Answer = Callable[[Task, int, Sequence[Message]], str]


@dataclass(frozen=True)
class TurnBudget:
    """Where an episode is cut off, and what it is worth then. Budgets of tokens are a model's: nothing here has any."""

    max_turns: int = MOST_TURNS
    cut_off: CutOff = "score"

    def score(self, so_far: Score | None) -> Score:
        """Say what an episode that was cut off is worth, its environment having said so much of it, or nothing."""
        return score_cut_off(so_far or Score(0.0, False), self.cut_off)


ANY_SPEC = TurnBudget()


@dataclass(frozen=True)
class Played:
    """How the tasks of a category went."""

    environment: str
    category: str
    scores: Sequence[Score]  # a task each, in order
    tally: Tally

    @property
    def scored(self) -> list[Score]:
        """Those that are scores at all."""
        return [score for score in self.scores if score.reason is None]

    @property
    def num_correct(self) -> int:
        """Tasks that were solved."""
        return sum(bool(score.correct) for score in self.scored)

    @property
    def pass_rate(self) -> float | None:
        """Share of the scored tasks that were solved; None: none could be scored."""
        return self.num_correct / len(self.scored) if self.scored else None


def play_category(
    environment: Environment,
    category: str,
    policy: ScriptedPolicy,
    scorer: Scorer,
    *,
    num_tasks: int,
    seed: int,
    text: str | None = None,
    pool: Pool = "anchor",
    budget: TurnBudget = ANY_SPEC,
) -> Played:
    """Play the first tasks of a category's pool, the held-out ones that a run is evaluated on; depends on `seed` alone.

    Raises UserError where the policy has nothing to answer with.
    """
    tasks = first_tasks(environment, category, pool, num_tasks)
    if not tasks:
        return Played(environment.name, category, (), Tally.of(()))
    answer = answers_of(environment, category, policy, seed, text, tasks)
    ended = play_tasks(environment, tasks, answer, scorer, budget)
    return Played(environment.name, category, [score for score, _ in ended], Tally.of(ended))


def play_tasks(
    environment: Environment, tasks: Sequence[Task], answer: Answer, scorer: Scorer, budget: TurnBudget = ANY_SPEC
) -> list[tuple[Score, bool]]:
    """Play every task to its end, turn by turn as many as may be; of each the score, and whether it was cut off."""
    size = limit_of(environment) or max(1, len(tasks))
    parts = (tasks[start : start + size] for start in range(0, len(tasks), size))
    return [one for part in parts for one in _play_together(part, answer, scorer, budget)]


def _play_together(
    tasks: Sequence[Task], answer: Answer, scorer: Scorer, budget: TurnBudget
) -> list[tuple[Score, bool]]:
    completions: list[tuple[str, ...]] = [() for _ in tasks]
    said = [task.messages for task in tasks]
    ended: dict[int, tuple[Score, bool]] = {}
    for turn in range(budget.max_turns):
        live = [place for place in range(len(tasks)) if place not in ended]
        if not live:
            break
        for place in live:
            completions[place] += (answer(tasks[place], turn, said[place]),)
        jobs = [ScoringJob(tasks[place], completions[place], f"play/{place}") for place in live]
        found: list[Turn] = scorer.turns(jobs)
        for place, job, one in zip(live, jobs, found, strict=True):
            if one.done:
                ended[place] = (one.score or Score(0.0, False), False)
            elif turn == budget.max_turns - 1:
                ended[place] = (budget.score(one.score), True)
                scorer.end([job])
            said[place] += ({"role": "assistant", "content": completions[place][-1]}, *one.messages)
    return [ended[place] for place in range(len(tasks))]


def answers_of(
    environment: Environment,
    category: str,
    policy: ScriptedPolicy,
    seed: int,
    text: str | None,
    tasks: Sequence[Task],
) -> Answer:
    """Give what a policy answers to tasks of a category. Raises UserError where it has nothing to answer with."""
    name = environment.name
    if policy == "reference":
        if lacking := [task for task in tasks if task.answer is None]:
            raise UserError(
                f"{name}, category {category}: {len(lacking)} of {len(tasks)} tasks have no `answer`, so there is no "
                "reference policy: give them one, or play `random` or `constant`"
            )
        return lambda task, turn, said: str(task.answer)
    if policy == "constant" and text is not None:
        return lambda task, turn, said: text
    if policy == "random" and environment.draws_legal_answers:
        return lambda task, turn, said: legal_answer(environment, task, _rng(seed, task, turn), said)
    others = first_tasks(environment, category, "train", OTHER_TASKS) or list(tasks)
    known = [task for task in others if task.answer is not None]
    if not known:
        remedy = "give the text with --text"
        if policy == "random":
            remedy = "play `constant` with --text, or implement legal_answer(task, rng) in an environment of your own"
        raise UserError(f"{name}, category {category}: no task has an `answer` that could be given: {remedy}")
    if policy == "constant":
        (most, _), *_ = Counter(str(task.answer) for task in known).most_common(1)
        return lambda task, turn, said: most
    return lambda task, turn, said: _of_another(known, task, _rng(seed, task, turn))


def legal_answer(environment: Environment, task: Task, rng: np.random.Generator, said: Sequence[Message]) -> str:
    """Draw a legal answer to a conversation; whatever the environment raises becomes an EnvironmentFault."""
    if len(said) > len(task.messages):
        task = Task(task.environment, task.category, task.index, tuple(said), data=task.data)
    try:
        return environment.legal_answer(task, rng)
    except (EnvironmentFault, KeyboardInterrupt):
        raise
    except BaseException as error:  # foreign code; whoever wrote it can do something about it
        raise EnvironmentFault(
            f"{environment.name}: legal_answer raised {type(error).__name__}: {error}; mend the environment"
        ) from error


def _of_another(known: Sequence[Task], task: Task, rng: np.random.Generator) -> str:
    others = [one for one in known if one.key != task.key] or known
    return str(others[int(rng.integers(len(others)))].answer)


def _rng(seed: int, task: Task, turn: int) -> np.random.Generator:
    return random_streams.generator(seed, "scripted play", task.environment, task.category, task.key, str(turn))
