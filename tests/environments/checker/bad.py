"""Sums that keep the contract, and the same with one fault each: `tests.environments.checker.bad:create` as a type."""

# ruff: noqa: N801, RUF012 - a class is named as its fault is told
from __future__ import annotations

import math
import os
import random
import secrets
import signal
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from environments import Category, Environment, Episode, Score, Task, Turn
from environments.contracts import Flaw

QUESTION = "user"


class Good(Environment):
    """Prompt: two numbers. Answer: their sum. Two categories, endless."""

    version = "1"
    scores_in_process = True

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def categories(self) -> Any:
        return [Category("small"), Category("large", parameters={"below": 900})]

    def size(self, category: str) -> Any:
        return None

    def numbers(self, category: str, index: int) -> tuple[int, ...]:
        rng = np.random.default_rng([len(category), category == "large", index])
        return tuple(int(n) for n in rng.integers(10, 900 if category == "large" else 90, 2))

    def asked(self, category: str, index: int, question: str, answer: Any, **more: Any) -> Any:
        return Task(self.name, category, index, ({"role": "user", "content": question},), answer, **more)

    def task(self, category: str, index: int) -> Any:
        a, b = self.numbers(category, index)
        return self.asked(category, index, f"What is {a} + {b}?", str(a + b))

    def score(self, task: Task, completion: str) -> Any:
        return Score.of(float(completion.strip() == task.answer))


class Closed(Good):
    """A closed one, for faults in closed environments."""

    closed = True

    def size(self, category: str) -> Any:
        return 16

    def legal_answer(self, task: Task, rng: np.random.Generator) -> Any:
        return str(rng.integers(20, 1800))


class Three(Episode):
    """Three turns, scored by the last."""

    def __init__(self, task: Task) -> None:
        self.task, self.messages, self.heard = task, task.messages, []  # type: ignore[var-annotated]

    def step(self, completion: str) -> Any:
        self.heard.append(completion)
        if len(self.heard) < 3:
            return Turn(({"role": "user", "content": f"again, {len(self.heard)}"},), None, done=False)
        return Turn(score=Score.of(float(completion.startswith(self.task.answer or "-"))))


class SeveralTurns(Good):
    def start(self, task: Task) -> Any:
        return Three(task)


class Moves(Episode):
    """Three legal moves, which are digits; anything else ends it."""

    most = 1.0  # that it pays

    def __init__(self, task: Task) -> None:
        self.messages, self.num, self.answer = task.messages, 0, task.answer

    def step(self, completion: str) -> Any:
        self.num += 1
        if self.num == 1 and completion == self.answer:
            return Turn(score=Score.of(1.0))
        if len(completion) != 1 or not completion.isdecimal():
            return Turn(score=Score.of(0.0))
        if self.num < 3:
            return Turn(({"role": "user", "content": f"move {self.num}"},), None, done=False)
        return Turn(score=Score.of(self.most))


class Game(Good):
    """One that draws legal moves."""

    def start(self, task: Task) -> Any:
        return Moves(task)

    def legal_answer(self, task: Task, rng: np.random.Generator) -> Any:
        return str(rng.integers(1, 10))


FAULTS: dict[str, type[Good]] = {
    "none": Good,
    "none, closed": Closed,
    "none, several turns": SeveralTurns,
    "none, legal moves": Game,
}


def fault(made: type[Good]) -> type[Good]:
    FAULTS[made.__name__] = made
    return made


# --- what it says of itself


@fault
class empty_version(Good):
    version = " "


@fault
class version_number(Good):
    version = 1  # type: ignore[assignment]


@fault
class wrong_flag(Good):
    scores_in_process = "yes"  # type: ignore[assignment]


@fault
class symbols_as_list(Good):
    symbols = ["a"]  # type: ignore[assignment]


@fault
class same_category_twice(Good):
    @property
    def categories(self) -> Any:
        return [Category("small"), Category("small")]


@fault
class categories_as_strings(Good):
    @property
    def categories(self) -> Any:
        return ["small", "large"]


@fault
class category_without_name(Good):
    @property
    def categories(self) -> Any:
        return [Category("small"), Category(" ")]


@fault
class parameters_that_are_no_json(Good):
    @property
    def categories(self) -> Any:
        return [Category("small", parameters={"below": {1, 2}})]


