"""Which tasks a run may use, and whether there are enough of them: asked before it is entered anywhere.

A task whose prompt is too long, or which the policy cannot read at all, is left out wherever tasks are looked for: in
training, in what is measured, in the warm start. Whether it is depends on the task, the tokenizer and the limits alone,
so that a resumed run leaves out the same; pools follow from content keys, so no other task changes its place. Tables
are gone through at the beginning, with no more encoding than lengths and roles leave open. Endless categories, and
others that do not know their pools, are looked at as their tasks come.

There must be tasks to train on in every category, and to measure in every environment. A pool that is measured and
empty would give a run without a number in the end, so it is refused; a category without one is reported.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from environments import (
    Admission,
    Environment,
    Flaw,
    PassedOver,
    Pool,
    Task,
    TaskStream,
    canonical,
    first_tasks,
    make_task,
    most_bytes,
)
from environments.contracts import TOOLS, is_whole
from environments.display import Throttle
from orchestrator import random_streams
from orchestrator.episode_options import Budgets
from orchestrator.errors import UserError
from orchestrator.schedulers.rewards import rewards_of
from orchestrator.spec import Spec
from policies.encoder import Encoder
from policies.errors import PolicyError, UnreadablePrompt
from store.sentences import listed
from store.sentences import num as how_many

REMEMBERED = 2**16  # prompts whose number of tokens is kept: small categories come again and again
LISTED = 1000  # tasks of an environment that are named
SAY_EVERY = 256  # prompts between two looks at the clock
FEW = 4  # tasks of a category that are looked for, where all that are measured would take long
REASONS = 5  # named
SMALL = 3  # tasks a category, below which a pool may well be empty because the categories are too many
COUNTED = 10_000  # tasks of an environment, to say how many are different
TOKENS = " tokens"
UNREADABLE = "tasks that the policy cannot read"
USES = {"anchor": "to be evaluated on", "select": "to be looked at by the scheduler"}


@dataclass(frozen=True)
class Refusal:
    """Why the policy cannot read a task."""

    kind: str  # in words that many tasks share
    detail: str = ""  # what it is in this one
    unit: str = ""  # of the detail, where it is a number


@dataclass
class Unread:
    """Tasks of an environment that the policy cannot read for one reason, as far as they are known beforehand."""

    kind: str
    unit: str = ""
    limit: int | None = None  # most tokens of a prompt, where the reason is that these have more
    num_tasks: int = 0
    first: list[tuple[str, str]] = field(default_factory=list)  # place and detail of at most `LISTED`, by line

    @property
    def flaw(self) -> Flaw:
        """The reason, with their number and the first of them."""
        place, detail = self.first[0]
        return Flaw(self.kind, self.num_tasks, f"{place}: {detail}{self.unit}" if detail else place)

    @property
    def lines(self) -> list[str]:
        """A line each of the first, and one that counts the others."""
        told = [": ".join(filter(None, (place, self.kind, detail))) for place, detail in self.first]
        more = self.num_tasks - len(told)
        return [*told, f"{more:,} more: {self.kind}"] if more else told

    def add(self, place: str, detail: str) -> None:
        """Take in a task; they come category by category."""
        self.num_tasks += 1
        insort(self.first, (place, detail), key=lambda one: _by_line(one[0]))
        del self.first[LISTED:]


def _by_line(place: str) -> tuple[str, int]:
    file, _, line = place.rpartition(":")
    return (file, int(line)) if line.isdecimal() else ("", 0)


class PromptLimits(Admission):
    """Admits tasks that the policy can read, with prompts that leave room for an answer.

    `context`: most tokens in a row that the policy takes; None: any number. `tell` hears how far it is where going
    through a table takes long.
    """

    def __init__(
        self,
        encoder: Encoder,
        context: int | None,
        environments: Mapping[str, Environment],
        budgets: Budgets,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._encoder, self._environments = encoder, environments
        self._tell = tell or (lambda text: None)
        bounds = [bound for bound in (context, budgets.shared.longest_row) if bound is not None]
        least = min(bounds, default=None)
        self.limits = {name: most_tokens(one, budgets, least) for name, one in environments.items()}
        # by environment and reason, of the tables that were gone through
        self.unread: dict[str, dict[str, Unread]] = {}
        self._barred: dict[tuple[str, str], Set[int] | None] = {}  # indices by category; None: no table
        self._passed_over: dict[str, PassedOver] = {}
        self._known: dict[str, int | Refusal] = {}  # number of tokens, or why there is none, by content key
        self._frame = len(encoder.encode(({"role": "user", "content": ""},)))  # tokens around what is asked
        self._refused: dict[tuple[str, ...], Refusal | None] = {("user",): None}  # by the roles of messages
        self._without_row, self._may_refuse_content = encoder.without_row(), encoder.may_refuse_content()

    def admits(self, task: Task) -> bool:
        """Say whether the policy can read a task, and its prompt is short enough."""
        barred = self._table(self._environments[task.environment], task.category)
        if barred is not None:
            return task.index not in barred
        refusal = self._refusal(task)
        if refusal is not None:
            self._pass_over(task, refusal)
        return refusal is None

    def limit(self, environment: str) -> int | None:
        """Give the most tokens that a prompt of an environment may have; None: any number."""
        return self.limits[environment]

    def barred(self, environment: Environment, category: str) -> NDArray[np.int64]:
        """Give the indices of a table's rows that are not admitted; each category is gone through once."""
        return np.array(sorted(self._table(environment, category) or ()), np.int64)

    def flaws(self, environment: str) -> list[Flaw]:
        """Say why tasks are known not to be admitted, if some are."""
        return [one.flaw for one in self.unread.get(environment, {}).values()]

    def take_passed_over(self) -> Mapping[str, PassedOver]:
        """Give what was met and not admitted since it was last asked."""
        taken, self._passed_over = self._passed_over, {}
        return taken

    def _pass_over(self, task: Task, refusal: Refusal) -> None:
        where, limit = f"task {task.index} of category {task.category}", self.limits[task.environment]
        if refusal.unit:
            new = PassedOver(0, f"{where}: {refusal.detail}{refusal.unit} of at most {limit}")
        else:
            new = PassedOver(0, ": ".join(filter(None, (where, refusal.kind, refusal.detail))), UNREADABLE)
        before = self._passed_over.get(task.environment, new)
        self._passed_over[task.environment] = replace(before, num=before.num + 1)

    def _refusal(self, task: Task) -> Refusal | None:
        """Say why a task cannot be read; None: it can. By the task, the encoder and the limits alone."""
        answer = vars(task).get("answer")  # one that is worked out when it is asked for is an environment's of ours
        for name, value in (("prompt", task.messages), ("answer", answer), ("truth", task.data)):
            if not is_whole(value):
                return Refusal(f"half a character in the {name}", "a lone surrogate, which no tokenizer reads")
        if (refused := self._refusal_of(tuple(message["role"] for message in task.messages))) is not None:
            return refused
        limit = self.limits[task.environment]
        surely_fits = limit is None or most_bytes(canonical(task.messages)) <= limit - self._frame
        is_plain = not any(token in message["content"] for token in self._without_row for message in task.messages)
        writes_tools = task.messages[0]["role"] == TOOLS  # in words of the template's own
        if surely_fits and is_plain and not writes_tools and not self._may_refuse_content:
            return None
        if task.key not in self._known:
            if len(self._known) == REMEMBERED:
                self._known.clear()
            self._known[task.key] = self._measure(task)
        found = self._known[task.key]
        if isinstance(found, Refusal):
            return found
        return None if limit is None or found <= limit else Refusal(_too_long(limit), str(found), TOKENS)

    def _measure(self, task: Task) -> int | Refusal:
        try:
            return len(self._encoder.encode(task.messages))
        except UnreadablePrompt as error:
            return Refusal(error.kind, error.detail)

    def _refusal_of(self, roles: tuple[str, ...]) -> Refusal | None:
        """Say why the template takes no conversation of these roles, whatever is said in it."""
        if roles not in self._refused:
            try:
                self._encoder.encode([{"role": role, "content": "[]" if role == TOOLS else "0"} for role in roles])
            except UnreadablePrompt as error:
                self._refused[roles] = Refusal(error.kind, error.detail)
            except PolicyError:  # a vocabulary without this text: nothing is known of the roles
                self._refused[roles] = None
            else:
                self._refused[roles] = None
        return self._refused[roles]

    def _table(self, environment: Environment, category: str) -> Set[int] | None:
        """Give the rows of a table that are not admitted; None: no table, it does not end or know its pools."""
        key = (environment.name, category)
        if key not in self._barred:
            ends, knows = environment.size(category), environment.indices(category, "train")
            is_table = ends is not None and knows is not None
            self._barred[key] = frozenset(self._go_through(environment, category)) if is_table else None
        return self._barred[key]

    def _go_through(self, environment: Environment, category: str) -> Iterable[int]:
        say, limit = Throttle(self._tell), self.limits[environment.name]
        indices = self._doubtful(environment, category)
        for number, index in enumerate(indices.tolist()):
            if number % SAY_EVERY == 0 and say.is_time():
                say(f"{environment.name}.{category}: {number:,} of {len(indices):,} prompts measured")
            task = make_task(environment, category, index)
            refusal = self._refusal(task)
            if refusal is not None:
                known, kind = self.unread.setdefault(environment.name, {}), refusal.kind
                of_kind = known.setdefault(kind, Unread(kind, refusal.unit, limit if refusal.unit else None))
                of_kind.add(environment.where(task) or f"task {index} of category {category}", refusal.detail)
                yield index

    def _doubtful(self, environment: Environment, category: str) -> NDArray[np.int64]:
        """Give the indices of a table's rows that must be read to say whether they are admitted."""
        everything: NDArray[np.int64] = np.arange(environment.size(category) or 0)
        lengths, roles, limit = (
            environment.lengths(category),
            environment.roles(category),
            self.limits[environment.name],
        )
        if lengths is None or roles is None or self._without_row or self._may_refuse_content:
            return everything
        numbers, sequences = roles
        is_doubtful = np.array([self._refusal_of(one) is not None for one in sequences], np.bool_)[numbers]
        if limit is not None:
            is_doubtful = is_doubtful | (lengths > limit - self._frame)
        return np.flatnonzero(is_doubtful)


