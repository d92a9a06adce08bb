"""Functions of the user's own as rewards: verl's signature, TRL's, or ours, told apart by the names of parameters.

verl: `compute_score(data_source, solution_str, ground_truth, extra_info=None)`, a number, or a dict with `score` whose
other numbers become components. `solution_str` is the whole reply, as in verl.
TRL: `reward(completions, prompts=..., **columns)`, a list of one number or None (None: it does not apply). Each column
of the row is a list of one; completions are conversations where the prompt is one, text where the row's column
`prompt` is text.
Ours: `reward(attempt)`, a `Score` or a number.

Sources: verl's documentation, "Implement Reward Function for Dataset"; TRL 1.x, GRPOTrainer._calculate_rewards.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from numbers import Real
from typing import Annotated, Any, SupportsFloat

from pydantic import AfterValidator, ConfigDict, Field

from environments.contracts import EnvironmentFault, Score
from environments.options import Options
from environments.rewards.contracts import NOT_APPLIED, Attempt, Reward

CALLING = (
    "compute_score(data_source, solution_str, ground_truth, extra_info) as in verl, reward(completions, **columns) as"
    " in TRL, or reward(attempt)"
)
TRAINERS_OWN = (
    "completion_ids",
    "trainer_state",
    "log_extra",
    "log_metric",
    "environments",
)  # TRL's, not ours
TOLERANCE = 1e-9  # of `correct_at`, as in `Score.of`


def _rises(scale: tuple[float, float]) -> tuple[float, float]:
    if scale[0] >= scale[1]:
        raise ValueError(f"scale is [lowest, highest], the lowest first, not {list(scale)}")
    return scale


Finite = Annotated[float, Field(allow_inf_nan=False)]


class FunctionOptions(Options):
    """Options of a function of the user's own; every other key is passed to it as a keyword argument."""

    model_config = ConfigDict(extra="allow")

    scale: Annotated[tuple[Finite, Finite], AfterValidator(_rises)] | None = None
    """Range of the function's numbers, mapped to [0, 1]; none given: they are in [0, 1]. Beyond it: unscorable."""
    correct_at: Annotated[float, Field(ge=0, le=1)] = 1.0
    """A value (on the scale of [0, 1]) from which on an answer counts as correct."""


class FunctionReward(Reward):
    """Calls a function of the user's own. What it prints is thrown away; what it raises makes a score unscorable."""

    needs_row = True

    def __init__(self, name: str, function: Callable[..., object], options: FunctionOptions) -> None:
        self._function, self._options = function, options
        self._given = dict(options.model_extra or {})
        self._parameters = _parameters(name, function)
        self._ask = _asking(name, self._parameters)
        self._refuse_what_it_cannot_take(name)

    def score(self, attempt: Attempt) -> Score:
        """Call the function, and make a score of what it returns."""
        arguments, read = self._ask(attempt)
        if not self._takes_all:
            arguments = {key: value for key, value in arguments.items() if key in self._parameters}
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            returned = self._function(**{**arguments, **self._given})
        return read(returned, self._options)

    @property
    def _takes_all(self) -> bool:
        return any(one.kind is inspect.Parameter.VAR_KEYWORD for one in self._parameters.values())

    def _refuse_what_it_cannot_take(self, name: str) -> None:
        """Say now what would fail with every score."""
        unknown = [key for key in self._given if key not in self._parameters and not self._takes_all]
        if unknown:
            raise EnvironmentFault(
                f"reward {name}: it has no parameter {unknown[0]!r}; it takes {', '.join(self._parameters)}"
            )
        for key, one in self._parameters.items():
            variable = one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
            if variable or one.default is not one.empty or key in self._given:
                continue
            if one.kind is one.POSITIONAL_ONLY or not _is_supplied(key, self._ask):
                raise EnvironmentFault(
                    f"reward {name}: nothing here fills its parameter {key!r}; give it a default, or its value beside"
                    " the type"
                )