@fault
class categories_in_any_order(Good):
    asked_for = 0

    @property
    def categories(self) -> Any:
        self.asked_for += 1
        return [Category("small"), Category("large")][:: 1 if self.asked_for % 2 else -1]


@fault
class nothing_trainable(Good):
    @property
    def categories(self) -> Any:
        return [Category("small", trainable=False)]


@fault
class size_zero(Good):
    def size(self, category: str) -> Any:
        return 0


@fault
class size_of_text(Good):
    def size(self, category: str) -> Any:
        return "many"


@fault
class size_too_large(Good):
    def size(self, category: str) -> Any:
        return 300

    def task(self, category: str, index: int) -> Any:
        if index > 298:
            raise IndexError(index)
        return super().task(category, index)


@fault
class not_endless(Good):
    def task(self, category: str, index: int) -> Any:
        if index > 2000:
            raise ValueError("no more")
        return super().task(category, index)


@fault
class max_tokens_too_small(Good):
    max_tokens = 1

    def task(self, category: str, index: int) -> Any:
        return self.asked(category, index, f"Say {index} at length.", f"{index}, certainly")


@fault
class max_tokens_for_longer_tokens(max_tokens_too_small):
    max_tokens = 4


# --- tasks


@fault
class task_fails(Good):
    def task(self, category: str, index: int) -> Any:
        if index == 3:
            raise KeyError("3")
        return super().task(category, index)


@fault
class task_raises_beyond_exceptions(Good):
    def task(self, category: str, index: int) -> Any:
        if index == 3:
            raise BaseException("caught by nobody")
        return super().task(category, index)


@fault
class task_by_the_clock(Good):
    def task(self, category: str, index: int) -> Any:
        return self.asked(category, index, f"What time is it after {time.perf_counter_ns()}?", "later")


@fault
class task_counts_calls(Good):
    calls = 0

    def task(self, category: str, index: int) -> Any:
        self.calls += 1
        return replace(super().task(category, index), data={"call": self.calls})


@fault
class task_by_global_random(Good):
    def task(self, category: str, index: int) -> Any:
        a = random.randint(1, 10**9)
        return self.asked(category, index, f"Repeat {a}.", str(a))


@fault
class task_seeds_random(Good):
    def task(self, category: str, index: int) -> Any:
        random.seed(f"{category} {index}")
        a = random.randint(1, 10**9)
        return self.asked(category, index, f"Double {a}.", str(2 * a))


@fault
class task_seeds_numpy(Good):
    def task(self, category: str, index: int) -> Any:
        np.random.seed(index)
        return super().task(category, index)


@fault
class task_changes_directory(Good):
    def task(self, category: str, index: int) -> Any:
        os.chdir("/")
        return super().task(category, index)


@fault
class task_leaves_files(Good):
    def task(self, category: str, index: int) -> Any:
        Path(f"{category}.txt").write_text("leftover")
        return super().task(category, index)


@fault
class task_changes_variables(Good):
    def task(self, category: str, index: int) -> Any:
        os.environ["EVERGREEN_BAD"] = str(index)
        return super().task(category, index)


@fault
class task_changes_signals(Good):
    def task(self, category: str, index: int) -> Any:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        return super().task(category, index)


@fault
class task_leaves_a_timer(Good):
    def task(self, category: str, index: int) -> Any:
        signal.alarm(600)
        return super().task(category, index)


@fault
class task_as_dict(Good):
    def task(self, category: str, index: int) -> Any:
        return {"question": "What is 1 + 1?", "answer": "2"}


@fault
class task_of_another_index(Good):
    def task(self, category: str, index: int) -> Any:
        return replace(super().task(category, index), index=index + 1)


@fault
class task_of_another_environment(Good):
    def task(self, category: str, index: int) -> Any:
        return replace(super().task(category, index), environment="others")


@fault
class messages_as_list(Good):
    def task(self, category: str, index: int) -> Any:
        return replace(super().task(category, index), messages=[{"role": "user", "content": "1 + 1?"}])


@fault
class message_as_text(Good):
    def task(self, category: str, index: int) -> Any:
        return replace(super().task(category, index), messages=("What is 1 + 1?",))


@fault
class message_of_nobody(Good):
    def task(self, category: str, index: int) -> Any:
        return replace(super().task(category, index), messages=({"role": "human", "content": "1 + 1?"},))


@fault
class half_a_character(Good):
    def task(self, category: str, index: int) -> Any:
        return self.asked(category, index, f"\ud83d {index}", "1")


