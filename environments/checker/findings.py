"""What the referee says: a finding is one sentence and a remedy. Foreign text in it is shown, never trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from environments.checker.rules import Severity
from environments.contracts import EnvironmentFault
from environments.foreign_text import clean

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
SHOWN = 60  # characters of an excerpt
TOLD = 300  # characters of an exception's message


@dataclass(frozen=True)
class Finding:
    """One thing the referee found."""

    severity: Severity
    rule: str  # a row of `rules.RULES`
    sentence: str
    remedy: str
    category: str | None = None  # None: the whole environment
    index: int | None = None  # of the first task it was found at
    excerpt: str | None = None  # printable, shortened
    times: int = 1  # how often it was found in this category

    def __str__(self) -> str:
        """Say where, what, and what to do, in one line."""
        return f"{self.severity}: {self.place()}{self.text()}; {self.remedy}"

    def place(self) -> str:
        """Say where it was found, as the beginning of a sentence."""
        if self.category is None:
            return ""
        task = "" if self.index is None else f", task {self.index}"
        return f"category {shown(self.category)}{task}: "

    def text(self) -> str:
        """Give the sentence with its excerpt, and how often it holds."""
        excerpt = "" if self.excerpt is None else f": {self.excerpt}"
        return f"{self.sentence}{excerpt}" + (f" ({self.times} times)" if self.times > 1 else "")


@dataclass(frozen=True)
class CategoryFacts:
    """What was counted in one category."""

    name: str
    trainable: bool
    size: int | None  # None: endless
    num_looked_at: int = 0  # indices from 0 whose tasks were made to fill the next two
    num_distinct: int = 0  # by content key
    pools: Mapping[str, int] = field(default_factory=dict)  # distinct tasks in train, anchor, select, final


@dataclass(frozen=True)
class CheckReport:
    """Everything that is known about an environment after its examination."""

    environment: str
    type: str
    version: str | None = None  # None here and below: it could not be found out
    closed: bool | None = None
    scores_in_process: bool | None = None
    build_s: float | None = None
    build_mib: float | None = None  # resident memory that building added
    task_ms: float | None = None  # to make a task, median
    score_ms: float | None = None  # to score a reference answer in process, median
    categories: tuple[CategoryFacts, ...] = ()
    findings: tuple[Finding, ...] = ()  # errors first

    @property
    def errors(self) -> list[Finding]:
        """What must be mended before training."""
        return [finding for finding in self.findings if finding.severity == "error"]


def shown(text: object) -> str:
    """Quote foreign text on one line, shortened."""
    whole = str(text)
    if len(whole) <= SHOWN:
        return f"'{clean(whole)}'"
    return f"'{clean(whole[:SHOWN])}...' ({len(whole)} characters)"


def told(error: BaseException) -> str:
    """Tell an exception in one line; what was written for a person is given without its type."""
    words = "; ".join(_problems(error)) if isinstance(error, ValidationError) else str(error)
    text = clean(" ".join(words.split()))[:TOLD]
    if isinstance(error, EnvironmentFault | ValidationError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _problems(error: ValidationError) -> list[str]:
    """List what is wrong with options, each with its key."""
    return [
        f"{'.'.join(map(str, item['loc']))}: {item['msg'].removeprefix('Value error, ')}"
        for item in error.errors(include_url=False)
    ]


def from_plain(plain: Mapping[str, Any]) -> Finding:
    """Read a finding back that crossed a process border."""
    return Finding(**plain)
