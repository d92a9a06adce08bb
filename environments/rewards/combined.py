"""Several rewards in one: the mean of their values by weight, over those that apply.

A list of rewards in a spec is a short form of `{type: combined, parts: [...]}`. Each part's value is a component of the
score, under the part's name (of a function: its own). An unscorable part makes the whole unscorable; a part that does
not apply (TRL's `None`) is left out; where none applies, the whole is unscorable.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Self

from pydantic import Field, model_validator

from environments.contracts import Score
from environments.options import Options
from environments.rewards.config import Part, make_reward
from environments.rewards.contracts import NOT_APPLIED, Attempt, Reward

SOURCE = "TRL's GRPOTrainer (reward_weights; a reward of None is left out)"


class Config(Options):
    """Options of a combination."""

    parts: list[Part] = Field(min_length=1)
    """The rewards, each a name or a map, with an optional `weight` (1 by default)."""
    correct: str | None = None
    """Name of the part that says whether an answer is correct; null: the mean is 1."""

    @property
    def names(self) -> list[str]:
        plain = [part["type"].rpartition(":")[2] for part in self.parts]
        numbers = [plain[:place].count(name) + 1 for place, name in enumerate(plain)]
        return [f"{name}_{n}" if n > 1 else name for name, n in zip(plain, numbers, strict=True)]

    @model_validator(mode="after")
    def _can_be_combined(self) -> Self:
        if not any(part["weight"] for part in self.parts):
            raise ValueError("every part has weight 0: give at least one of them more")
        if self.correct is not None and self.correct not in self.names:
            near = difflib.get_close_matches(self.correct, self.names, n=1)
            hint = f". Did you mean {near[0]!r}?" if near else ""
            known = f"but the parts are {', '.join(self.names)}{hint}"
            raise ValueError(f"`correct` names the part {self.correct!r}, {known}")
        return self


class Combined(Reward):
    """The weighted mean of several rewards."""

    def __init__(self, config: Config, filled: Collection[str] = ()) -> None:
        own = [{key: value for key, value in part.items() if key != "weight"} for part in config.parts]
        rewards = [make_reward(part, config.folder, filled) for part in own]
        weights = [part["weight"] for part in config.parts]
        self._parts = list(zip(config.names, rewards, weights, strict=True))
        self._correct = config.correct
        self.in_process = all(reward.in_process for reward in rewards)
        self.needs_row = any(reward.needs_row for reward in rewards)
        self.seconds = sum(reward.seconds for reward in rewards)

    def score(self, attempt: Attempt) -> Score:
        scores: dict[str, Score] = {}
        total = weights = 0.0
        for name, reward, weight in self._parts:
            score = reward.score(attempt)
            if score.value is not None:
                scores[name] = score
                total, weights = total + weight * score.value, weights + weight
            elif score.reason != NOT_APPLIED:
                return Score.unscorable(f"{name}: {score.reason}")
        if not weights:
            return Score.unscorable(NOT_APPLIED)
        mean = Score.of(min(total / weights, 1.0))  # rounding may carry it beyond
        deciding = scores.get(self._correct, mean) if self._correct is not None else mean
        parts = {name: score.value or 0.0 for name, score in scores.items()}
        return Score(mean.value, deciding.correct, parts)

    def check(self, truth: Any) -> None:
        """Ask every part; the message says which one refuses."""
        for name, reward, _ in self._parts:
            with _named(name):
                reward.check(truth)

    def check_row(self, row: Mapping[str, Any]) -> None:
        """Ask every part that reads rows."""
        for name, reward, _ in self._parts:
            if reward.needs_row:
                with _named(name):
                    reward.check_row(row)

    def truth_in(self, truth: Any, row: Mapping[str, Any]) -> Any:
        """Ask every part that reads rows, one after the other."""
        for _, reward, _ in self._parts:
            if reward.needs_row:
                truth = reward.truth_in(truth, row)
        return truth

    def reference(self, truth: Any) -> str | None:
        """Give the first part's reference that all of them like; untried where trying could run foreign code.

        One that a part cannot judge without the row is not liked.
        """
        known = [found for _, reward, _ in self._parts if (found := reward.reference(truth)) is not None]
        for answer in known if self.in_process else ():
            with suppress(ValueError):
                score = self.score(Attempt(answer, answer, truth))
                if score.correct and score.value == 1.0:
                    return answer
        return known[0] if known and not self.in_process else None


@contextmanager
def _named(part: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{part}: {error}") from error


def create(config: Config, filled: Collection[str] = ()) -> Combined:
    return Combined(config, filled)