@fault
class answer_as_number(Good):
    def task(self, category: str, index: int) -> Any:
        return replace(super().task(category, index), answer=12)


@fault
class empty_prompt(Good):
    def task(self, category: str, index: int) -> Any:
        return self.asked(category, index, " " * (index % 50 + 1), "1")


@fault
class assistant_speaks_last(Good):
    def task(self, category: str, index: int) -> Any:
        task = super().task(category, index)
        return replace(task, messages=(*task.messages, {"role": "assistant", "content": "Well,"}))


@fault
class task_does_not_pickle(Good):
    def task(self, category: str, index: int) -> Any:
        return replace(super().task(category, index), data={"check": lambda text: True})


@fault
class task_is_heavy(Good):
    def task(self, category: str, index: int) -> Any:
        return replace(super().task(category, index), data={"map": "x" * (1 << 20)})


class Loose(Task):
    __setattr__ = object.__setattr__  # type: ignore[assignment]


@fault
class task_can_be_changed(Good):
    def task(self, category: str, index: int) -> Any:
        return Loose(**vars(super().task(category, index)))


@dataclass(frozen=True)
class Keyed(Task):
    key: str = field(default="")  # type: ignore[assignment]


@fault
class key_of_its_own(Good):
    def task(self, category: str, index: int) -> Any:
        return Keyed(**vars(super().task(category, index)), key=f"{category}-{index}")


@fault
class no_reference_answers(Good):
    def task(self, category: str, index: int) -> Any:
        return replace(super().task(category, index), answer=None)


# --- the split


@fault
class few_tasks(Good):
    def task(self, category: str, index: int) -> Any:
        return super().task(category, index % 40)


@fault
class nothing_to_select_by(Good):
    def task(self, category: str, index: int) -> Any:
        number = {"small": (0, 9), "large": (0, 8)}[category][index % 2]  # training and anchor pool
        return self.asked(category, index, f"Repeat {category} {number}.", str(number))


@fault
class nothing_to_evaluate_on(Good):
    def task(self, category: str, index: int) -> Any:
        return self.asked(category, index, f"Repeat {category} 0.", "0")  # both are in the training pool


@fault
class nothing_to_train_on(Good):
    def task(self, category: str, index: int) -> Any:
        number = {"small": (9, 11, 3), "large": (8, 16, 9)}[category][index % 3]  # one of each held-out pool
        return self.asked(category, index, f"Repeat {category} {number}.", str(number))


# --- scores


@fault
class reference_is_wrong(Good):
    def score(self, task: Task, completion: str) -> Any:
        return Score.of(0.5 * (completion.strip() == task.answer))


@fault
class reference_is_not_correct(Good):
    def score(self, task: Task, completion: str) -> Any:
        return Score.of(float(completion.strip() == task.answer), correct=False)


@fault
class empty_is_right(Good):
    def score(self, task: Task, completion: str) -> Any:
        return Score.of(float(completion in ("", task.answer)))


@fault
class any_number_is_right(Good):
    def score(self, task: Task, completion: str) -> Any:
        return Score.of(float(completion.strip().isdecimal()))


@fault
class the_prompt_is_right(Good):
    def score(self, task: Task, completion: str) -> Any:
        return Score.of(float(completion in (task.answer, task.messages[-1]["content"])))


@fault
class lists_are_right(Good):
    def score(self, task: Task, completion: str) -> Any:
        return Score.of(float(task.answer in completion.split()))


@fault
class nonsense_is_paid(Good):
    def score(self, task: Task, completion: str) -> Any:
        return Score.of(1.0 if completion == task.answer else 0.7)


@fault
class value_of_two(Good):
    def score(self, task: Task, completion: str) -> Any:
        return Score(2.0, True)


@fault
class value_of_five_without_references(Good):
    def task(self, category: str, index: int) -> Any:
        return replace(super().task(category, index), answer=None)

    def score(self, task: Task, completion: str) -> Any:
        return Score.of(5.0)


@fault
class value_is_nan(Good):
    def score(self, task: Task, completion: str) -> Any:
        return Score(math.nan, True)


@fault
class value_is_text(Good):
    def score(self, task: Task, completion: str) -> Any:
        return Score("1.0", True)  # type: ignore[arg-type]


@fault
class component_is_nan(Good):
    def score(self, task: Task, completion: str) -> Any:
        return Score.of(float(completion.strip() == task.answer), length=math.nan)