Reading = Callable[[object, FunctionOptions], Score]
Asking = Callable[[Attempt], tuple[dict[str, Any], Reading]]


def _is_supplied(key: str, ask: Asking) -> bool:
    """Say whether a call fills a parameter; TRL's may be any column, known only with the row."""
    if ask is _ask_trl:
        return key not in TRAINERS_OWN
    nothing = Attempt(completion="", answer=None, truth=None)
    return key in ask(nothing)[0]


def _parameters(name: str, function: Callable[..., object]) -> Mapping[str, inspect.Parameter]:
    called = function if inspect.isroutine(function) else type(function).__call__
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called):
        raise EnvironmentFault(
            f"reward {name}: it is async; make it a plain function (scores are found in parallel)"
        )
    try:
        return inspect.signature(function).parameters
    except ValueError as error:
        raise EnvironmentFault(f"reward {name}: its parameters cannot be seen: {error}") from error


def _asking(name: str, parameters: Mapping[str, inspect.Parameter]) -> Asking:
    """Recognise the signature by the names of parameters."""
    if "attempt" in parameters:
        return _ask_ours
    if {"solution_str", "ground_truth"} <= set(parameters):
        return _ask_verl
    if "completions" in parameters:
        return _ask_trl
    raise EnvironmentFault(
        f"reward {name}: its parameters are ({', '.join(parameters)}); expected a function called as {CALLING}"
    )


def _ask_ours(attempt: Attempt) -> tuple[dict[str, Any], Reading]:
    return {"attempt": attempt}, _read_number_or_score


def _ask_verl(attempt: Attempt) -> tuple[dict[str, Any], Reading]:
    arguments = {
        "data_source": attempt.row.get("data_source"),
        "solution_str": attempt.completion,
        "ground_truth": attempt.truth,
        "extra_info": attempt.row.get("extra_info"),
    }
    return arguments, _read_verl


def _ask_trl(attempt: Attempt) -> tuple[dict[str, Any], Reading]:
    columns = {
        key: [value]
        for key, value in attempt.row.items()
        if key not in ("prompt", "completion", "completion_ids")
    }
    prompt: object = attempt.row.get("prompt")
    completion: object = attempt.completion
    if not isinstance(prompt, str):
        prompt = [dict(message) for message in attempt.messages]
        completion = [{"role": "assistant", "content": attempt.completion}]
    return {**columns, "prompts": [prompt], "completions": [completion]}, _read_trl


def _read_number_or_score(returned: object, options: FunctionOptions) -> Score:
    return returned if isinstance(returned, Score) else _scaled(returned, options, {})


def _read_verl(returned: object, options: FunctionOptions) -> Score:
    if not isinstance(returned, Mapping):
        return _scaled(returned, options, {})
    others = {str(k): float(v) for k, v in returned.items() if k != "score" and isinstance(v, Real)}
    return _scaled(returned.get("score"), options, others)


def _read_trl(returned: object, options: FunctionOptions) -> Score:
    if not isinstance(returned, Iterable) or isinstance(returned, str | Mapping):
        raise ValueError(
            f"expected a list of one number or None, for one completion; it returned {returned!r}"
        )
    values = list(returned)
    if len(values) != 1:
        raise ValueError(f"expected a list of one number or None, for one completion; it has {len(values)}")
    return Score.unscorable(NOT_APPLIED) if values[0] is None else _scaled(values[0], options, {})


def _scaled(number: object, options: FunctionOptions, components: Mapping[str, float]) -> Score:
    """Map a function's number to [0, 1]; what is no number, or outside its range, is unscorable."""
    if not isinstance(number, SupportsFloat):
        return Score.unscorable("bad value")
    low, high = options.scale or (0.0, 1.0)
    value = (float(number) - low) / (high - low)
    score = Score.of(value, value >= options.correct_at - TOLERANCE)
    return score if score.value is None else Score(score.value, score.correct, components)
