"""What an environment is: a task is frozen data, an environment gives behaviour to it, an episode plays it once."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, SupportsFloat

import numpy as np
from numpy.typing import NDArray

from environments.boxes import Box
from environments.display import Tell
from environments.fingerprints import fingerprint

Pool = Literal["train", "anchor", "select", "final"]  # see `environments.pools`
ROLES = ("system", "user", "assistant")  # of a task's messages
REPLYING = (*ROLES, "tool")  # of what an environment answers in a conversation that goes on
TOOLS = "tools"  # role of a task's first message that lists its tools, as JSON; the chat template writes them out
Message = Mapping[str, str]  # {"role": "system" | "user" | "assistant", "content": text}

BAD_VALUE = "bad value"  # how the reason begins of a value that is no score
TOLERANCE = 1e-9  # of a value in [0, 1]: what sums of rewards are rounded by
CORRECT_AT = 1 - TOLERANCE  # a value from here on counts as correct unless the environment says otherwise

_ASCII = bytes(range(128))
_canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode
_SURROGATE = re.compile("[\ud800-\udfff]")


class EnvironmentFault(Exception):
    """An environment broke its contract; the message names it and says what to change."""


class ServersAway(EnvironmentFault):
    """No server of an environment answers as it is first asked; later that is waited for."""


class NoTasks(EnvironmentFault):
    """What lives in servers has no task to give for now: an environment, or one category of it.

    A run that has others goes on without it, and tries it again later.
    """

    def __init__(self, message: str, environment: str, category: str | None, reason: str) -> None:
        super().__init__(message)
        self.environment, self.category, self.reason = environment, category, reason


def import_extra(module: str, needs: str, install: str) -> Any:
    """Import a module of an optional package; the fault says what `needs` the package and how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise EnvironmentFault(f"{needs} ({error}); install it with: pip install {install}") from error


def bad_value(value: object, lowest: float = 0.0, highest: float = 1.0) -> str:
    """Say why a value is no score, in words that all values with the same fault share: reasons are counted by text."""
    kind = type(value).__name__
    if value is None:
        what = "None"
    elif not isinstance(value, SupportsFloat):
        what = f"{kind}, not a number"
    elif not math.isfinite(value):
        what = f"{kind}, not finite"
    else:
        what = f"{kind} below {lowest:g}" if float(value) < lowest else f"{kind} above {highest:g}"
    return f"{BAD_VALUE}: {what}; a value lies in {lowest:g}..{highest:g}"


MOST_TASKS = 10**8  # of a category that ends: their random order is held in memory
TOO_MANY = f"its size is more than {MOST_TASKS:,}: let it be endless instead (None, or null of a server)"

LONGEST_CATEGORY = 100  # characters of a category's name: it stands on lines of a screen


@dataclass(frozen=True)
class Category:
    """A named slice of an environment: one arm of the inner bandit."""

    name: str
    trainable: bool = True  # False: only ever evaluated
    parameters: Mapping[str, Any] = field(default_factory=dict)  # as the spec gave them


@dataclass(frozen=True)
class Flaw:
    """Why some of an environment's data cannot be used, how much of it, and where that begins."""

    kind: str  # in words that all of them share
    num_rows: int
    first: str  # "file:line: what it is there"

    def __str__(self) -> str:
        rows, first = ("1 row", "") if self.num_rows == 1 else (f"{self.num_rows:,} rows", "first: ")
        return f"{self.kind}: {rows} ({first}{self.first})"


def canonical(messages: Sequence[Message]) -> bytes:
    """Write a conversation so that equal ones are equal bytes: JSON, UTF-8."""
    return _canonical([dict(message) for message in messages]).encode(errors="surrogatepass")


def is_whole(value: Any) -> bool:
    """Say whether all texts in plain data can be written as UTF-8: half an emoji, a lone surrogate, cannot."""
    if isinstance(value, str):
        return value.isascii() or not _SURROGATE.search(value)
    if isinstance(value, list | tuple):
        return all(map(is_whole, value))
    if isinstance(value, dict | Mapping):  # most are dicts, and an abstract class is slow to ask
        return all(map(is_whole, value)) and all(map(is_whole, value.values()))
    return True