@fault
class score_is_a_number(Good):
    def score(self, task: Task, completion: str) -> Any:
        return 1.0


@fault
class no_score(Good):
    def score(self, task: Task, completion: str) -> Any:
        return None


@fault
class score_not_implemented(Good):
    score = Environment.score  # type: ignore[assignment]


@fault
class score_raises(Good):
    def score(self, task: Task, completion: str) -> Any:
        return Score.of(float(int(completion or 0) == int(task.answer or 0)))


@fault
class score_raises_aside(score_raises):
    scores_in_process = False


@fault
class score_raises_aside_and_for_an_answer(score_raises_aside):
    def score(self, task: Task, completion: str) -> Any:
        return super().score(task, "no number" if task.index == 1 else completion)


@fault
class score_exits(Good):
    def score(self, task: Task, completion: str) -> Any:
        return super().score(task, completion) if completion.isdecimal() else sys.exit("enough")


@fault
class score_declines(Good):
    def score(self, task: Task, completion: str) -> Any:
        return super().score(task, completion) if completion.isdecimal() else Score.unscorable("no number")


@fault
class score_declines_always(Good):
    def task(self, category: str, index: int) -> Any:
        return replace(super().task(category, index), answer=None)

    def score(self, task: Task, completion: str) -> Any:
        return Score.unscorable("no judge")


@fault
class score_by_chance(Good):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.rng = np.random.default_rng(0)

    def score(self, task: Task, completion: str) -> Any:
        return Score.of(1.0 if completion == task.answer else 0.1 * self.rng.random())


@fault
class score_knows_only_its_own_tasks(Good):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.answers: dict[str, str] = {}

    def task(self, category: str, index: int) -> Any:
        task = super().task(category, index)
        self.answers[task.key] = task.answer
        return task

    def score(self, task: Task, completion: str) -> Any:
        return Score.of(float(completion == self.answers.get(task.key, "unknown")))


@fault
class score_changes_the_task(Good):
    def task(self, category: str, index: int) -> Any:
        return replace(super().task(category, index), data={"seen": []})

    def score(self, task: Task, completion: str) -> Any:
        task.data["seen"].append(completion)
        return super().score(task, completion)


@fault
class score_is_slow(Good):
    def score(self, task: Task, completion: str) -> Any:
        time.sleep(0.012)
        return super().score(task, completion)


# --- episodes


class Spoilt(Three):
    """The second turn is spoilt."""

    def __init__(self, task: Task, spoil: Any) -> None:
        super().__init__(task)
        self.spoil = spoil

    def step(self, completion: str) -> Any:
        turn = super().step(completion)
        return self.spoil(turn) if len(self.heard) == 2 else turn


@fault
class later_turn_raises(Good):
    def start(self, task: Task) -> Any:
        return Spoilt(task, lambda turn: 1 / 0)


@fault
class later_turn_ends_without_a_score(Good):
    def start(self, task: Task) -> Any:
        return Spoilt(task, lambda turn: replace(turn, done=True))


@fault
class score_so_far_out_of_range(Good):
    def start(self, task: Task) -> Any:
        return Spoilt(task, lambda turn: replace(turn, score=Score(-1.0, False)))


@fault
class later_turn_by_its_own_chance(Good):
    def start(self, task: Task) -> Any:
        words = ({"role": "user", "content": f"again, {secrets.token_hex(4)}"},)
        return Spoilt(task, lambda turn: replace(turn, messages=words))


@fault
class episode_shows_another_question(Good):
    def start(self, task: Task) -> Any:
        episode = Three(task)
        episode.messages = ({"role": "user", "content": "Read this instead"},)
        return episode


@fault
class turns_without_end(Good):
    def start(self, task: Task) -> Any:
        episode = Three(task)
        episode.step = lambda completion: Turn(task.messages, None, done=False)  # type: ignore[method-assign]
        return episode


@fault
class waiting_is_paid(Good):
    def start(self, task: Task) -> Any:
        episode, heard = Three(task), list[str]()

        def step(completion: str) -> Turn:
            heard.append(completion)
            value = float(completion == task.answer or len(heard) == 3)
            over = len(heard) == 3 or completion == task.answer
            return Turn(score=Score.of(value)) if over else Turn(({"role": "user", "content": "go on"},), None, False)

        episode.step = step  # type: ignore[method-assign]
        return episode


