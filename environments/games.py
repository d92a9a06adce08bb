"""What games have in common, whichever library they come from: categories, seeds, invalid replies, worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import AfterValidator, Field, field_validator, model_validator

from environments.contracts import TOLERANCE, EnvironmentFault, Score, bad_value
from environments.options import TextOptions
from environments.user_code import is_user_code

DEFAULT = "default"  # the one category of a game that is given no others
OURS = ("trainable",)  # keys of a category that are no arguments of the game


def _rises(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] >= ends[1]:
        raise ValueError(f"expected [lowest, highest], the lowest first, not {list(ends)}")
    return ends


class NoAction(ValueError):
    """A reply is no action; says why."""


ToText = Callable[[Any, Any], str]
ToAction = Callable[[str, Any], Any]
TO_TEXT, TO_ACTION = "to_text(observation, env)", "to_action(text, env)"  # how they are called

Finite = Annotated[float, Field(allow_inf_nan=False)]
RewardRange = Annotated[tuple[Finite, Finite], AfterValidator(_rises)]


class GameOptions(TextOptions):
    """Options of a game, beside those of every environment of text answers."""

    action: str | None = None
    """A function of your own, called as to_action(text, env), where None or a ValueError says that it is no action;
    null: replies are read as the type reads them."""
    legal: Annotated[list[str], Field(min_length=1)] | None = None
    """Replies that are actions, of which `play --policy random` draws; null: what the game says that is legal."""
    invalid: Literal["ignore", "penalty", "end"] = "ignore"
    """What follows a reply that is no action. `ignore`: the game stands still, the policy is told what is legal, and
    the turn counts; `penalty`: the same, and `penalty` is taken off the rewards; `end`: the game is over, worth 0."""
    penalty: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """What `invalid: penalty` takes off the rewards for each such reply, down to the range; null: nothing."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments that the game is made with."""
    categories: dict[str, dict[str, Any]] | None = Field(default=None, min_length=1)
    """Category name: further keyword arguments, which go before `kwargs`; `trainable: false` held out only. Null: one,
    `default`."""
    seed: int = Field(default=0, ge=0, lt=2**30)
    """Game number i is played with the seed `seed + i`. Not the run's seed: it is the same game in every run."""
    size: int | None = Field(default=None, ge=1)
    """Number of games of each category; null: endless."""
    numbered: bool = True
    """Whether prompts say which number the game has. Without it, games that begin alike are one task: false only where
    the first observation differs from seed to seed."""
    turns: int = Field(default=30, ge=1)
    """Most replies of an episode, invalid ones too; fewer where the spec says `max_turns`."""
    reward_range: RewardRange = (0.0, 1.0)
    """Lowest and highest sum of a game's rewards, which become 0 and 1. Beyond them: unscorable."""
    correct_at: Annotated[float, Field(ge=0, le=1)] = 1.0
    """A value (on the scale of [0, 1]) from which on a game counts as correct."""

    @field_validator("action")
    @classmethod
    def _is_code(cls, name: str | None) -> str | None:
        return require_function(name)

    @model_validator(mode="after")
    def _says_the_penalty(self) -> Self:
        if (self.penalty is None) == (self.invalid == "penalty"):
            raise ValueError("`invalid: penalty` and `penalty: NUMBER` belong together: write both or neither")
        return self

    @property
    def option_sets(self) -> dict[str, dict[str, Any]]:
        """Every category with what the spec says of it."""
        return self.categories or {DEFAULT: {}}

    def arguments(self, category: str) -> dict[str, Any]:
        """Give the keyword arguments of a category's games."""
        own = {key: value for key, value in self.option_sets[category].items() if key not in OURS}
        return {**self.kwargs, **own}

    def question(self, instructions: str, index: int, observation: str) -> str:
        """Write what a game begins with: how it is played, its number, what is seen."""
        number = f"Game {index}." if self.numbered else ""
        return "\n\n".join(part for part in (instructions.strip(), number, observation.strip()) if part)

    def score(self, total: float, **components: float) -> Score:
        """Score a sum of rewards; one outside of `reward_range` is unscorable."""
        return scaled(total, self.reward_range, self.correct_at, components)

    def after_penalties(self, total: float, num_invalid: int) -> float:
        """Take off a sum of rewards what replies cost that were no actions."""
        if self.invalid != "penalty":
            return total
        return max(min(self.reward_range[0], total), total - (self.penalty or 0.0) * num_invalid)

    def legal_reply(self, rng: np.random.Generator, known: Sequence[str]) -> str | None:
        """Draw a reply of those in `legal`, else of those that the game says are; None: there are none."""
        texts = self.legal or known
        return self.write(texts[int(rng.integers(len(texts)))]) if texts else None


def scaled(
    total: float, reward_range: tuple[float, float], correct_at: float, components: Mapping[str, float]
) -> Score:
    """Score a sum of rewards by where it lies in a range; one outside of it is unscorable."""
    low, high = reward_range
    value = (total - low) / (high - low)
    score = Score.of(value, value >= correct_at - TOLERANCE)
    if score.value is None:
        return Score.unscorable(f"{bad_value(total, low, high)}: say `reward_range: [lowest, highest]`")
    return Score(score.value, score.correct, dict(components))  # named as the user likes


def require_function(name: str | None, *words: str) -> str | None:
    """Refuse, as an option is read, what names no function of the user's own, nor is one of some words."""
    if name is None or name in words or is_user_code(name):
        return name
    raise ValueError(f"expected {''.join(f'`{word}`, ' for word in words)}./file.py:function, found {name!r}")


def action_by(function: ToAction, text: str, env: Any) -> Any:
    """Read an action by a function of the user's own; NoAction where it says that the text is none."""
    try:
        action = function(text, env)
    except ValueError as error:
        raise NoAction(str(error)) from error
    if action is None:
        raise NoAction("it is none that the game knows")
    return action


def require_index(name: str, size: int | None, index: int) -> None:
    """Refuse a number that no game has."""
    if index < 0 or (size is not None and index >= size):
        raise EnvironmentFault(f"{name} has no game {index}" + ("" if size is None else f", only {size} a category"))