def most_bytes(conversation: bytes) -> int:
    """Give the most bytes that a conversation which `canonical` wrote has once its text is normalised.

    Unicode's form C makes at most three bytes of one, and leaves ASCII as it is. A token stands for at least one byte,
    so this bounds the tokens of a prompt, what its template adds aside.
    """
    return len(conversation) + 2 * len(conversation.translate(None, _ASCII))


def key_of(conversation: bytes) -> str:
    """Hash a conversation that `canonical` wrote: see `Task.key`."""
    return hashlib.sha256(conversation).hexdigest()[:32]


@dataclass(frozen=True)
class Task:
    """One problem: a conversation to answer and what its verifier needs, all plain data."""

    environment: str  # the environment's name in the spec
    category: str
    index: int  # task(category, index) makes this task again
    messages: tuple[Message, ...]
    answer: str | None = None  # a reply that scores 1, or a good first one of several; None: there is none
    data: Mapping[str, Any] = field(default_factory=dict)  # for the verifier only

    @cached_property
    def key(self) -> str:
        """Content key, 32 hex digits: a hash of the conversation alone, so a problem has it under any name."""
        return key_of(canonical(self.messages))


ORIGIN = "sliced from"  # in a sliced task's data: its category and index in the environment inside


class LazyTask(Task):
    """A task whose reference reply is worked out once, when it is asked for: it can cost a second.

    Its `key` is given, as the index found it. Sent to another process it is a plain `Task`.
    """

    _recall: Callable[[], str | None]

    def __init__(self, key: str, recall: Callable[[], str | None], **fields: Any) -> None:
        # Not through Task.__init__, which would set `answer`; a frozen dataclass keeps its fields in __dict__.
        self.__dict__.update(fields, key=key, _recall=recall)

    @cached_property
    def answer(self) -> str | None:
        """A reply that scores 1; None where the environment has none."""
        return self._recall()

    def __reduce__(self) -> tuple[type[Task], tuple[Any, ...]]:
        return Task, (self.environment, self.category, self.index, self.messages, self.answer, self.data)


def question_and_truth(task: Task) -> str:
    """Identify what is measured: a task's content key, with a digest of its data and of the reply that it came with.

    A corrected truth under the same prompt is another task to be measured on; where a slice has a task from does not
    matter. What works its reply out when asked (`LazyTask`) is known by its data alone, and without data or reply by
    its key.
    """
    reply = None if isinstance(task, LazyTask) else task.answer
    data = {name: value for name, value in task.data.items() if name != ORIGIN}
    return task.key if reply is None and not data else f"{task.key} {fingerprint([data, reply])}"


@dataclass(frozen=True)
class Score:
    """What a verifier found, or why it could not tell. Unscorable is never zero."""

    value: float | None  # in [0, 1]; None: unscorable
    correct: bool | None  # what accuracy and pass@k read
    components: Mapping[str, float] = field(default_factory=dict)  # named parts, finite
    reason: str | None = None  # why it is unscorable: "timed out", "crashed", "bad value: ...", ...

    @classmethod
    def of(cls, value: float, correct: bool | None = None, **components: float) -> Score:
        """Score a completion; unscorable where the value is no finite number in [0, 1], or `correct` not true or false.

        A value that a sum's rounding put outside is 0 or 1. A text, or NaN, would count as true.
        """
        if not math.isfinite(value) or not -TOLERANCE <= value <= 1.0 + TOLERANCE:
            return cls.unscorable(bad_value(value))
        value = min(max(value, 0.0), 1.0)
        if not (correct is None or isinstance(correct, bool | np.bool_) or correct in (0, 1)):
            kind = "a number other than 0 and 1" if isinstance(correct, float | int) else f"a {type(correct).__name__}"
            return cls.unscorable(f"{BAD_VALUE}: correct is {kind}, not True or False")
        return cls(float(value), bool(value >= CORRECT_AT if correct is None else correct), components)

    @classmethod
    def unscorable(cls, reason: str) -> Score:
        """Say that no score could be found, and why."""
        return cls(None, None, {}, reason)