@fault
class rows_left_out(Good):
    flaws = (Flaw("the truth is missing", 30, "sums.jsonl:7: null"),)


@fault
class data_to_mind(Good):
    remarks = ("90 rows left out: of categories that `categories` does not name",)


@fault
class one_episode_for_all(Good):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.episode = Three(self.task("small", 0))

    def start(self, task: Task) -> Any:
        return self.episode


@fault
class episodes_share_what_they_heard(Good):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.heard: list[str] = []

    def start(self, task: Task) -> Any:
        episode = Three(task)
        episode.heard = self.heard
        return episode


@fault
class episode_begun_anew_by_others(Good):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.heard: list[str] = []

    def start(self, task: Task) -> Any:
        self.heard.clear()
        episode = Three(task)
        episode.heard = self.heard
        return episode


@fault
class episode_is_none(Good):
    def start(self, task: Task) -> Any:
        return None


@fault
class turn_without_a_message(Good):
    def start(self, task: Task) -> Any:
        episode = Three(task)
        step = episode.step
        episode.step = lambda completion: replace(step(completion), messages=())  # type: ignore[method-assign]
        return episode


# --- closed environments


@fault
class no_legal_answer(Closed):
    legal_answer = Environment.legal_answer  # type: ignore[assignment]


@fault
class legal_answer_is_the_answer(Closed):
    def legal_answer(self, task: Task, rng: np.random.Generator) -> Any:
        return task.answer


@fault
class legal_answer_by_its_own_chance(Closed):
    def legal_answer(self, task: Task, rng: np.random.Generator) -> Any:
        self.count = getattr(self, "count", 0) + 1
        return str(self.count)


@fault
class closed_without_end(Closed):
    def size(self, category: str) -> Any:
        return None


# --- what only a process of its own survives, or shows


@fault
class hangs_when_built(Good):
    def __init__(self, name: str) -> None:
        while True:
            pass


@fault
class exits_when_built(Good):
    def __init__(self, name: str) -> None:
        sys.exit("no")


@fault
class raises_beyond_exceptions_when_built(Good):
    def __init__(self, name: str) -> None:
        raise BaseException("caught by nobody")


@fault
class ends_the_process(Good):
    def task(self, category: str, index: int) -> Any:
        return super().task(category, index) if index != 7 else os._exit(7)


@fault
class takes_all_memory(Good):
    def __init__(self, name: str) -> None:
        self.name, self.held = name, bytearray(32 << 30)


@fault
class prints(Good):
    def task(self, category: str, index: int) -> Any:
        os.write(1, b"\x1b[2Jlook at me\n")
        return super().task(category, index)


class TooMuch(Moves):
    most = 3.0


@fault
class legal_moves_paid_too_much(Game):
    def start(self, task: Task) -> Any:
        return TooMuch(task)


class CountedInTheClass(Episode):
    """Legal moves, which the class counts for all that are played."""

    num = 0

    def __init__(self, task: Task) -> None:
        self.messages, self.answer = task.messages, task.answer
        type(self).num = 0

    def step(self, completion: str) -> Any:
        num = type(self).num = type(self).num + 1
        if num == 1 and completion == self.answer:
            return Turn(score=Score.of(1.0))
        if len(completion) != 1 or not completion.isdecimal() or num > 3:
            return Turn(score=Score.of(0.0))
        return Turn(({"role": "user", "content": f"move {num}"},), None, done=False)


@fault
class game_kept_in_the_class(Game):
    def start(self, task: Task) -> Any:
        return CountedInTheClass(task)


@fault
class hangs_on_words(Good):
    def score(self, task: Task, completion: str) -> Any:
        while not completion.isdecimal():
            pass
        return super().score(task, completion)


@fault
class crashes_on_words(Good):
    def score(self, task: Task, completion: str) -> Any:
        return os._exit(7) if "lorem" in completion else Score.of(float(completion == task.answer))


@fault
class takes_memory_for_words(Good):
    scores_in_process = False

    def score(self, task: Task, completion: str) -> Any:
        held = bytearray(8 << 30) if "lorem" in completion else b""
        return Score.of(float(completion == task.answer and not held))


@fault
class task_by_hash(Good):
    def task(self, category: str, index: int) -> Any:
        return self.asked(category, index, f"Remember {hash(f'{category} {index}')}.", "yes")


def create(name: str, fault: str = "none") -> Environment:
    return FAULTS[fault](name)
