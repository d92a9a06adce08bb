"""Rules of the checker, findings that quote foreign text, and the context that collects them from the checks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from environments.contracts import Category, Environment, EnvironmentFault, RemoteEnvironment, Task, Turn
from environments.display import Tell, clean
from environments.scoring import ScoringJob, ScoringOptions
from environments.sources import EnvironmentSource
from environments.user_code import own_place

# An error would spoil a run or its numbers, a warning costs time or surprises, a note is worth knowing.
Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
ScoreElsewhere = Callable[[Sequence[ScoringJob]], list[Turn]]
Prints = Mapping[str, Mapping[str, list[str]]]  # category: index as text: fingerprints of the task's parts
LEAST_S = 0.5  # for one category, however many there are
LONGEST_EXCERPT = 60  # characters
LONGEST_ERROR = 300  # characters of an exception's message


class Rule(NamedTuple):
    """How bad it is to break the rule, and what to do."""

    severity: Severity
    remedy: str


RULES: dict[str, Rule] = {
    # the environment's code as such
    "build": Rule("error", "mend the factory, or give it other options"),
    "build-slow": Rule("warning", "build quickly: every scoring process builds it again"),
    "build-heavy": Rule("warning", "keep less in memory: every scoring process holds a copy"),
    "raises": Rule("error", "mend the environment: this ends a run"),
    "hangs": Rule("error", "make it come back: what is not scored aside cannot be interrupted in a run"),
    "ends-process": Rule("error", "never end the process: raise an exception that says what is wrong"),
    "prints": Rule("warning", "write nothing to the terminal: it disturbs what the run prints"),
    "random-state": Rule("error", "use a generator of your own: numpy.random.default_rng([seed, index])"),
    "directory": Rule("error", "leave the working directory alone: open files by their full path"),
    "files": Rule("warning", "write no files, or write them into a temporary folder and remove it"),
    "variables": Rule("warning", "leave the process's environment variables alone: other parts of a run read them"),
    "signals": Rule("warning", "put handlers back and stop timers: other code waits for programs and for alarms"),
    "left-out": Rule("note", "mend the error first, then check again"),
    # what it says of itself
    "version": Rule("error", "set version to a string such as '1', and raise it when the meaning changes"),
    "attribute": Rule("error", "give the attribute the type that environments.Environment says"),
    "category": Rule("error", "return environments.Category objects: string names, plain parameters"),
    "category-order": Rule("error", "list the categories in the same order each time, new ones last"),
    "not-trainable": Rule("warning", "make a category trainable, unless it is only ever to be evaluated"),
    "size": Rule("error", "return a whole number of at least 1, or None for endless"),
    "size-honest": Rule("error", "let size(category) say how many indices work, None if all do"),
    "max-tokens": Rule("warning", "raise max_tokens, or leave it out so that the sampler's counts"),
    "max-tokens-tight": Rule("note", "fine for a policy with longer tokens; otherwise raise max_tokens"),
    "data-left-out": Rule("warning", "mend these rows, or leave them out yourself: nothing is learnt from them"),
    "data-remark": Rule("note", "change the options where that is not meant"),
    # tasks
    "task-fails": Rule("error", "let task(category, index) return a Task for every index below the size"),
    "task-slow": Rule("warning", "make tasks faster, or lay them out when building: a step needs one for every group"),
    "task-form": Rule("error", "give Task the fields that environments.Task describes"),
    "task-frozen": Rule("error", "keep Task frozen: use it as it is, or derive a frozen dataclass from it"),
    "task-pickle": Rule("error", "put plain data into the task: it is sent to the scoring processes"),
    "task-heavy": Rule("warning", "put less into the task: all of it is sent along with every score"),
    "task-same": Rule("error", "make task(category, index) depend on its arguments alone: no clock, no global"
                               " generator, no order of a set, no count of earlier calls"),
    "prompt-empty": Rule("error", "ask something: the last message must have text"),
    "last-message": Rule("warning", "let the conversation end with the user's message"),
    "no-answer": Rule("note", "fine for a game; else give tasks their answer: a warm start learns from it"),
    # the split
    "key": Rule("error", "leave Task.key as it is: the hash of the conversation decides who may train on it"),
    "pool-train": Rule("error", "give the category more distinct tasks, or mark it trainable=False"),
    "pool-held-out": Rule("error", "give the category more distinct tasks: a tenth of them is for evaluation"),
    "pool-thin": Rule("warning", "give the category more distinct tasks: a tenth goes to each of these pools"),
    "few-tasks": Rule("note", "widen the category's options if it is meant to be learnt and not memorised"),
    "scan-short": Rule("note", "make tasks faster to have more of them counted"),
    # scores
    "reference": Rule("error", "make Task.answer a reply that scores 1 and is correct"),
    "empty": Rule("error", "score an empty reply as wrong: an untrained policy writes many of them"),
    "wrong-reply": Rule("error", "compare with the answer itself: a policy finds every reply that is paid for"),
    "paid-wrong": Rule("warning", "give little for what answers nothing: a policy writes whatever is paid best"),
    "other-answer": Rule("error", "let the score depend on the task that was asked"),
    "several-answers": Rule("warning", "read one answer from a reply: a policy learns to list them all"),
    "score-form": Rule("error", "return Score.of(value) with a value from 0 to 1, finite components by name"),
    "score-raises": Rule("error", "catch what cannot be read and score it 0: unscorable replies teach nothing"),
    "score-declines": Rule("warning", "score what cannot be read as 0: unscorable is for the trouble of a verifier"),
    "score-hangs": Rule("error", "bound the verifier's work: refuse replies that are too long or too deep"),
    "score-crashes": Rule("error", "refuse replies that the verifier does not survive before it sees them"),
    "score-same": Rule("error", "make score depend on task and completion alone: no generator, no clock, no memory"),
    "score-elsewhere": Rule("error", "let score read nothing but the task and what every process builds alike"),
    "score-changes-task": Rule("error", "copy what you change: a task is shared by all episodes of its group"),
    "score-slow": Rule("warning", "make scoring faster, or set scores_in_process = False so that it runs aside"),
    "score-near-limit": Rule("warning", "make scoring faster, or raise scoring.timeout_s to 20 times a score"),
    "cut-off": Rule("error", "report this with the environment: a scoring process could not be ended in time"),
    # episodes
    "episode": Rule("error", "let start(task) return a new Episode with the task's messages, and step a Turn"),
    "episode-used": Rule("error", "make a new Episode at each start, with no state outside of it"),
    "episode-replay": Rule("error", "let a turn depend on the task and the completions so far alone: keep a game in"
                           " its own object, not in a module or a class"),
    "turn-repeated": Rule("error", "have the server keep its last turn, and give it again for the same number: a"
                          " connection that breaks has the call made again"),
    "episode-endless": Rule("warning", "end after a number of turns, whatever the policy writes"),
    "legal-play": Rule("error", "give whatever legal answers lead to a score in 0..1: is `reward_range` too narrow?"),
    # closed environments
    "legal-answer": Rule("error", "let legal_answer(task, rng) draw a reply of the right form, from rng alone"),
    "gives-away": Rule("error", "draw the legal answer without looking at the task's own: a warm start learns it"),
    "closed-endless": Rule("warning", "give a closed environment's categories a size: it is there to be memorised"),
}  # fmt: skip

# What to do instead where episodes live in servers.
OF_SERVERS: dict[str, str] = {
    "build": "start the server, or give other options",
    "size": "have the server say a whole number of at least 1, or null for endless",
    "size-honest": "have the server say how many tasks a category has, null if they never end",
    "not-trainable": "have the server say `trainable: true`, unless it is only ever to be evaluated",
    "task-fails": "have the server give a task for every index below the size",
    "task-slow": "have the server give tasks faster: a step needs one for every group",
    "task-same": "have every server give the same task for a category and an index, whenever it is asked",
    "no-answer": "fine for a game; else have the server give each task its `answer`: a warm start learns from it",
    "pool-train": "give the category more distinct tasks, or say `trainable: false`",
    "pool-held-out": "give the category more distinct tasks: a tenth of them is for evaluation",
    "few-tasks": "give the category more tasks if it is meant to be learnt and not memorised",
    "reference": "make a task's `answer` a reply that scores 1 and is correct",
    "score-form": "have the server say a `value` from 0 to 1, and components as finite numbers by name",
    "score-hangs": "have the server answer sooner, or raise `timeout_s`",
    "score-same": "let a turn depend on the task and the completions so far alone: no generator, no clock, no memory",
    "score-elsewhere": "let a turn depend on the task and the completions so far alone, at every server alike",
    "score-slow": "make the server's turns faster",
    "score-near-limit": "make the server's turns faster, or raise `timeout_s`",
    "episode": "have the server begin an episode at each request, and answer a completion with a turn",
    "episode-used": "have the server keep each episode's state by its own name",
    "episode-replay": "let a turn depend on the task and the completions so far alone: keep games by episode",
}


@dataclass(frozen=True)
class Finding:
    """One rule that an environment breaks."""

    severity: Severity
    rule: str  # a key of `RULES`
    sentence: str
    remedy: str
    category: str | None = None  # None: the whole environment
    index: int | None = None  # of the first task it was found at
    excerpt: str | None = None  # printable, shortened
    times: int = 1  # how often it was found in this category

    def __str__(self) -> str:
        return f"{self.severity}: {self.place()}{self.text()}; {self.remedy}"

    def place(self) -> str:
        """Say where it was found, as the beginning of a sentence."""
        if self.category is None:
            return ""
        task = "" if self.index is None else f", task {self.index}"
        return f"category {quoted(self.category)}{task}: "

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
    num_replies: int = 0  # that were to be tried
    num_tried: int = 0  # of these, scored before the time was over


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


def finding_of(
    rule: str,
    sentence: str,
    category: str | None = None,
    index: int | None = None,
    excerpt: str | None = None,
    severity: Severity | None = None,
    *,
    is_served: bool = False,
) -> Finding:
    """Make a finding with the rule's remedy, and its severity unless another is given."""
    known, place = RULES[rule], None if category is None else clean(category)
    remedy = OF_SERVERS.get(rule, known.remedy) if is_served else known.remedy
    return Finding(severity or known.severity, rule, clean(sentence), remedy, place, index, excerpt)