def _too_long(limit: int) -> str:
    return f"the prompt is longer than {limit} tokens"


def most_tokens(environment: Environment, budgets: Budgets, context: int | None) -> int | None:
    """Say how many tokens a prompt of an environment may have; None: any number.

    Without a limit of its own, or of the sampler's, it may have what the context leaves behind the budget of answers,
    and half of the context where that budget is larger. One token is always left for an answer.
    """
    asked = environment.max_prompt_tokens or budgets.shared.max_prompt_tokens
    if context is None:
        return asked
    if asked is not None:
        return min(asked, context - 1)
    return context - min(budgets.tokens(environment), context // 2)


def evaluated_pools(spec: Spec) -> list[Pool]:
    """Name what boundaries evaluate: the `select` pool only when a scheduler asks for it."""
    asks_for_scores = rewards_of(spec.curriculum.scheduler).reward != "advantage"
    return ["anchor", "select"] if asks_for_scores else ["anchor"]


def evaluated_categories(environment: Environment, pool: Pool) -> list[str]:
    """Name the categories that a pool is evaluated in; one that is only held out is no business of a scheduler's."""
    return [one.name for one in environment.categories if one.trainable or pool == "anchor"]


def check_supply(spec: Spec, environments: Mapping[str, Environment], admission: Admission) -> list[str]:
    """Refuse what could not be trained on or measured; give what else there is to say of categories.

    Raises EnvironmentFault for a category without a task to train on, UserError for an environment without one in a
    pool that will be measured.
    """
    remarks = []
    for name, environment in environments.items():
        for category in environment.categories:
            if category.trainable:
                seed = random_streams.integer(spec.seed, "tasks", name, category.name)
                TaskStream(environment, category.name, seed, admission).draw(1)
        for pool in evaluated_pools(spec):
            if pool == "anchor" or not environment.closed:
                categories, num = evaluated_categories(environment, pool), spec.evaluate.items
                # the fewer are looked for, the fewer are made
                looked_for = dict.fromkeys((min(FEW, num), num))
                empty = [
                    category
                    for category in categories
                    if not any(first_tasks(environment, category, pool, n, admission) for n in looked_for)
                ]
                # its numbers are means over what it trains on, where it trains on something
                trained = [one.name for one in environment.categories if one.trainable]
                if empty and set(trained or categories) <= set(empty):
                    raise UserError(_refusal(environment, pool, empty, categories, admission))
                use = f"{USES[pool]} (pool {pool})"
                unmeasured = [category for category in empty if category in trained]
                unused = [category for category in empty if category not in trained]
                remarks += [_without_tasks(name, unmeasured, use)] if unmeasured else []
                remarks += [f"{name}: {_have(unused)} no task to train on and none {use}: not used"] if unused else []
    return remarks


def _without_tasks(name: str, categories: Sequence[str], use: str) -> str:
    """Say which categories of an environment nothing can be measured of, and what follows."""
    they = "it is" if len(categories) == 1 else "they are"
    return (
        f"{name}: {_have(categories)} no task {use}: {they} trained on and not measured, and the environment's numbers "
        "are means over the others that it trains on"
    )


def _have(categories: Sequence[str]) -> str:
    one = len(categories) == 1
    return f"category {categories[0]} has" if one else f"{len(categories)} categories ({listed(categories)}) have"


def _refusal(
    environment: Environment, pool: Pool, empty: Sequence[str], categories: Sequence[str], admission: Admission
) -> str:
    """Say that a pool is empty, why as far as that is known, the commonest first, and what to do."""
    flaws = sorted([*admission.flaws(environment.name), *environment.flaws], key=lambda flaw: -flaw.num_rows)
    why = "".join(f"\n  {reason}" for reason in flaws[:REASONS])
    found = f"what cannot be used:{why}\n" if why else f"{_number_of(environment, empty)} to that pool; "
    instead = ", or take a scheduler whose `reward` is advantage" if pool == "select" else ""
    measured = [name for name in categories if name not in empty]
    where = f" among those that it trains on ({listed(empty)}; {listed(measured)}: held out only)" if measured else ""
    few = ""
    sizes = [environment.size(name) or math.inf for name in categories]
    if len(sizes) > 1 and sum(sizes) < SMALL * len(sizes):
        few = f"its {len(sizes)} categories have {sum(sizes):,} tasks in all: make few of many; "
    return (
        f"environment {environment.name}: no task {USES[pool]} (pool {pool}){where}, so it would never be measured: "
        f"{found}{few}mend its data, or give it more different tasks (a tenth is held out for this, or half of a "
        f"`holdout` file){instead}"
    )


def _number_of(environment: Environment, categories: Sequence[str]) -> str:
    """Say how few tasks categories have that none of them falls to a pool: their contents say where they belong."""
    sizes = {name: environment.size(name) for name in categories}
    number = sum(size for size in sizes.values() if size is not None)
    if None in sizes.values() or number > COUNTED:
        return "none of its tasks falls"
    keys = {make_task(environment, name, index).key for name, size in sizes.items() for index in range(size or 0)}
    if len(keys) == number:
        return f"it has {how_many(number, 'task')}, and none of them falls"
    return f"its {how_many(number, 'task')} are {len(keys):,} different ones, and none of these falls"
