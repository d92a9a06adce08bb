"""Python code that is run against tests: the share of them that pass.

The truth is `{inputs: [...], outputs: [...]}`, standard input and what must be printed (as in APPS and TACO; also
as JSON text; white space at the ends of lines and of the output does not count), or `{tests: ...}`, asserts about
the names that the code defines: a text is one test, a list holds one each (as in MBPP). The code is the last
```python block of the answer, or the whole answer where there is none.

Each test is a run of its own in a restricted process (`environments.rewards.sandbox` says what that keeps away,
and what not: it is no sandbox; only the standard library can be imported). A program that fails, loops or takes too
much fails its test: it is worth 0 there, not unscorable. Times are those of the clock: on a crowded machine good
programs can fail. Starting a process for each test is not the program's time: where that takes too long, an answer is
unscorable.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pydantic import Field

from environments.contracts import Score
from environments.options import Options, last_block
from environments.rewards.contracts import AnswerReward, Attempt
from environments.rewards.sandbox import START_S, SandboxLimits, Spend, holds, printed

SOURCE = "APPS (arXiv 2105.09938), MBPP (arXiv 2108.07732)"

LANGUAGES = ("python", "py", "python3")
Test = Callable[[str, SandboxLimits, Spend], bool]


class Config(Options):
    """Options of tested code."""

    timeout_s: float = Field(default=2.0, gt=0, le=3600)
    """Seconds of the clock that one test may take."""
    limit_s: float = Field(default=10.0, gt=0, le=36_000)
    """Seconds that a program may run in all tests of an answer together; those left then have failed. The spec's
    `scoring: {timeout_s: ...}` must leave room for it, and 5 s more for processes to start; an answer whose tests take
    longer than both is unscorable."""
    partial: bool = True
    """Whether some tests passed are worth their share; otherwise all must pass."""
    memory_mib: int = Field(default=512, ge=64)
    """MiB that each process of a program may allocate; a program may have 32."""
    output_kib: int = Field(default=1024, ge=1)
    """KiB that a program may print, and write to a file; more fails the test."""


class CodeTests(AnswerReward):
    """The share of tests passed; correct is who passes all."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.seconds = config.limit_s + START_S

    def judge(self, answer: str, attempt: Attempt) -> Score:
        block = last_block(answer, LANGUAGES)
        code = answer if block is None else block
        tests, config = _tests(attempt.truth), self._config
        limits = SandboxLimits(config.timeout_s, config.memory_mib * 2**20, config.output_kib * 2**10)
        give_up_at, num_passed, ran = time.monotonic() + self.seconds, 0, list[float]()
        for number, test in enumerate(tests):
            own, left = config.limit_s - sum(ran), give_up_at - time.monotonic()
            if own <= 0:
                break
            most = replace(limits, timeout_s=min(config.timeout_s, own, left))
            passed = left > 0 and test(code, most, ran.append)
            num_passed += passed
            if not passed and time.monotonic() >= give_up_at:
                done = f"{number} of {len(tests)} tests were done in {self.seconds:g} s, starts of processes among them"
                return Score.unscorable(f"only {done}: raise `limit_s`")
            if not passed and not config.partial:
                break
        share = num_passed / len(tests)
        return Score.of(share if config.partial else float(share == 1), share == 1)

    def check(self, truth: Any) -> None:
        _tests(truth)


def _tests(truth: Any) -> list[Test]:
    if isinstance(truth, str):
        try:
            truth = json.loads(truth)
        except (ValueError, RecursionError) as error:
            found = truth[:100]
            raise ValueError(f"expected a map of tests as truth, or its JSON, found {found!r}") from error
    if not isinstance(truth, Mapping):
        raise ValueError(f"expected a map with inputs and outputs, or with tests, as truth, found {truth!r}")
    if "fn_name" in truth:
        by_name = "tests that call a function by `fn_name` are not supported"
        raise ValueError(f"{by_name}: write them as asserts, `tests`")
    if "tests" in truth:
        given = truth["tests"]
        tests = list(map(_asserts, [given] if isinstance(given, str) else _list(given, "tests")))
    else:
        inputs, outputs = (_list(truth.get(key), key) for key in ("inputs", "outputs"))
        if len(inputs) != len(outputs):
            found = f"{len(inputs)} inputs, {len(outputs)} outputs"
            raise ValueError(f"expected as many outputs as inputs, found {found}")
        pairs = zip(map(_lines, inputs), map(_lines, outputs), strict=True)
        tests = [_prints(given, _trimmed(right)) for given, right in pairs]
    if not tests:
        raise ValueError("expected at least one test, found none")
    return tests


def _list(given: Any, key: str) -> list[Any]:
    if not isinstance(given, list | tuple):
        raise ValueError(f"expected a list under {key!r}, found {given!r}")
    return list(given)


def _asserts(text: Any) -> Test:
    if not isinstance(text, str):
        raise ValueError(f"expected asserts as text, found {text!r}")
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(text, "tests", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"these asserts are no Python ({error}): {text[:100]!r}") from error
    return lambda code, limits, spend: holds(code, text, limits, spend)


def _lines(given: Any) -> str:
    if isinstance(given, list) and all(isinstance(line, str) for line in given):
        return "\n".join(given)
    if not isinstance(given, str):
        raise ValueError(f"expected text, or a list of lines, as input or output, found {given!r}")
    return given


def _prints(given: str, right: str) -> Test:
    def passes(code: str, limits: SandboxLimits, spend: Spend) -> bool:
        found = printed(code, given, limits, spend)
        return found is not None and _trimmed(found) == right

    return passes


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def create(config: Config) -> CodeTests:
    return CodeTests(config)
