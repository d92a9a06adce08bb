"""Any Gymnasium environment as a text game: observations written out, replies read as actions, a turn a step.

Two small functions of the user's own may do both, `observation: ./mine.py:to_text`, called as `to_text(observation,
env)`, and `action: ./mine.py:to_action`, called as `to_action(text, env)`: None or a ValueError says that it is none.
Without them observations are what the environment renders as text, or their values, and actions are read as the action
space asks; `play --policy random` draws from it. Game number i begins with `env.reset(seed=seed + i)`. See
docs/environments.md.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from environments.contracts import Category, Environment, EnvironmentFault, Episode, Score, Task, Turn
from environments.games import (
    TO_ACTION,
    TO_TEXT,
    GameOptions,
    NoAction,
    ToAction,
    ToText,
    action_by,
    require_function,
    require_index,
)
from environments.plugins import ENVIRONMENTS
from environments.registry import function_of
from environments.spaces import asked, drawn, library, read_action, require_writable, shown, written
from environments.surroundings import OwnRandomState
from environments.user_code import code_digest, is_user_code, raised, wrong_name

SOURCE = "https://gymnasium.farama.org, arXiv 2407.17032"

ADAPTER_VERSION = "3"
LONGEST = 100_000  # characters of a reply that are read
TEXT = "ansi"  # Gymnasium's name of rendering as text
RESET, STEP = ("observation", "info"), ("observation", "reward", "terminated", "truncated", "info")

PAYS_FOR_NOTHING = "a game that can lose rewards and is paid where it is cut off (`unfinished: rewards`)"
NO_ACTION = (
    "replies that are no action, which lose nothing: say `invalid: end`, or `invalid: penalty` and as `penalty` more "
    "than a step can cost"
)


class Config(GameOptions):
    """Options of a Gymnasium environment, beside those of every game."""

    id: str
    """Name of the environment (`FrozenLake-v1`, `module:Name-v0`), or a function of your own that makes one, as
    ./file.py:function: called with the keyword arguments, and with `seed` if it has such a parameter."""
    observation: str | None = None
    """`render`: what the environment renders as text, coloured cells in brackets; `values`: its numbers; or a function
    of your own, called as to_text(observation, env). Null: `render` where there is such a rendering, else `values`."""
    actions: Annotated[list[str], Field(min_length=1)] | None = None
    """Names of a discrete space's actions, in its order; null: their numbers."""
    instructions: str | None = None
    """How a prompt begins; null: the environment's name, and what a reply is to look like."""
    unfinished: Literal["zero", "rewards"] = "zero"
    """What a game is worth that `turns` or a budget ends: `zero`: nothing, also where to lose is worth that; `rewards`:
    what it has earned so far, for games that pay by the step. Where rewards may be below 0 (`reward_range`), one
    that a budget ends is worth nothing: it would be paid for what it did not have to spend, or to lose."""

    @field_validator("id")
    @classmethod
    def _is_known(cls, id_: str) -> str:
        gymnasium = library()
        if _is_function(id_) or ":" in id_:  # a module of the user's: found once the spec's folder is known
            return id_
        try:
            gymnasium.spec(id_)
        except gymnasium.error.Error as error:
            raise ValueError(f"Gymnasium has no environment {id_!r}: {error}") from error
        return id_

    @field_validator("observation")
    @classmethod
    def _is_a_function(cls, name: str | None) -> str | None:
        return require_function(name, "render", "values")

    @field_validator("actions")
    @classmethod
    def _differ(cls, names: list[str] | None) -> list[str] | None:
        if names and len({name.strip().casefold() for name in names}) < len(names):
            raise ValueError("names of actions have to differ, also in lower case")
        return names

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if self.action is not None and self.actions is not None:
            raise ValueError("`action` reads replies itself: leave `actions` out, and say them in `instructions`")
        if (self.invalid, self.unfinished) == ("ignore", "rewards") and self.reward_range[1] <= 0:
            raise ValueError(f"{PAYS_FOR_NOTHING} pays best for {NO_ACTION}")
        return self

    @property
    def warnings(self) -> tuple[str, ...]:
        """Say that doing nothing may pay, where a game may be won and lost."""
        is_free = (self.invalid, self.unfinished) == ("ignore", "rewards")
        return (f"{PAYS_FOR_NOTHING} may pay best for {NO_ACTION}",) if is_free and self.reward_range[0] < 0 else ()

    def score_at_budget(self, total: float, **components: float) -> Score:
        """Score a game that would go on, should a budget of tokens end it here."""
        if self.unfinished == "rewards" and self.reward_range[0] >= 0:
            return self.score(total, **components)
        return Score.of(0.0, False, **components)

    def score_at_turns(self, total: float, **components: float) -> Score:
        """Score a game that `turns` ends; whose rewards are outside of `reward_range` is unscorable, as at its end."""
        earned = self.score(total, **components)
        is_kept = self.unfinished == "rewards" or earned.reason is not None
        return earned if is_kept else Score.of(0.0, False, **components)