@dataclass(frozen=True)
class Turn:
    """The environment's answer to one completion.

    A turn that is not `done` has messages for the policy, and may have a score: what the episode is worth if a budget
    of tokens, turns or context cuts it off there, else 0. An unscorable turn ends its episode.
    """

    messages: tuple[Message, ...] = ()  # replies to show the policy, none when done
    score: Score | None = None  # of the episode: set when it is done, at will before
    done: bool = True  # ended, by the environment's own rules; being cut off is not its business


class Episode(ABC):
    """The play of one task. Made by `Environment.start`, used once, never reset.

    Its answers depend on the task and the completions so far alone: between two turns others may begin and go on, and
    it may be made again, in another process, by replaying the completions.
    """

    messages: tuple[Message, ...]  # what the policy sees first: the task's

    @abstractmethod
    def step(self, completion: str) -> Turn:
        """Answer the policy's next completion."""


class Environment(ABC):
    """A source of verifiable tasks of one kind.

    Promises: `task` is a pure function of (category, index), `score` of (task, completion); no global random state is
    touched. An environment with single-turn tasks implements `score`; one with several turns overrides `start`.
    """

    name: str  # the name in the spec
    version: str  # raised whenever prompts, scoring or categories change meaning
    closed: bool = False  # its point is to be memorised: evaluated on its own tasks, and labelled so
    scores_in_process: bool = False  # scoring cannot hang or run foreign code: the trainer may call it
    max_tokens: int | None = None  # budget of the policy's tokens, over all turns; None: the sampler's
    max_prompt_tokens: int | None = None  # tasks with longer prompts are left out; None: the sampler's
    symbols: tuple[str, ...] = ()  # strings that deserve one token each in a made-on-the-spot tokenizer
    seconds: float = 0.0  # the longest that a score takes by the environment's own limits; 0: it sets none
    left_out: Sequence[str] = ()  # what of its data cannot be used and why, a line each, with file and place
    num_left_out: int = 0  # how much that is in all: `left_out` may only count what comes late
    flaws: Sequence[Flaw] = ()  # the same by reason, the rarest first
    remarks: Sequence[str] = ()  # what else there is to know of its data, in words
    warnings: Sequence[str] = ()  # what is wrong with data that is used all the same, in words

    def open(self, tell: Tell) -> None:  # noqa: B027 - most have nothing to open
        """Do now what takes long before the first task can be made, saying how far it is; not called to score only."""

    @property
    @abstractmethod
    def categories(self) -> Sequence[Category]:
        """All categories, in a stable order. A run reads them when it begins, and when it is resumed or forked."""

    @abstractmethod
    def size(self, category: str) -> int | None:
        """Number of tasks of a category, or None when they never end."""

    @abstractmethod
    def task(self, category: str, index: int) -> Task:
        """Task number `index` of a category: the same task for the same arguments, always."""

    def box(self, category: str) -> Box | None:
        """Give the box whose cells the indices of a category sweep; None, by default: its tasks have no parameters."""
        return None

    def pool(self, task: Task) -> Pool | None:
        """Say which pool a task was given to; None, as by default: its content key decides."""
        return None

    def indices(self, category: str, pool: Pool) -> NDArray[np.int64] | None:
        """Give the indices of a pool, ascending, where they are known without making tasks; None, by default: not."""
        return None

    def numbers(self, category: str, field: str) -> NDArray[np.float64] | None:
        """Give a number of every task of a category by index, NaN where it is missing; None, by default: it has none.

        `field` is a name of the environment's own, as a column of rows; raises EnvironmentFault if there is no such
        field, or it holds no numbers.
        """
        return None

    def lengths(self, category: str) -> NDArray[np.integer[Any]] | None:
        """Give `most_bytes` of every task's conversation, by index, where known without making tasks; None: it is not.

        A tokenizer then reads only those that may be too long.
        """
        return None

    def roles(self, category: str) -> tuple[NDArray[np.integer[Any]], Sequence[tuple[str, ...]]] | None:
        """Give the roles of every task's messages, by index, as places in a list of those there are; None: not known.

        A chat template is then asked once for each of them.
        """
        return None

    def where(self, task: Task) -> str | None:
        """Say where a task stands in a file of the user's own, for people; None, as by default: in none."""
        return None

    def distinct(self, task: Task) -> str:
        """What a batch has once, if there are enough: the content key, unless one conversation asks several things."""
        return task.key

    def answer_in(self, task: Task, completion: str) -> str | None:
        """Give the answer in a completion, as the verifier reads it: answers that are the same are the same text.

        By default what stands behind the last closing think tag. None: there is no answer. Called in the trainer, on
        what a policy wrote: it must be quick, run no foreign code and raise nothing.
        """
        return completion.rpartition("</think>")[2].strip() or None

    def score(self, task: Task, completion: str) -> Score:
        """Score a completion of a single-turn task."""
        raise EnvironmentFault(f"{self.name}: implement score(task, completion) or start(task)")

    def start(self, task: Task) -> Episode:
        """Start an episode of a task; by default one turn, scored by `score`."""
        return SingleTurn(self, task)

    @property
    def has_single_turns(self) -> bool:
        """Whether an episode is one turn, as `start` is no other than this."""
        return type(self).start is Environment.start

    def legal_answer(self, task: Task, rng: np.random.Generator) -> str:
        """Give a random answer of the right form; a closed environment's warm start learns these.

        In a later turn `task.messages` goes on with what the policy and the environment have said since.
        """
        raise EnvironmentFault(f"{self.name}: a closed environment must implement legal_answer(task, rng)")

    @property
    def draws_legal_answers(self) -> bool:
        """Whether `legal_answer` gives one."""
        return type(self).legal_answer is not Environment.legal_answer


