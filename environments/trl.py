"""TRL's environment classes: `reset(**row)`, public methods as tools, reward functions that get `environments`.

Rows come from files, with all options of `rows`. `environment_factory: ./mine.py:MyEnv` is called without arguments for
every episode. What `reset` returns is put behind the last message. Methods are tools, which the policy's chat template
describes as it does for `tools=`; a reply without a call ends the episode. Then the reward is asked, as TRL asks it:
`reward(environments=[...], completions=[...], **columns)`. TRL itself is not imported. See docs/environments.md.
"""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from environments import rows
from environments.contracts import EnvironmentFault, Episode, Message, Pool, Score, Task, Turn
from environments.plugins import ENVIRONMENTS
from environments.registry import function_of
from environments.rewards import Attempt, Reward, RewardSection, make_reward
from environments.rewards.functions import FunctionOptions, FunctionReward
from environments.surroundings import OwnRandomState
from environments.tools import RESPONSE, ToolCall, drawn_call, message_of, read_calls, schema_of, told
from environments.user_code import code_digest, is_user_code, raised

SOURCE = "TRL's documentation, GRPOTrainer, `environment_factory`"

ADAPTER_VERSION = "4"
NOT_TOOLS = ("reset", "get_reward")  # public methods that are not
FILLED = ("environments",)  # what a reward function gets here and not from rows alone
CALLING = "MyEnv(), with a method reset(**row)"
CALLS_PER_END = 15  # legal answers that call a tool, for each that ends the episode


class Config(rows.Config):
    """Options of a TRL environment, beside those of `rows`."""

    environment_factory: str
    """The class, as ./file.py:Class or package.module:Class, or a function that makes one; called without arguments."""
    reward: RewardSection | None = None  # type: ignore[assignment]
    """As for `rows`; functions may take `environments`, a list of one. Null: the class's `get_reward()`, in [0, 1]."""
    turns: int = Field(default=30, ge=1)
    """Most replies of an episode; fewer where the spec says `max_turns`."""
    tool_role: Literal["tool", "user"] = "tool"
    """Role of the messages with what tools return; `user`, between <tool_response> tags, for templates without the
    role `tool`."""

    @field_validator("environment_factory")
    @classmethod
    def _is_named(cls, name: str) -> str:
        if not is_user_code(name):
            raise ValueError(f"expected ./file.py:Class or package.module:Class, found {name!r}")
        return name


