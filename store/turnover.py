"""Turnover: which tasks a run gains, loses and repairs from boundary to boundary, and how long a loss can be repaired.

A task is solved at a boundary when more than half of its scored samples are correct. Between two boundaries at which an
environment was evaluated, one after the other whatever lies between, a task is

    gained     not solved, then solved                     solved after - solved before = gained - lost
    repaired   gained, and solved at some boundary before
    lost       solved, then not

With few samples some tasks change by luck alone. The null band says how many of those solved before would be lost, and
of the others gained, if nothing had changed: a task is then correct with its share of both boundaries' samples
together, drawn anew at the later one. A task whose change Fisher's exact test does not put down to luck has no part
in it. Boundaries of a run give a task's samples the same random numbers, so that less changes by luck than with fresh
ones: the band is on the safe side.

The repair window follows every loss to the first stage that trains its environment after it: was the task solved at
the first boundary from that stage's end on? Losses that were solved again before that stage are no trial of it. By
delay, 1 being the very next stage, that says how long a visit still repairs. That the cost of restoring grows sharply
with the delay is the repair-window principle of arXiv 2606.03087 (abstract read; its measures of it: not verified).

It needs items as the ledger has them, and works with boundaries that did not evaluate an environment, with stages that
come back to one, and with forks, whose ledger has their parent's rows.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

from store.support import SURE, no_difference

NUM_ERRORS = 2  # standard deviations around what luck alone would change: beyond it is a change
LEAST = 5  # losses of a delay, before their share of repairs says anything
REPAIRED = 0.5  # share of losses from which a delay counts as inside the window


class Item(Protocol):
    """A task evaluated at a boundary."""

    @property
    def after_stage(self) -> int: ...  # noqa: D102
    @property
    def environment(self) -> str: ...  # noqa: D102
    @property
    def category(self) -> str: ...  # noqa: D102
    @property
    def task_key(self) -> str: ...  # noqa: D102
    @property
    def item(self) -> int: ...  # noqa: D102
    @property
    def num_scored(self) -> int: ...  # noqa: D102
    @property
    def num_correct(self) -> int: ...  # noqa: D102


class Visit(Protocol):
    """A stage that trained an environment."""

    @property
    def stage(self) -> int: ...  # noqa: D102
    @property
    def environment(self) -> str | None: ...  # noqa: D102
    @property
    def start_step(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Turnover:
    """What changed on an environment between two boundaries that evaluated it, one after the other."""

    environment: str
    earlier: int  # after this stage
    later: int
    num_items: int  # evaluated at both
    solved_before: int
    solved_after: int
    gained: int
    lost: int
    repaired: int  # of the gained
    gained_by_luck: float  # expected of those not solved before, where nothing changed
    lost_by_luck: float  # expected of those solved before
    gained_error: float  # standard deviation of that
    lost_error: float

    @property
    def is_loss(self) -> bool:
        """Whether more was lost than luck loses."""
        return self.lost > self.lost_by_luck + NUM_ERRORS * self.lost_error

    @property
    def is_gain(self) -> bool:
        """Whether more was gained than luck gains."""
        return self.gained > self.gained_by_luck + NUM_ERRORS * self.gained_error


@dataclass(frozen=True)
class Repair:
    """A loss, and what the first visit after it made of it."""

    environment: str
    lost_after: int  # the boundary that found it lost: after this stage
    visit: int  # the stage that came back
    delay: int  # stages from the one to the other, 1: the next
    delay_steps: int  # steps done between them
    is_repaired: bool


@dataclass(frozen=True)
class Delay:
    """The losses that were visited after so many stages."""

    stages: int
    mean_steps: float
    num_lost: int
    num_repaired: int

    @property
    def share(self) -> float:
        """Share of them that was repaired."""
        return self.num_repaired / self.num_lost


def is_solved(num_scored: int, num_correct: int) -> bool:
    """Whether a task counts as solved: more than half of its scored samples are correct."""
    return 2 * num_correct > num_scored


def turnover(items: Iterable[Item]) -> list[Turnover]:
    """Compare every environment's boundaries with those before, in the order of boundaries, then of names."""
    found = []
    for name, courses in _by_environment(items).items():
        boundaries = sorted({after for course in courses for after in course})
        seen: set[int] = set()  # places of tasks that were solved at some boundary
        for place, later in enumerate(boundaries):
            if place:
                found.append(_between(name, boundaries[place - 1], later, courses, seen))
            seen |= {at for at, course in enumerate(courses) if later in course and is_solved(*course[later])}
    return sorted(found, key=lambda one: (one.later, one.environment))