class SingleTurn(Episode):
    """One completion, one score."""

    def __init__(self, environment: Environment, task: Task) -> None:
        self.environment, self.task = environment, task
        self.messages = task.messages

    def step(self, completion: str) -> Turn:
        """Score the completion and end."""
        return Turn(score=self.environment.score(self.task, completion), done=True)


class RemoteFault(Exception):
    """A server gives no turn; the message is the reason why it is unscorable, the same text for the same cause."""


class EpisodeLost(RemoteFault):
    """An episode does not go on, and its server was told if it may still have it: begun anew it can be replayed."""


class RemoteEpisode(ABC):
    """The play of one task in a server. Made by `RemoteEnvironment.begin`, used once, never reset."""

    @abstractmethod
    async def step(self, completion: str) -> Turn:
        """Answer the policy's next completion; raises RemoteFault where the server gives no turn."""

    async def repeat(self) -> Turn | None:
        """Ask for the last turn once more, as after a connection that broke; None, by default: calls are made once."""
        return None

    @abstractmethod
    async def close(self) -> None:
        """Let the server forget it; raises nothing where that fails, as the server's lease ends it."""


class RemoteEnvironment(Environment):
    """An environment whose episodes live in a server.

    Nothing foreign runs here, so they are played in the trainer, many side by side on one event loop, and never in
    scoring processes. Promises: every call ends by a time limit of its own, and `step` depends on the task and the
    completions so far alone, as an episode is begun anew and replayed where its server has lost it. `start` has to play
    the same episodes for who has no event loop: the checker, a script.
    """

    lease_s: float = 300.0  # an episode that nobody asked for so long is closed
    episodes_at_once: int | None = None  # most that are played at the same time; None: as many as a batch has
    is_needed: bool = True  # False: tasks are not waited for long (`NoTasks`): there are others, or nothing is begun
    meanwhile: Callable[[], None] = staticmethod(lambda: None)  # called now and then by who waits long for its tasks

    @abstractmethod
    async def begin(self, task: Task) -> RemoteEpisode:
        """Begin an episode of a task; raises RemoteFault where no server does."""

    async def close(self) -> None:
        """Let go of the connections of the running event loop; the next call makes new ones."""

    def take_news(self) -> list[str]:
        """Give what people should know of its servers and have not been told, once."""
        return []

    def waits_for(self) -> str | None:
        """Say which of its servers keep it waiting just now, and how; None: none does, or not for long."""
        return None