class Gymnasium(Environment):
    """An environment made anew for every task and every episode, so that nothing is left of the one before."""

    def __init__(self, name: str, config: Config) -> None:
        self.name, self._config = name, config
        self.max_tokens, self.max_prompt_tokens = config.max_tokens, config.max_prompt_tokens
        own = [one for one in (config.id, config.observation, config.action) if one and is_user_code(one)]
        own = [one for one in own if wrong_name(one) is None]
        self._factory = self._function(config.id, "make(**kwargs)") if config.id in own else None
        is_own = config.observation is not None and is_user_code(config.observation)
        self._to_text: ToText | None = self._function(config.observation, TO_TEXT) if is_own else None
        self._to_action: ToAction | None = self._function(config.action, TO_ACTION)
        self._renders, self._asked, self._spaces = dict[str, bool](), dict[str, str](), dict[str, Any]()
        classes = {self._look_at(category) for category in config.option_sets}
        if self._factory is None:  # of a package that registered it, or of a module of the user's that `id` names
            own += sorted(
                f"{one.__module__}:{one.__name__}" for one in classes if one.__module__.split(".")[0] != "gymnasium"
            )
        code = f"+{code_digest(own, config.folder)}" if own else ""
        self.version = f"{ADAPTER_VERSION}+gymnasium-{version('gymnasium')}{code}"
        self.symbols, self.warnings = tuple(config.actions or ()), config.warnings

    @property
    def categories(self) -> list[Category]:
        """The named keyword arguments of the spec, in its order."""
        sets = self._config.option_sets.items()
        return [Category(name, one.get("trainable", True), self._config.arguments(name)) for name, one in sets]

    def size(self, category: str) -> int | None:
        return self._config.size

    def task(self, category: str, index: int) -> Task:
        require_index(self.name, self._config.size, index)
        game = Game(self, category, index)
        asked = self._config.instructions
        called = self.name if _is_function(self._config.id) else self._config.id
        instructions = f"Play {called}. {game.asked}" if asked is None else asked
        messages = self._config.conversation(self._config.question(instructions, index, game.seen))
        return Task(self.name, category, index, messages)

    def start(self, task: Task) -> Episode:
        return Play(task, Game(self, task.category, task.index), self._config)

    def legal_answer(self, task: Task, rng: np.random.Generator) -> str:
        known = []
        if self._to_action is None and self._config.legal is None:
            known = [drawn(Game(self, task.category, task.index).actions, rng, self._config.actions)]
        if (answer := self._config.legal_reply(rng, known)) is None:
            raise self._fault(
                f"what {self._config.action} reads as actions is not known: list some, `legal: [TEXT, ...]`",
                task.category,
            )
        return answer

    def made(self, category: str, seed: int) -> Any:
        """Make a category's environment."""
        arguments = self._config.arguments(category)
        if self._factory is not None:
            takes_seed = "seed" in inspect.signature(self._factory).parameters
            return self._factory(**arguments, **({"seed": seed} if takes_seed else {}))
        if self._renders.get(category):
            arguments["render_mode"] = TEXT
        return library().make(self._config.id, disable_env_checker=True, **arguments)

    def text_of(self, category: str, observation: Any, env: Any) -> str:
        """Write an observation."""
        if self._to_text is not None:
            return str(self._to_text(observation, env))
        return shown(env.render()) if self._renders[category] else written(observation)

    def action_of(self, text: str, env: Any) -> Any:
        """Read an action; raises NoAction where a reply is none."""
        if self._to_action is not None:
            return action_by(self._to_action, text, env)
        return read_action(text, env.action_space, self._config.actions)

    def asked_of(self, category: str, env: Any) -> str:
        """Say what replies to a game look like, whose actions may be others than of the first game."""
        if self._to_action is not None or env.action_space == self._spaces[category]:
            return self._asked[category]
        return asked(env.action_space, self._config.actions)

    def seed_of(self, index: int) -> int:
        """Give the seed of a game."""
        return self._config.seed + index

    def _look_at(self, category: str) -> type:
        """Make the environment once, and see how it is observed and played; its class."""
        try:
            with OwnRandomState(self._config.seed).lent():
                env = self.made(category, self._config.seed)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # foreign code; whoever chose the arguments can do something about it
            raise self._fault(
                f"{self._config.id} cannot be made: {raised(error)}; change `id`, `kwargs`", category
            ) from error
        if not isinstance(env, library().Env):
            raise self._fault(f"{self._config.id} made a {type(env).__name__}, no gymnasium.Env", category)
        self._renders[category] = self._is_rendered(env, category)
        if self._to_text is None and not self._renders[category]:
            try:
                require_writable(env.observation_space)
            except ValueError as error:
                remedy = "write them by a function of your own: `observation: ./mine.py:to_text`"
                raise self._fault(f"observations have no text: {error}; {remedy}", category) from error
        try:
            own = self._to_action is not None
            self._asked[category] = "" if own else asked(env.action_space, self._config.actions)
        except ValueError as error:
            raise self._fault(str(error), category) from error
        self._spaces[category] = env.action_space
        _close(env)
        return type(env.unwrapped)

    def _is_rendered(self, env: Any, category: str) -> bool:
        wanted, modes = self._config.observation, env.metadata.get("render_modes", [])
        can = env.render_mode == TEXT if self._factory is not None else TEXT in modes
        if wanted == "render" and not can:
            of_own = "; make it with render_mode='ansi'" if self._factory is not None else ""
            raise self._fault(
                f"{self._config.id} renders no text, only {', '.join(modes) or 'nothing'}{of_own}", category
            )
        return can and wanted in (None, "render") and self._to_text is None

    def _function(self, name: str | None, calling: str) -> Callable[..., Any] | None:
        return None if name is None else function_of(ENVIRONMENTS, name, self._config.folder, calling)

    def _fault(self, words: str, category: str) -> EnvironmentFault:
        return EnvironmentFault(f"environment {self.name}, category {category}: {words}")