def quoted(text: object) -> str:
    """Quote foreign text on one line, shortened."""
    whole = str(text)
    if len(whole) <= LONGEST_EXCERPT:
        return f"'{clean(whole)}'"
    return f"'{clean(whole[:LONGEST_EXCERPT])}...' ({len(whole)} characters)"


_WORDS = {"extra_forbidden": "there is no such option", "missing": "it is required"}


def error_text(error: BaseException) -> str:
    """Write an exception in one line, with the user's own; what was written for a person comes without its type."""
    said = str(error)
    if isinstance(error, ValidationError):
        said = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {_WORDS.get(item['type'], item['msg'].removeprefix('Value error, '))}"
            for item in error.errors(include_url=False)
        )
    text = clean(" ".join(said.split()))[:LONGEST_ERROR]
    if isinstance(error, EnvironmentFault | ValidationError):
        return text
    return (f"{type(error).__name__}: {text}" if text else type(error).__name__) + own_place(error)


@dataclass(frozen=True)
class CheckLimits:
    """How far an examination goes."""

    tasks: int = 32  # looked at closely in every category
    scan: int = 1000  # made in every category to count distinct ones and their pools
    patience_s: float = 60.0  # for a single call into the environment
    budget_s: float = 6.0  # for each round through the categories, which share it
    scoring: ScoringOptions = field(default_factory=ScoringOptions)  # as in the spec


