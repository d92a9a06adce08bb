"""When an intervention happens: the words of its `when`.

    always                                   after every stage but the last
    after stages 2, 4                        also as a map: {after: [2, 4]}
    every 2 stages                           {every: 2}
    pass_1 < .3                              what the boundary measured: a mean over environments, or the whole model's
    entropy_token on words <= 0.05           of one environment

Whether there is such a metric or environment is asked where specs are checked; this module knows the words alone.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

FORMS = "`always`, `after stages 2, 4`, `every 2 stages`, `METRIC < NUMBER` or `METRIC on ENVIRONMENT < NUMBER`"
COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_AFTER = re.compile(r"after(?:\s+stages?)?\s+(\d+(?:\s*,\s*\d+)*)")
_EVERY = re.compile(r"every\s+(?:(\d+)\s+)?stages?")
_COMPARISON = re.compile(r"([A-Za-z0-9_./-]+)(?:\s+on\s+([A-Za-z0-9_.-]+))?\s*(<=|>=|<|>)\s*(\S+)")


@dataclass(frozen=True)
class Condition:
    """A `when` that was understood: stages after which it holds, or a comparison of what was measured there."""

    text: str
    stages: tuple[int, ...] = ()  # after these
    every: int = 1  # of so many stages, where `stages` names none
    metric: str | None = None
    environment: str | None = None  # None: the mean over environments, or the whole model
    sign: str = "<"
    number: float = 0.0

    def may_hold(self, stage: int) -> bool:
        """Whether it can hold after this stage; one that compares needs its value too."""
        return stage in self.stages if self.stages else stage % self.every == 0

    def holds(self, value: float) -> bool:
        """Compare a value."""
        return COMPARE[self.sign](value, self.number)

    def why(self, value: float | None) -> str:
        """Say why it holds, with the value that it read."""
        return self.text if value is None else f"{self.subject} is {value:.6g}, {self.sign} {self.number:g}"

    def why_not(self, value: float) -> str:
        """Say why it does not hold."""
        return f"{self.subject} is {value:.6g}, not {self.sign} {self.number:g}"

    @property
    def subject(self) -> str:
        """What it compares."""
        return f"{self.metric} on {self.environment}" if self.environment else str(self.metric)


def parse(text: str) -> Condition:
    """Understand a `when`. Raises ValueError with the words there are."""
    words = " ".join(text.split())
    if words == "always":
        return Condition(words)
    if found := _AFTER.fullmatch(words):
        stages = tuple(sorted({int(one) for one in found[1].split(",")}))
        if stages[0] < 1:
            raise ValueError(f"{text!r}: the first stage is 1; before it there is nothing to repair")
        return Condition(words, stages=stages)
    if found := _EVERY.fullmatch(words):
        every = int(found[1] or 1)
        if every < 1:
            raise ValueError(f"{text!r}: every how many stages? At least 1")
        return Condition(words, every=every)
    if found := _COMPARISON.fullmatch(words):
        metric, environment, sign, number = found.groups()
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"{text!r}: {number!r} is no number; a condition compares with one, as in `{metric} < .5`")
        return Condition(words, metric=metric, environment=environment, sign=sign, number=value)
    raise ValueError(f"{text!r} is no condition; there are {FORMS}")


def _in_words(raw: Any) -> Any:
    """Let `{after: [2, 4]}` and `{every: 2}` stand for their sentences."""
    if not isinstance(raw, dict):
        return raw
    if set(raw) == {"after"}:
        stages = raw["after"] if isinstance(raw["after"], list) else [raw["after"]]
        if stages and all(type(one) is int for one in stages):
            return f"after stages {', '.join(map(str, stages))}"
    if set(raw) == {"every"} and type(raw["every"]) is int:
        return f"every {raw['every']} stages"
    raise ValueError(f"a map says `after: [2, 4]` or `every: 2`, whole numbers of stages; in words there are {FORMS}")


def _understood(text: str) -> str:
    return parse(text).text


When = Annotated[
    str,
    BeforeValidator(_in_words),
    AfterValidator(_understood),
    WithJsonSchema({"type": ["string", "object"], "description": FORMS}),
]
