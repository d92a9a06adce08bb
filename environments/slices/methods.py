"""Which task is in which slice: the tasks of an environment are read once, and split as a spec says."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from environments.contracts import Category, Environment, EnvironmentFault, Pool, Task
from environments.display import Tell, Throttle
from environments.pools import make_task, pool_of
from environments.slices.clusters import Groups, group_texts
from environments.slices.options import SliceOptions
from environments.slices.slice_file import SliceRow, Slices, read_slices

REST = "rest"  # the slice of what a file does not name, and of what has no number
ROUNDING = 1e-9  # 1/49 times 49 is less than 1; two different pass rates are further apart


@dataclass(frozen=True)
class ReadTask:
    """A task that was read."""

    task: Task
    pool: Pool | None  # None: its environment trains on all its tasks

    @property
    def text(self) -> str:
        """The words of its conversation."""
        return "\n".join(message["content"] for message in self.task.messages)


def trainable_categories(environment: Environment) -> list[Category]:
    """List the categories that are split; others stay as they are, only ever evaluated."""
    return [category for category in environment.categories if category.trainable]


def read_tasks(environment: Environment, most: int, tell: Tell) -> list[ReadTask]:
    """Read the first tasks of every category, each problem once: `most` in all, in shares as equal as there are."""
    places = {category: range(share) for category, share in _shares(environment, most).items()}
    found = list(_read(environment, places, set(), tell))
    if not found:
        raise EnvironmentFault(f"{environment.name}: there is nothing to train on, so nothing to split into slices")
    return found


def _read(
    environment: Environment, places: Mapping[str, Sequence[int]], seen: set[str], tell: Tell
) -> Iterator[ReadTask]:
    """Read tasks at places of categories, each problem once; `seen` are those that were read already."""
    report, num = Throttle(tell), len(seen)
    for category, indices in places.items():
        for index in indices:
            num += 1
            if report.is_time():
                report(f"{environment.name}: {num:,} tasks read, to split them into slices")
            task = make_task(environment, category, index)
            if (known := environment.distinct(task)) not in seen:
                seen.add(known)
                pool = None if environment.closed else environment.pool(task) or pool_of(task.key)
                yield ReadTask(task, pool)


def num_unread(environment: Environment, most: int) -> int | None:
    """Count the tasks that `read_tasks` does not come to; None: they never end."""
    sizes = [environment.size(category.name) for category in trainable_categories(environment)]
    known = [size for size in sizes if size is not None]
    return sum(known) - sum(_shares(environment, most).values()) if len(known) == len(sizes) else None


def _shares(environment: Environment, most: int) -> dict[str, int]:
    """How many tasks of each category are read: what a small one leaves, larger ones have."""
    sizes = {one.name: environment.size(one.name) for one in trainable_categories(environment)}
    rising = sorted(sizes, key=lambda name: math.inf if (size := sizes[name]) is None else size)
    shares = dict.fromkeys(sizes, 0)
    for place, name in enumerate(rising):
        share, size = max(1, (most - sum(shares.values())) // (len(rising) - place)), sizes[name]
        shares[name] = share if size is None else min(size, share)
    return shares


def split(environment: Environment, options: SliceOptions, folder: str | None, tell: Tell) -> Slices:
    """Split an environment as a spec says. Raises EnvironmentFault where that cannot be."""
    tasks = read_tasks(environment, options.tasks, tell)
    if options.by in ("file", "pass_rate"):
        given = _from_file(environment, Path(folder or ".") / str(options.file))
        return (
            _as_given(environment, given, tasks)
            if options.by == "file"
            else _by_pass_rate(environment, given, tasks, options)
        )
    return made_of(environment, options.by, tasks, _groups(environment, options, tasks))


def made_of(
    environment: Environment,
    method: str,
    tasks: Sequence[ReadTask],
    groups: Groups,
    policy: str | None = None,
    counts: Sequence[tuple[int, int] | None] | None = None,
) -> Slices:
    """Put an assignment together; `counts`: of each task that was played, how many of how many samples were correct."""
    rows = []
    for place, (one, label) in enumerate(zip(tasks, groups.labels.tolist(), strict=True)):
        correct, samples = (None, None) if counts is None or counts[place] is None else counts[place] or (None, None)
        rows.append(
            SliceRow(one.task.key, groups.names[label], one.task.category, one.task.index, one.pool, correct, samples)
        )
    used = {row.slice for row in rows}
    names = [name for name in groups.names if name in used]
    nodes = {name: way for name, way in zip(groups.names, groups.nodes, strict=False) if name in used}
    return Slices(environment.name, environment.version, method, names, rows, policy, nodes)


def by_number(numbers: NDArray[np.float64], count: int, what: str) -> Groups:
    """Group tasks by a number, those without one in `rest`: groups of about equal size."""
    known = numbers[~np.isnan(numbers)]
    if not known.size:
        return Groups(np.zeros(len(numbers), np.int64), (REST,))
    highest = _highest_of_groups(known, count)
    labels = np.searchsorted(highest, numbers)  # NaN comes behind the last
    width = len(str(len(highest)))
    names = [f"{what}-{k + 1:0{width}d}-upto-{_number(one)}" for k, one in enumerate(highest)]
    return Groups(labels.astype(np.int64), (*names, REST))


def _number(value: float) -> str:
    short = f"{value:g}"
    return short if float(short) == value else f"{value:.15g}"


def _highest_of_groups(numbers: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Give the highest number of each group: `count` groups, or one for each number where those are fewer.

    Equal numbers stay together, so a group ends where it is nearest to an equal share of what is left.
    """
    values, sizes = np.unique(numbers, return_counts=True)
    ends = np.cumsum(sizes)  # how many numbers are up to each value
    found = list[int]()
    begin = done = 0  # the group's first value, and how many numbers lie before it
    for left in range(min(count, len(values)), 0, -1):
        share = -(-(len(numbers) - done) // left)
        end = int(np.searchsorted(ends, done + share))
        if end > begin and done + share - ends[end - 1] < ends[end] - done - share:
            end -= 1
        end = min(end, len(values) - left)  # a value is left for each later group
        found.append(end)
        begin, done = end + 1, int(ends[end])
    return values[found]


def by_share(shares: NDArray[np.float64], count: int) -> Groups:
    """Group tasks by equal steps of a pass rate, the easiest first; what was not played is in `rest`."""
    edges = np.linspace(0, 1, count + 1)
    steps = np.floor(np.nan_to_num(shares) * count + ROUNDING)
    step = np.clip(steps.astype(np.int64), 0, count - 1)
    labels = np.where(np.isnan(shares), count, count - 1 - step)
    form = "02.0f" if count <= 100 else "04.1f"  # so that steps of less than a percent have names of their own
    names = [f"pass-{100 * low:{form}}-{100 * high:{form}}" for low, high in pairwise(edges)][::-1]
    return Groups(labels.astype(np.int64), (*names, REST))


def _groups(environment: Environment, options: SliceOptions, tasks: Sequence[ReadTask]) -> Groups:
    if options.by in ("clusters", "tree"):
        return group_texts([one.text for one in tasks], options.count, options.terms, as_tree=options.by == "tree")
    if options.by == "length":
        lengths = np.array([len(one.text) for one in tasks], np.float64)
        return by_number(lengths, options.count, "length")
    column = str(options.column)
    by_category: dict[str, NDArray[np.float64]] = {}
    for one in tasks:
        category = one.task.category
        if category not in by_category:
            found = environment.numbers(category, column)
            if found is None:
                raise EnvironmentFault(
                    f"{environment.name}: `slices: {{by: column}}` reads a number of rows, and this environment has "
                    "none (a column of words is rows' own `category`)"
                )
            by_category[category] = found
    numbers = np.array([by_category[one.task.category][one.task.index] for one in tasks])
    return by_number(
        numbers, options.count, "".join(c if c.isalnum() else "-" for c in column)[:20].strip("-") or "number"
    )


def _from_file(environment: Environment, path: Path) -> Slices:
    known = read_slices(path)
    if environment.name not in known:
        names = ", ".join(known)
        raise EnvironmentFault(f"{path}: it has slices of {names}, and none of {environment.name}: profile that one")
    given = known[environment.name]
    return replace(given, rows=given.named, missing=())


def _as_given(environment: Environment, given: Slices, tasks: Sequence[ReadTask]) -> Slices:
    """Take a file's slices by content key; tasks that it does not name are in `rest`."""
    names = (*given.names, *([] if REST in given.names else [REST]))
    places = {name: place for place, name in enumerate(names)}
    rows = _rows_of(tasks, given)
    _require_known(environment, given, rows)
    labels = np.array([places[REST if row is None else row.slice] for row in rows], np.int64)
    nodes = [tuple(given.nodes.get(name, (len(given.names),))) for name in names] if given.nodes else []
    return made_of(environment, given.method, tasks, Groups(labels, names, tuple(nodes)), given.policy)


def found_again(environment: Environment, kept: Slices, options: SliceOptions, tell: Tell) -> Slices:
    """Find an assignment's tasks by content key in data that has changed since.

    They are looked for until all are found or the data ends; of a category that never ends only the first tasks are
    read, and those at the places that the assignment names. Those that are not found stay named as missing, for the
    data may come back. New tasks among the first `options.tasks` are in `rest`, if there is one, up to `options.tasks`
    in all. Raises EnvironmentFault where none of the tasks is there any more.
    """
    shares, seen = _shares(environment, options.tasks), set[str]()
    lost = Counter(row.key for row in kept.named)
    found, new = list[ReadTask](), list[ReadTask]()
    for one in _read(environment, {name: range(share) for name, share in shares.items()}, seen, tell):
        (found if lost[one.task.key] > 0 else new).append(one)
        lost[one.task.key] -= 1
    lost = +lost  # of which some are not found yet
    for one in _read(environment, _further(environment, kept, shares), seen, tell) if lost else ():
        if one.task.key in lost:
            found.append(one)
            lost[one.task.key] -= 1
            if not lost[one.task.key]:
                del lost[one.task.key]
            if not lost:
                break
    if not found:
        raise EnvironmentFault(
            f"{environment.name}: the run's slices name {len(kept.named):,} tasks, and its data has none of them any "
            "more: bring the data back, or begin a new run with it"
        )
    if REST in kept.names:
        found += new[: max(0, options.tasks - len(found))]
    order = {name: place for place, name in enumerate(shares)}
    found.sort(key=lambda one: (order[one.task.category], one.task.index))
    left, rows = {key: iter(own) for key, own in _by_key(kept.named).items()}, list[SliceRow]()
    for one in found:
        before = next(left.get(one.task.key, iter(())), None)
        name, *played = (REST, None, None) if before is None else (before.slice, before.correct, before.samples)
        rows.append(SliceRow(one.task.key, name, one.task.category, one.task.index, one.pool, *played))
    missing = [row for own in left.values() for row in own]
    return replace(kept, version=environment.version, rows=rows, missing=missing)


def _by_key(rows: Iterable[SliceRow]) -> dict[str, list[SliceRow]]:
    """Gather rows by content key: of tasks with one conversation in the order in which they are read."""
    found: dict[str, list[SliceRow]] = {}
    for row in rows:
        found.setdefault(row.key, []).append(row)
    return found


def _rows_of(tasks: Iterable[ReadTask], given: Slices) -> list[SliceRow | None]:
    """Find the tasks' rows in a file; of more tasks with one conversation than it has rows, the last row is theirs."""
    by_key, nums = _by_key(given.rows), Counter[str]()
    found = list[SliceRow | None]()
    for one in tasks:
        own = by_key.get(one.task.key)
        found.append(own[min(nums[one.task.key], len(own) - 1)] if own else None)
        nums[one.task.key] += 1
    return found


def _further(environment: Environment, kept: Slices, shares: Mapping[str, int]) -> Mapping[str, Sequence[int]]:
    """Say where an assignment's tasks may be behind the first of each category."""
    had: dict[str, set[int]] = {name: set() for name in shares}
    for row in kept.named:
        if row.index >= shares.get(row.category, math.inf):
            had[row.category].add(row.index)
    places = dict[str, Sequence[int]]()
    for name, share in shares.items():
        size = environment.size(name)
        places[name] = sorted(had[name]) if size is None else range(share, size)
    return places


def _by_pass_rate(environment: Environment, given: Slices, tasks: Sequence[ReadTask], options: SliceOptions) -> Slices:
    shares = [_share(row) for row in _rows_of(tasks, given)]
    if all(_share(row) is None for row in given.rows):
        raise EnvironmentFault(
            f"{environment.name}: {options.file} has no pass rates: `evergreen profile` writes them where "
            "a policy plays"
        )
    _require_known(environment, given, shares)
    found = np.array([np.nan if share is None else share for share in shares])
    return made_of(environment, "pass_rate", tasks, by_share(found, options.count), given.policy)


def _share(row: SliceRow | None) -> float | None:
    """Give a task's pass rate; None: it was not played."""
    return row.correct / row.samples if row and row.samples and row.correct is not None else None


def _require_known(environment: Environment, given: Slices, known: Iterable[object]) -> None:
    """Refuse a file that knows nothing of any task that was read."""
    if all(one is None for one in known):
        raise EnvironmentFault(
            f"{environment.name}: its file of slices names {len(given.rows):,} tasks and none of those read: it "
            "was made of other data or other prompts; profile this environment again, or read more `tasks`"
        )