class CheckContext:
    """What the checks share. Each attribute is filled by the check that is first to know it.

    `score_elsewhere` scores in a process of its own; `at` is called with what comes next before calls that could hang.
    """

    environment: Environment  # from the first check on: without one, no other check runs

    def __init__(
        self, source: EnvironmentSource, limits: CheckLimits, score_elsewhere: ScoreElsewhere, at: Tell
    ) -> None:
        self.source, self.limits, self.score_elsewhere, self.at = source, limits, score_elsewhere, at
        self.is_built = False
        self.categories: list[Category] = []  # those with a usable name
        self.sizes: dict[str, int | None] = {}  # of the categories whose size is usable
        self.tasks: dict[str, list[Task]] = {}  # the first ones of each category, well formed
        self.prints: dict[str, dict[str, list[str]]] = {}  # of these tasks, to compare with elsewhere
        self.counts: dict[str, CategoryFacts] = {}
        self.facts: dict[str, Any] = {}  # for the report, JSON
        self._reported: set[tuple[str, str | None]] = set()  # by earlier checks
        self._findings: dict[tuple[str, str | None], Finding] = {}

    def find(
        self,
        rule: str,
        sentence: str,
        category: str | None = None,
        index: int | None = None,
        excerpt: str | None = None,
        severity: Severity | None = None,
    ) -> None:
        """Add a finding, unless an earlier check did; of those alike in a category the worst is kept, and counted."""
        if (rule, category) in self._reported:
            return
        is_served = isinstance(getattr(self, "environment", None), RemoteEnvironment)
        found = finding_of(rule, sentence, category, index, excerpt, severity, is_served=is_served)
        known = self._findings.get((rule, category))
        if known is not None:
            is_worse = SEVERITIES.index(found.severity) < SEVERITIES.index(known.severity)
            found = replace(found if is_worse else known, times=known.times + 1)
        self._findings[rule, category] = found

    def find_in(
        self, task: Task, rule: str, words: str, excerpt: str | None = None, severity: Severity | None = None
    ) -> None:
        """Add a finding about a task."""
        self.find(rule, words, task.category, task.index, excerpt, severity)

    def take(self) -> list[Finding]:
        """Hand over the findings since the last time."""
        findings = list(self._findings.values())
        self._reported |= {key for key in self._findings if key[0] != "raises"}  # may be about something else
        self._findings.clear()
        return findings

    def budget(self) -> Callable[[], bool]:
        """Start one category's share of the time; the answer says whether it is spent."""
        end = time.monotonic() + max(LEAST_S, self.limits.budget_s / max(1, len(self.categories)))
        return lambda: time.monotonic() > end