def repairs(items: Iterable[Item], visits: Sequence[Visit], steps: Mapping[int, int]) -> list[Repair]:
    """Follow every loss to the first visit after it; `steps` are those done at each boundary.

    Left out are losses without a visit since, or whose visit no boundary has evaluated yet, and those that were solved
    again before it.
    """
    found = []
    for name, courses in _by_environment(items).items():
        own = sorted((one for one in visits if one.environment == name), key=lambda one: one.stage)
        stages = [one.stage for one in own]
        for course in courses:
            boundaries = sorted(course)
            for earlier, later in pairwise(boundaries):
                if not is_solved(*course[earlier]) or is_solved(*course[later]):
                    continue
                place = bisect_right(stages, later)
                if place == len(own):
                    continue
                visit = own[place]
                start, end = bisect_right(boundaries, later), bisect_left(boundaries, visit.stage)
                # the first solved one ends the search: no boundary is looked at for two losses
                if end == len(boundaries) or any(is_solved(*course[boundaries[at]]) for at in range(start, end)):
                    continue
                apart = visit.start_step - steps.get(later, visit.start_step)
                is_repaired = is_solved(*course[boundaries[end]])
                found.append(Repair(name, later, visit.stage, visit.stage - later, apart, is_repaired))
    return sorted(found, key=lambda one: (one.lost_after, one.environment, one.visit))


def delays(found: Iterable[Repair]) -> list[Delay]:
    """Count losses and repairs by delay, the shortest first."""
    by_delay = defaultdict[int, list[Repair]](list)
    for one in found:
        by_delay[one.delay].append(one)
    return [
        Delay(stages, sum(one.delay_steps for one in own) / len(own), len(own), sum(one.is_repaired for one in own))
        for stages, own in sorted(by_delay.items())
    ]


def window(counts: Iterable[Delay]) -> int | None:
    """Give the repair window in stages: the longest delay at which a visit repairs at least half of what was lost.

    Delays with fewer than five losses say nothing. 0: no delay does; None: there are too few losses to tell.
    """
    known = [one for one in counts if one.num_lost >= LEAST]
    return max((one.stages for one in known if one.share >= REPAIRED), default=0) if known else None


Course = dict[int, tuple[int, int]]  # of a task, by boundary: samples scored, samples correct


def _by_environment(items: Iterable[Item]) -> dict[str, list[Course]]:
    """Put the outcomes of each task together; one without a scored sample at a boundary is not known there."""
    found: dict[str, dict[tuple[str, int, str], Course]] = defaultdict(lambda: defaultdict(dict))
    for one in items:
        if one.num_scored:
            course = found[one.environment][one.category, one.item, one.task_key]
            course[one.after_stage] = (one.num_scored, one.num_correct)
    return {name: list(found[name].values()) for name in sorted(found)}


def _between(name: str, earlier: int, later: int, courses: Sequence[Course], seen: set[int]) -> Turnover:
    before = after = gained = lost = repaired = num = 0
    luck = {"gained": [0.0, 0.0], "lost": [0.0, 0.0]}  # expected number, its variance
    for place, course in enumerate(courses):
        if earlier not in course or later not in course:
            continue
        (n, c), (m, d) = course[earlier], course[later]
        was, has = is_solved(n, c), is_solved(m, d)
        num, before, after = num + 1, before + was, after + has
        gained, lost = gained + (has and not was), lost + (was and not has)
        repaired += has and not was and place in seen
        if no_difference(n, c, m, d) < SURE:
            continue
        chance = _chance(m, (c + d) / (n + m))
        own = luck["lost" if was else "gained"]
        own[0] += 1 - chance if was else chance
        own[1] += chance * (1 - chance)
    (gains, gains_variance), (losses, losses_variance) = luck["gained"], luck["lost"]
    errors = (math.sqrt(gains_variance), math.sqrt(losses_variance))
    return Turnover(name, earlier, later, num, before, after, gained, lost, repaired, gains, losses, *errors)


@lru_cache(4096)
def _chance(n: int, p: float) -> float:
    """Chance that more than half of n samples are correct."""
    return sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n // 2 + 1, n + 1))
