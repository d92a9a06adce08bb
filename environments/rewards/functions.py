"""Functions of the user's own as rewards: verl's signature, TRL's, or ours, told apart by the names of parameters.

verl: `compute_score(data_source, solution_str, ground_truth, extra_info=None)`, a number, or a dict with `score` whose
other numbers become components. `solution_str` is the whole reply, as in verl.
TRL: `reward(completions, prompts=..., **columns)`, or `reward(environments, ...)` where environments of the type `trl`
ask; a list of one number or None (None: it does not apply). Each column of the row is a list of one; completions are
conversations where the prompt is one, text where the row's column `prompt` is text.
Ours: `reward(attempt)`, a `Score` or a number.

Sources: verl's documentation, "Implement Reward Function for Dataset"; TRL 1.x, GRPOTrainer._calculate_rewards.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import redirect_stdout
from numbers import Real
from typing import Annotated, Any, SupportsFloat

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field

from environments.contracts import TOLERANCE, EnvironmentFault, Score, bad_value
from environments.options import Options
from environments.rewards.contracts import NOT_APPLIED, Attempt, Reward

CALLING = (
    "compute_score(data_source, solution_str, ground_truth, extra_info) as in verl, reward(completions, **columns) as"
    " in TRL, or reward(attempt)"
)
# TRL's, not ours
TRAINERS_OWN = ("completion_ids", "trainer_state", "log_extra", "log_metric", "environments")


def _rises(scale: tuple[float, float]) -> tuple[float, float]:
    if scale[0] >= scale[1]:
        raise ValueError(f"scale is [lowest, highest], the lowest first, not {list(scale)}")
    return scale


Finite = Annotated[float, Field(allow_inf_nan=False)]


class FunctionOptions(Options):
    """Options of a function of the user's own; every other key is passed to it as a keyword argument."""

    model_config = ConfigDict(extra="allow")

    scale: Annotated[tuple[Finite, Finite], AfterValidator(_rises)] | None = None
    """Range of the function's numbers, mapped to [0, 1]; null: they are in [0, 1]. Beyond it: unscorable."""
    correct_at: Annotated[float, Field(ge=0, le=1)] = 1.0
    """A value (on the scale of [0, 1]) from which on an answer counts as correct."""


class FunctionReward(Reward):
    """Calls a function of the user's own. What it prints is thrown away; what it raises makes a score unscorable."""

    needs_row = True

    def __init__(
        self, name: str, function: Callable[..., object], options: FunctionOptions, filled: Collection[str] = ()
    ) -> None:
        self._function, self._options, self._filled = function, options, frozenset(filled)
        self._given = dict(options.model_extra or {})
        called = function if inspect.isroutine(function) else type(function).__call__
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called):
            raise _fault(name, "it is async; make it a plain function (scores are found in parallel)")
        try:
            self._parameters = inspect.signature(function).parameters
        except ValueError as error:
            raise _fault(name, f"its parameters cannot be seen: {error}") from error
        self._takes_all = any(one.kind is one.VAR_KEYWORD for one in self._parameters.values())
        names = set(self._parameters)
        self._is_verl = "attempt" not in names and {"solution_str", "ground_truth"} <= names
        self._is_trl = not self._is_verl and "attempt" not in names and bool({"completions", "environments"} & names)
        if not (self._is_verl or self._is_trl or "attempt" in names):
            found = f"its parameters are ({', '.join(self._parameters)})"
            raise _fault(name, f"{found}; expected a function called as {CALLING}")
        self._refuse_what_it_cannot_take(name)

    def score(self, attempt: Attempt) -> Score:
        arguments = self._arguments(attempt).items()
        taken = {key: value for key, value in arguments if self._takes_all or key in self._parameters}
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            returned = self._function(**{**taken, **self._given})
        components: dict[str, float] = {}
        if self._is_trl:
            returned = _only(returned)
            if returned is None:
                return Score.unscorable(NOT_APPLIED)
        elif self._is_verl and isinstance(returned, Mapping):
            parts = returned.items()
            components = {str(k): float(v) for k, v in parts if k != "score" and isinstance(v, Real | np.bool_)}
            returned = returned.get("score")
        elif not self._is_verl and isinstance(returned, Score):
            return returned
        low, high = self._options.scale or (0.0, 1.0)
        if isinstance(returned, SupportsFloat):
            value = (float(returned) - low) / (high - low)
            score = Score.of(value, value >= self._options.correct_at - TOLERANCE)
            if score.value is not None:
                return Score(score.value, score.correct, components)
        remedy = "as `scale` says" if self._options.scale else "or say `scale: [low, high]`"
        return Score.unscorable(f"{bad_value(returned, low, high)}, {remedy}")

    def _arguments(self, attempt: Attempt) -> dict[str, Any]:
        row = attempt.row
        if self._is_verl:
            texts = {"solution_str": attempt.completion, "ground_truth": attempt.truth}
            return {"data_source": row.get("data_source"), **texts, "extra_info": row.get("extra_info")}
        if not self._is_trl:
            return {"attempt": attempt}
        not_columns = ("prompt", "completion", "completion_ids")
        columns = {key: [value] for key, value in row.items() if key not in not_columns}
        if isinstance(row.get("prompt"), str):
            return {**columns, "prompts": [row["prompt"]], "completions": [attempt.completion], **attempt.trainer}
        completion = [{"role": "assistant", "content": attempt.completion}]
        prompt = [dict(message) for message in attempt.messages]
        return {**columns, "prompts": [prompt], "completions": [completion], **attempt.trainer}

    def _refuse_what_it_cannot_take(self, name: str) -> None:
        """Say now what would fail with every score; TRL's parameters may be any column, known only with the row."""
        unknown = [key for key in self._given if key not in self._parameters and not self._takes_all]
        if unknown:
            known = ", ".join(self._parameters)
            raise _fault(name, f"it has no parameter {unknown[0]!r}; it takes {known}")
        supplied = self._arguments(Attempt(completion="", answer=None, truth=None))
        for key, one in self._parameters.items():
            variable = one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
            if variable or one.default is not one.empty or key in self._given:
                continue
            is_supplied = key not in TRAINERS_OWN or key in self._filled if self._is_trl else key in supplied
            if one.kind is one.POSITIONAL_ONLY or not is_supplied:
                remedy = "give it a default, or its value beside the type"
                raise _fault(name, f"nothing here fills its parameter {key!r}; {remedy}")


def _fault(name: str, words: str) -> EnvironmentFault:
    return EnvironmentFault(f"reward {name}: {words}")


def _only(returned: object) -> object:
    expected = "expected a list of one number or None, for one completion; it"
    if not isinstance(returned, Iterable) or isinstance(returned, str | Mapping):
        raise ValueError(f"{expected} returned {returned!r}")
    values = list(returned)
    if len(values) != 1:
        raise ValueError(f"{expected} has {len(values)}")
    return values[0]