class Game:
    """One game from its seed on: the environment, what is seen of it, what it has paid.

    The environment is closed as soon as nobody has the game any more, over or not.
    """

    def __init__(self, environment: Gymnasium, category: str, index: int) -> None:
        self._environment, self._category = environment, category
        seed = environment.seed_of(index)
        self._random, self.total, self.is_over = OwnRandomState(seed), 0.0, False
        with self._random.lent():
            self._env = environment.made(category, seed)
            weakref.finalize(self, _close, self._env)
            observation, _ = unpack("reset", self._env.reset(seed=seed), RESET)
            self.seen = environment.text_of(category, observation, self._env)
        self.asked, self.actions = environment.asked_of(category, self._env), self._env.action_space

    def step(self, text: str) -> None:
        """Take an action; NoAction where the text is none."""
        with self._random.lent():
            action = self._environment.action_of(text, self._env)
            observation, reward, terminated, truncated, _ = unpack("step", self._env.step(action), STEP)
            self.total += float(reward)
            self.is_over = bool(terminated or truncated)
            if not self.is_over:
                self.seen = self._environment.text_of(self._category, observation, self._env)


def _close(env: Any) -> None:
    with suppress(Exception):  # foreign code, and nobody to tell
        env.close()


def unpack(method: str, given: object, names: Sequence[str]) -> tuple[Any, ...]:
    """Take apart what a method returned; raises ValueError where it is not what Gymnasium wants, as in old Gym."""
    if isinstance(given, tuple) and len(given) == len(names):
        return given
    what = f"{len(given)} values" if isinstance(given, tuple) else f"a {type(given).__name__}"
    raise ValueError(f"{method}() returned {what}, not ({', '.join(names)})")


class Play(Episode):
    """A reply a step, until the game or the turns are over."""

    def __init__(self, task: Task, game: Game, config: Config) -> None:
        self.messages, self._game, self._config = task.messages, game, config
        self._num_turns = self._num_invalid = 0

    def step(self, completion: str) -> Turn:
        """Take the step that a completion asks for."""
        self._num_turns += 1
        text = self._config.read(completion)
        try:
            if text is None:
                raise NoAction("the answer is missing")
            if len(text) > LONGEST:
                raise NoAction("it is too long")
            self._game.step(text)
            seen = self._game.seen
        except NoAction as reason:
            self._num_invalid += 1
            if self._config.invalid == "end":
                return Turn(score=Score.of(0.0, False, **self._counts()))
            seen = " ".join(f"That is no action: {reason}. {self._game.asked}".split())
        if self._game.is_over:
            return Turn(score=self._config.score(self._total(), **self._counts()))
        if self._num_turns >= self._config.turns:
            return Turn(score=self._config.score_at_turns(self._total(), **self._counts()))
        score = self._config.score_at_budget(self._total(), **self._counts())
        return Turn(({"role": "user", "content": seen or "(nothing to be seen)"},), score, done=False)

    def _total(self) -> float:
        return self._config.after_penalties(self._game.total, self._num_invalid)

    def _counts(self) -> dict[str, float]:
        return {"reward": self._game.total, "invalid": float(self._num_invalid)}


def create(name: str, config: Config) -> Gymnasium:
    return Gymnasium(name, config)


def _is_function(id_: str) -> bool:
    return is_user_code(id_) and wrong_name(id_) is None
