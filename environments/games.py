"""What games have in common, whichever library they come from: categories, seeds, how rewards become a value."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from environments.contracts import EnvironmentFault, Score, bad_value
from environments.options import TextOptions
from environments.user_code import module_name

DEFAULT = "default"  # the one category of a game that is given no others
TOLERANCE = 1e-9  # of `correct_at`, as in `Score.of`
OURS = ("trainable",)  # keys of a category that are no arguments of the game


def _rises(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] >= ends[1]:
        raise ValueError(f"expected [lowest, highest], the lowest first, not {list(ends)}")
    return ends


Finite = Annotated[float, Field(allow_inf_nan=False)]
RewardRange = Annotated[tuple[Finite, Finite], AfterValidator(_rises)]


class GameOptions(TextOptions):
    """Options of a game, beside those of every environment of text answers."""

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
    """Most replies of an episode, invalid ones too."""
    reward_range: RewardRange = (0.0, 1.0)
    """Lowest and highest sum of a game's rewards, which become 0 and 1. Beyond them: unscorable."""
    correct_at: Annotated[float, Field(ge=0, le=1)] = 1.0
    """A value (on the scale of [0, 1]) from which on a game counts as correct."""

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


def scaled(
    total: float, reward_range: tuple[float, float], correct_at: float, components: Mapping[str, float]
) -> Score:
    """Score a sum of rewards by where it lies in a range; one outside of it is unscorable."""
    low, high = reward_range
    if not math.isfinite(total) or not low <= total <= high:
        return Score.unscorable(f"{bad_value(total, low, high)}: say `reward_range: [lowest, highest]`")
    value = (total - low) / (high - low)
    return Score.of(value, value >= correct_at - TOLERANCE, **components)


def code_digest(names: Iterable[str], folder: str | None) -> str:
    """Digest the files of a user's functions, which have been imported: a game's meaning is in them too; 12 digits."""
    digest = hashlib.sha256()
    for name in names:
        module = sys.modules.get(module_name(name, folder))
        if (path := getattr(module, "__file__", None)) is not None:
            digest.update(Path(path).read_text(encoding="utf-8", errors="replace").encode())
    return digest.hexdigest()[:12]


def require_index(name: str, size: int | None, index: int) -> None:
    """Refuse a number that no game has."""
    if index < 0 or (size is not None and index >= size):
        raise EnvironmentFault(f"{name} has no game {index}" + ("" if size is None else f", only {size} a category"))
