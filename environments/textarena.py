"""Text games of TextArena: of one player, or of two against an opponent of your own, a function.

What the game says since the last turn is what the policy reads; a reply is its move, in square brackets where it has
none. Invalid moves are the game's own business: most allow one in a row, and end at the next. `opponent:
./mine.py:opponent` is called as `opponent(observation, rng)` and returns a move, for the same observation and generator
always the same; where it raises, or its illegal move ends the game, the game is unscorable. Games that would download
word lists are refused. See docs/environments.md.
"""

from __future__ import annotations

import difflib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import version
from typing import Any, Literal, Self

import numpy as np
from pydantic import field_validator, model_validator

from environments.contracts import Category, Environment, EnvironmentFault, Episode, Score, Task, Turn
from environments.display import brief
from environments.games import GameOptions, code_digest, require_index
from environments.plugins import ENVIRONMENTS
from environments.registry import function_of
from environments.surroundings import OwnRandomState, import_apart
from environments.user_code import is_user_code, raised, uncallable

SOURCE = "https://github.com/LeonGuertler/TextArena, arXiv 2504.11442"

ADAPTER_VERSION = "2"
RAW = "-raw"  # the end of a game's name without TextArena's wrappers
LONGEST = 1000  # characters of a reply that are read as a move
MOST_OPPOSING = 100  # moves of an opponent in a row
NOTHING = "(the game says nothing)"

Opponent = Callable[[str, np.random.Generator], str]


