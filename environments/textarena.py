"""Text games of TextArena: of one player, or of two against an opponent of your own, a function.

What the game says since the last turn is what the policy reads; a reply is its move, in square brackets where it has
none. Two small functions of the user's own may do both, as for `gymnasium`: `observation: ./mine.py:to_text`, called as
`to_text(observation, env)` with what the game said since, a list of (sender, text, kind), and TextArena's environment;
and `action: ./mine.py:to_action`, called as `to_action(text, env)`, which returns a move. Moves that are invalid are
the game's own business: most allow one in a row, and end at the next. Replies that `action` takes for none never reach
the game. `opponent:
./mine.py:opponent` is called as `opponent(observation, rng)` and returns a move, for the same observation and generator
always the same; where it raises, or its illegal move ends the game, the game is unscorable. Games that would download
word lists are refused. See docs/environments.md.
"""

from __future__ import annotations

import difflib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import version
from typing import Any, Literal, Self

import numpy as np
from pydantic import field_validator, model_validator

from environments.contracts import Category, Environment, EnvironmentFault, Episode, Score, Task, Turn
from environments.display import brief
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
from environments.surroundings import OwnRandomState, import_apart
from environments.user_code import code_digest, is_user_code, raised, uncallable

SOURCE = "https://github.com/LeonGuertler/TextArena, arXiv 2504.11442"

ADAPTER_VERSION = "2"
RAW = "-raw"  # the end of a game's name without TextArena's wrappers
LONGEST = 1000  # characters of a reply that are read as a move
MOST_OPPOSING = 100  # moves of an opponent in a row
NOTHING = "(the game says nothing)"
LISTED = re.compile(r"\b(?:available|valid|legal) (?:moves|actions):(.*)", re.IGNORECASE)  # as games list them
MOVE = re.compile(r"\[[^\[\]]+\]")

Opponent = Callable[[str, np.random.Generator], str]
OPPONENT = "opponent(observation, rng)"  # how it is called


class Config(GameOptions):
    """Options of a TextArena game, beside those of every game."""

    id: str
    """Name of the game, as TextArena has it: `GuessTheNumber-v0`, `TicTacToe-v0`."""
    observation: str | None = None
    """A function of your own, called as to_text(observation, env); null: what the game says, as it says it."""
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

    @field_validator("observation")
    @classmethod
    def _is_a_function(cls, name: str | None) -> str | None:
        return require_function(name)

    @model_validator(mode="after")
    def _judges_replies(self) -> Self:
        if self.invalid != "ignore" and self.action is None:
            raise ValueError(
                "without an `action` of your own every reply is a move, which the game judges: leave `invalid` out, or "
                "name a function that says which replies are no action, `action: ./mine.py:to_action`"
            )
        return self

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
        self.opponent: Opponent | None = self._function(config.opponent, OPPONENT)
        self.to_text: ToText | None = self._function(config.observation, TO_TEXT)
        self.to_action: ToAction | None = self._function(config.action, TO_ACTION)
        own = [one for one in (config.opponent, config.observation, config.action) if one is not None]
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

    def legal_answer(self, task: Task, rng: np.random.Generator) -> str:
        known = [] if self.to_action else listed([message["content"] for message in task.messages])
        if (answer := self.config.legal_reply(rng, known)) is None:
            by_own = f"what {self.config.action} reads as moves is not known"
            why = by_own if self.to_action else f"{self.config.id} does not list its moves"
            raise EnvironmentFault(f"environment {self.name}: {why}: list some, `legal: [TEXT, ...]`")
        return answer

    def _function(self, name: str | None, calling: str) -> Any:
        """Import a function of the user's own; EnvironmentFault where it cannot be called so."""
        if name is None:
            return None
        function = function_of(ENVIRONMENTS, name, self.config.folder, calling)
        if (wrong := uncallable(function, object, (None, None), {})) is not None:
            raise EnvironmentFault(f"environment {self.name}: {name} is called as {calling}: {wrong}")
        return function

    def _try(self, category: str) -> None:
        try:
            game = Game(self, category, 0)
        except (EnvironmentFault, KeyboardInterrupt):
            raise
        except BaseException as error:  # foreign code; whoever chose the arguments can do something about it
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

    def step(self, text: str) -> None:
        """Make the policy's move, and the opponent's until it is the policy's turn; NoAction where a text is none."""
        with self._inside():
            move = self._move(text)
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
            if self._environment.opponent is None or player == self._config.seat:
                to_text = self._environment.to_text
                self.seen = str(to_text(said, self._engine)) if to_text else self._written(player, said)
                return
            move = self._answer(self._environment.opponent, self._written(player, said))
            self.is_over = bool(self._engine.step(bracketed(move))[0])
            if self.is_over and self._engine.state.game_info.get(player, {}).get("invalid_move"):
                raise OpponentError(f"{self._config.opponent} ended it by an illegal move, {brief(move, 40)!r}")
        raise EnvironmentFault(f"{self._config.opponent} moved {MOST_OPPOSING} times in a row: let it make legal moves")

    def _move(self, text: str) -> str:
        if self._environment.to_action is None:
            return text
        move = action_by(self._environment.to_action, text, self._engine)
        if not isinstance(move, str):
            raise EnvironmentFault(f"{self._config.action} returned {move!r}, no move: expected a text, or None")
        return move

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
        self._num_turns = self._num_invalid = 0

    def step(self, completion: str) -> Turn:
        """Make the move that a completion says; without the marks of `answer` it is an empty one."""
        self._num_turns += 1
        try:
            text = self._config.read(completion)
            if text is None and self._config.action is not None:
                raise NoAction("the answer is missing")
            self._game.step((text or "")[:LONGEST])
            seen = self._game.seen
        except OpponentError as error:
            return Turn(score=Score.unscorable(str(error)))
        except NoAction as reason:
            self._num_invalid += 1
            seen = f"That is no action: {reason}."
            if self._config.invalid == "end":
                return Turn(score=Score.of(0.0, False, **self._counts()))
        if self._game.is_over:
            total = self._config.after_penalties(self._game.reward, self._num_invalid)
            return Turn(score=self._config.score(total, **self._counts()))
        score = Score.of(0.0, False, **self._counts())
        if self._num_turns >= self._config.turns:
            return Turn(score=score)
        return Turn(({"role": "user", "content": seen or NOTHING},), score, done=False)

    def _counts(self) -> dict[str, float]:
        return {"turns": float(self._num_turns), "invalid": float(self._num_invalid)}


def create(name: str, config: Config) -> TextArena:
    return TextArena(name, config)


def bracketed(move: str) -> str:
    """Put a move into square brackets, as games read it, unless it has some."""
    return move if "[" in move or "]" in move else f"[{move.strip()}]"


def listed(texts: Sequence[str]) -> list[str]:
    """Find the moves that a game lists in brackets, behind words like "Available moves:", where it did so last."""
    for text in reversed(texts):
        for line in reversed(LISTED.findall(text)):
            if moves := MOVE.findall(line):
                return list(dict.fromkeys(moves))
    return []


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