class Trl(rows.Rows):
    """Rows, each the beginning of an episode with an object of the user's class."""

    def __init__(self, name: str, config: Config) -> None:
        self._factory = function_of(ENVIRONMENTS, config.environment_factory, config.folder, CALLING)
        self._options = config
        super().__init__(name, config)
        self.scores_in_process = False  # tools are foreign code
        self._reward.needs_row = True  # which `reset` takes, whatever the reward needs
        kind = self._factory if inspect.isclass(self._factory) else type(self.made())
        methods = dict(inspect.getmembers(kind, inspect.isfunction))  # of the class, as TRL looks for them
        if "reset" not in methods:
            raise self._fault(f"{config.environment_factory} has no method `reset`")
        if config.reward is None and "get_reward" not in methods:
            raise self._fault(f"{config.environment_factory} has no method `get_reward`: give it one, or say `reward`")
        for one in NOT_TOOLS if config.reward is None else ("reset",):  # what is asked here
            if inspect.iscoroutinefunction(methods.get(one)):
                raise self._fault(f"{config.environment_factory}: `{one}` is async; make it a plain method")
        self._leaves_reward = config.reward is not None and "get_reward" in methods
        self.tools = [one for one in methods if not one.startswith("_") and one not in NOT_TOOLS]
        if not self.tools:
            raise self._fault(f"{config.environment_factory} has no public method, so the policy has no tool")
        try:
            self._schemas = [schema_of(methods[one]) for one in self.tools]
        except ValueError as error:
            raise self._fault(f"{config.environment_factory}: {error}") from error
        self._told = told(self._schemas)

    @cached_property
    def version(self) -> str:  # type: ignore[override]
        """That of the rows, and a digest of the class's file."""
        code = code_digest([self._options.environment_factory], self._options.folder)
        return f"{ADAPTER_VERSION}+{super().version}+{code}"

    @property
    def warnings(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of the rows, and a reward of the class's own that is not asked."""
        idle = (
            "`get_reward()` of the class is not asked, as `reward` is given; TRL would add it, with weight 1. A "
            "function of `reward` can: it gets `environments`, and `scale` says its range"
        )
        return (*super().warnings, *([idle] if self._leaves_reward else []))

    def task(self, category: str, index: int) -> Task:
        task = super().task(category, index)
        live = LiveEnvironment(self, task)
        *before, last = task.messages
        last = {**last, "content": last["content"] + (live.observation or "")}
        return Task(self.name, category, index, (self._told, *before, last), task.answer, task.data)

    def start(self, task: Task) -> Episode:
        return ToolEpisode(self, task)

    # The pools of rows without a held-out file follow from the keys of whole conversations, tools and observation too,
    # so nothing is known of them without making tasks.

    def indices(self, category: str, pool: Pool) -> NDArray[np.int64] | None:  # type: ignore[override]
        return None if self._options.holdout is None else super().indices(category, pool)

    def lengths(self, category: str) -> None:  # type: ignore[override]
        return None

    def roles(self, category: str) -> None:  # type: ignore[override]
        return None

    def legal_answer(self, task: Task, rng: np.random.Generator) -> str:
        """Draw a call of a tool, or now and then a last reply."""
        return drawn_call(self._schemas, rng) if rng.integers(CALLS_PER_END + 1) else "That is all."

    def answer_in(self, task: Task, completion: str) -> str | None:
        return completion.rpartition("</think>")[2].strip() or None

    def made(self) -> Any:
        """Make an object of the user's class."""
        try:
            return self._factory()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # foreign code; whoever wrote it can do something about it
            raise self._fault(f"{self._options.environment_factory}() raised {raised(error)}") from error

    def reply(self, content: str) -> Message:
        """Write what a tool returned as a message."""
        if self._options.tool_role == "tool":
            return {"role": "tool", "content": content}
        return {"role": "user", "content": content.join(RESPONSE)}

    @property
    def turns(self) -> int:
        """Most replies of an episode."""
        return self._options.turns

    def judged(self, attempt: Attempt) -> Score:
        """Ask the reward."""
        return self._reward.score(attempt)

    def read(self, completion: str) -> str | None:
        """Find the answer in a completion."""
        return self._options.read(completion)

    def _make_reward(self, config: rows.Config) -> Reward:
        if config.reward is None:
            return FunctionReward("get_reward", own_reward, FunctionOptions(), FILLED)
        return make_reward(config.reward, config.folder, FILLED)

    def _fault(self, words: str) -> EnvironmentFault:
        return EnvironmentFault(f"environment {self.name}: {words}")


class LiveEnvironment:
    """An object of the user's class, reset for a row; silent, with generators of its own."""

    def __init__(self, environment: Trl, task: Task) -> None:
        self._tools, self._random = environment.tools, OwnRandomState(task.index)
        row = copy.deepcopy(dict(task.data["row"]))
        observation = self.run(lambda: self._reset(environment, row))
        self.observation = None if observation is None else str(observation)

    def _reset(self, environment: Trl, row: Mapping[str, Any]) -> Any:
        self.object = environment.made()
        return self.object.reset(**row)

    def run(self, function: Callable[[], Any]) -> Any:
        """Call foreign code."""
        with self._random.lent(), open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            return function()

    def call(self, call: ToolCall) -> str:
        """Make a call; what it raises is told to the policy, as TRL does."""
        fault = call.fault
        if fault is None and call.name not in self._tools:
            fault = f"there is no tool {call.name!r}, only {', '.join(self._tools)}"
        if fault is None:
            try:
                return str(self.run(lambda: getattr(self.object, call.name)(**(call.arguments or {}))))
            except Exception as error:
                fault = str(error) or type(error).__name__
        return str({"error": fault})


class ToolEpisode(Episode):
    """Replies with calls of tools, until one has none."""

    def __init__(self, environment: Trl, task: Task) -> None:
        self.messages = task.messages
        self._environment, self._task, self._live = environment, task, LiveEnvironment(environment, task)
        self._said: list[dict[str, Any]] = []  # the conversation behind the prompt, as TRL hands it over
        self._num_turns = self._num_calls = 0

    def step(self, completion: str) -> Turn:
        """Make the calls of a completion; one without any is the last."""
        self._num_turns += 1
        calls = list(read_calls(completion))
        self._said.append(message_of(completion, calls))
        self._num_calls += len(calls)
        results = [self._live.call(call) for call in calls]
        self._said += [
            {"role": "tool", "name": call.name, "content": result} for call, result in zip(calls, results, strict=True)
        ]
        score = self._score(completion)
        if not calls or self._num_turns >= self._environment.turns:
            return Turn(score=score)
        # a reward that does not apply, or cannot tell yet, ends no episode before its time
        return Turn(
            tuple(map(self._environment.reply, results)), score if score.value is not None else None, done=False
        )

    def _score(self, completion: str) -> Score:
        trainer = {"environments": [self._live.object], "completions": [copy.deepcopy(self._said)]}
        data = self._task.data
        answer, (_, *prompt) = self._environment.read(completion), self.messages  # which begins with the tools
        attempt = Attempt(completion, answer, data["truth"], tuple(prompt), data["row"], trainer)
        score: Score = self._live.run(lambda: self._environment.judged(attempt))
        return Score(score.value, score.correct, {**score.components, "calls": float(self._num_calls)}, score.reason)


def own_reward(environments: list[Any]) -> list[Any]:
    """Ask environments for their rewards."""
    return [one.get_reward() for one in environments]


def create(name: str, config: Config) -> Trl:
    return Trl(name, config)