class Config(GameOptions):
    """Options of a TextArena game, beside those of every game."""

    id: str
    """Name of the game, as TextArena has it: `GuessTheNumber-v0`, `TicTacToe-v0`."""
    opponent: str | None = None
    """A function of your own that plays the other side of a game of two, called as opponent(observation, rng); null: a
    game of one player."""
    seat: Literal[0, 1] = 0
    """Which player of two the policy is; 0 mostly begins."""

    @field_validator("id")
    @classmethod
    def _is_known(cls, id_: str) -> str:
        registered = library().envs.registration.ENV_REGISTRY
        known = [name for name in registered if f"{name}{RAW}" in registered]
        if id_ not in known:
            near = difflib.get_close_matches(id_, known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "`textarena.pprint_registry_detailed()` lists them"
            raise ValueError(f"TextArena has no game {id_!r}; {hint}")
        return id_

    @model_validator(mode="after")
    def _has_seats(self) -> Self:
        if self.seat and self.opponent is None:
            raise ValueError("`seat` has a meaning in games of two: name an `opponent`")
        if self.opponent is not None and not is_user_code(self.opponent):
            raise ValueError(f"`opponent` is a function as ./file.py:function, not {self.opponent!r}")
        return self

    @property
    def num_players(self) -> int:
        """How many players there are."""
        return 1 if self.opponent is None else 2


class TextArena(Environment):
    """A game made anew for every task and every episode."""

    def __init__(self, name: str, config: Config) -> None:
        self.name, self.config = name, config
        self.max_tokens, self.max_prompt_tokens = config.max_tokens, config.max_prompt_tokens
        self.opponent: Opponent | None = None
        own = [config.opponent] if config.opponent else []
        for one in own:
            self.opponent = function_of(ENVIRONMENTS, one, config.folder, "opponent(observation, rng), a move")  # type: ignore[assignment]
            if (wrong := uncallable(self.opponent, object, ("observation", "rng"), {})) is not None:
                raise EnvironmentFault(f"environment {name}: {one} is called as opponent(observation, rng): {wrong}")
        for category in config.option_sets:
            self._try(category)
        code = f"+{code_digest(own, config.folder)}" if own else ""
        self.version = f"{ADAPTER_VERSION}+textarena-{version('textarena')}{code}"

    @property
    def categories(self) -> list[Category]:
        """The named keyword arguments of the spec, in its order."""
        sets = self.config.option_sets.items()
        return [Category(name, one.get("trainable", True), self.config.arguments(name)) for name, one in sets]

    def size(self, category: str) -> int | None:
        return self.config.size

    def task(self, category: str, index: int) -> Task:
        require_index(self.name, self.config.size, index)
        seen = Game(self, category, index).seen
        messages = self.config.conversation(self.config.question("", index, seen))
        return Task(self.name, category, index, messages)

    def start(self, task: Task) -> Episode:
        return Play(task, Game(self, task.category, task.index), self.config)

    def _try(self, category: str) -> None:
        try:
            game = Game(self, category, 0)
        except EnvironmentFault:
            raise
        except Exception as error:  # foreign code; whoever chose the arguments can do something about it
            players = "for a game of two, name an `opponent`; " if self.config.opponent is None else ""
            raise EnvironmentFault(
                f"environment {self.name}, category {category}: {self.config.id} cannot be begun with"
                f" {self.config.num_players} player(s): {raised(error)}; {players}else change `kwargs`"
            ) from error
        if game.is_over:
            raise EnvironmentFault(f"environment {self.name}, category {category}: game 0 ends before the policy moves")


class OpponentError(Exception):
    """What an opponent did, by which a game says nothing about the policy."""


class Game:
    """One game from its seed on: the engine, what it said since the policy's last move."""

    def __init__(self, environment: TextArena, category: str, index: int) -> None:
        self._environment, self._config = environment, environment.config
        seed = self._config.seed + index
        self._random, self._rng = OwnRandomState(seed), np.random.default_rng(seed)
        self.seen, self.is_over = "", False
        with self._inside():
            self._engine = library().make(f"{self._config.id}{RAW}", **self._config.arguments(category))
            self._engine.reset(num_players=self._config.num_players, seed=seed)
            try:
                self._go_on()
            except OpponentError as error:
                raise EnvironmentFault(f"{environment.name}, category {category}, game {index}: {error}") from error

    def step(self, move: str) -> None:
        """Make the policy's move, and the opponent's until it is the policy's turn."""
        with self._inside():
            self.is_over = bool(self._engine.step(bracketed(move))[0])
            self._go_on()

    @property
    def reward(self) -> float:
        """What the game pays the policy, once it is over."""
        paid = (self._engine.state.rewards or {}).get(self._config.seat, 0.0)
        # Countdown, Cryptarithm, Slitherlink and ThreeCardMonte (0.7.4) give the reason of an invalid move in its place
        return self._config.reward_range[0] if isinstance(paid, str) else float(paid)

    def _go_on(self) -> None:
        for _ in range(MOST_OPPOSING):
            if self.is_over:
                return
            player, said = self._engine.get_observation()
            text = self._written(player, said)
            if self._environment.opponent is None or player == self._config.seat:
                self.seen = text
                return
            move = self._answer(self._environment.opponent, text)
            self.is_over = bool(self._engine.step(bracketed(move))[0])
            if self.is_over and self._engine.state.game_info.get(player, {}).get("invalid_move"):
                raise OpponentError(f"{self._config.opponent} ended it by an illegal move, {brief(move, 40)!r}")
        raise EnvironmentFault(f"{self._config.opponent} moved {MOST_OPPOSING} times in a row: let it make legal moves")

    def _answer(self, opponent: Opponent, text: str) -> str:
        """Ask the opponent for its move."""
        try:
            move = opponent(text, self._rng)
        except Exception as error:  # the user's own code
            raise OpponentError(f"{self._config.opponent} raised {raised(error)}") from error
        if not isinstance(move, str):
            raise EnvironmentFault(f"{self._config.opponent} returned {move!r}, no move: expected a text")
        return move

    def _written(self, player: int, said: Any) -> str:
        """Write what a player hears: not its own moves, which it knows."""
        types, lines = library().ObservationType, list[str]()
        for sender, message, kind in said:
            if kind is types.PLAYER_ACTION:
                if sender != player:
                    lines.append(f"[Player {sender}] {message}")
            else:
                lines.append(str(message))
        return "\n".join(line.strip("\n") for line in lines).strip()

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """Run the engine with generators of its own, silent, without downloads."""
        with self._random.lent(), redirect_stdout(io.StringIO()), without_downloads(self._config.id):
            yield


class Play(Episode):
    """A reply a move, until the game or the turns are over."""

    def __init__(self, task: Task, game: Game, config: Config) -> None:
        self.messages, self._game, self._config = task.messages, game, config
        self._num_turns = 0

    def step(self, completion: str) -> Turn:
        """Make the move that a completion says; without the marks of `answer` it is an empty one."""
        self._num_turns += 1
        try:
            self._game.step((self._config.read(completion) or "")[:LONGEST])
        except OpponentError as error:
            return Turn(score=Score.unscorable(str(error)))
        turns = {"turns": float(self._num_turns)}
        if self._game.is_over:
            return Turn(score=self._config.score(self._game.reward, **turns))
        score = Score.of(0.0, False, **turns)
        if self._num_turns >= self._config.turns:
            return Turn(score=score)
        return Turn(({"role": "user", "content": self._game.seen or NOTHING},), score, done=False)


def create(name: str, config: Config) -> TextArena:
    return TextArena(name, config)


def bracketed(move: str) -> str:
    """Put a move into square brackets, as games read it, unless it has some."""
    return move if "[" in move or "]" in move else f"[{move.strip()}]"


def library() -> Any:
    """Import `textarena`; raises EnvironmentFault if it is not installed."""
    return import_apart("textarena", "textarena", "textarena")


@contextmanager
def without_downloads(id_: str) -> Iterator[None]:
    """Refuse a game that asks NLTK for data which is not there: no run may hang on a download."""
    import nltk  # which textarena brings

    def refuse(names: Any = None, *others: Any, **options: Any) -> bool:
        for name in [names] if isinstance(names, str) else list(names or ()):
            if not any(_is_there(f"{kind}/{name}") for kind in ("corpora", "taggers")):
                raise EnvironmentFault(
                    f"{id_} needs word lists that are not on this machine: python -m nltk.downloader {name}"
                )
        return True

    def _is_there(place: str) -> bool:
        try:
            nltk.data.find(place)
        except LookupError:
            return False
        return True

    download, nltk.download = nltk.download, refuse
    try:
        yield
    finally:
        nltk.download = download
