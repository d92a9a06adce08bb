"""Quarantine: what cannot be scored is not picked for a while, then tried again.

A category goes there when no sample of its last steps could be scored, an environment when that is so of all its
categories, or of whatever was played of it for twice as many steps; what gives no tasks goes there at once. Each
failure after it was tried again doubles the time. Samples that the sampler lost say nothing about an environment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from environments import NoTasks
from orchestrator.played_group import PlayedGroup
from orchestrator.spec.sections import Quarantine as QuarantineSection

REASONS = 2  # named of each place


@dataclass
class _Watched:
    """A category, or an environment, that failed lately. Survives JSON."""

    failed: int = 0  # steps in a row without a scored sample, of those that played it
    times: int = 0  # that it was in quarantine since its last scored sample
    until: int = 0  # the step after which it is tried again; 0: it is not in quarantine


class Quarantine:
    """Which categories, and so which environments, are not picked.

    `categories`: the trainable ones, by environment; each environment has at least one.
    """

    def __init__(self, section: QuarantineSection | None, categories: Mapping[str, Collection[str]]) -> None:
        self.section = section
        self.categories = {name: list(own) for name, own in categories.items()}
        self._watched: dict[str, _Watched] = {}  # by environment, and by environment/category

    @property
    def is_empty(self) -> bool:
        """Whether everything may be picked."""
        return not any(one.until for one in self._watched.values())

    def is_open(self, environment: str, category: str | None = None) -> bool:
        """Whether a category may be picked; of an environment, whether one of them may."""
        if category is None:
            return any(self.is_open(environment, one) for one in self.categories[environment])
        places = (environment, f"{environment}/{category}")
        return not any(place in self._watched and self._watched[place].until for place in places)

    @property
    def open_environments(self) -> list[str]:
        """Those with something to pick."""
        return [*self.categories] if self.is_empty else [name for name in self.categories if self.is_open(name)]

    @property
    def leaves_others(self) -> bool:
        """Whether there would be something to pick without one of the environments."""
        return self.section is not None and len(self.open_environments) > 1

    def goes_on_without(self, missing: NoTasks) -> bool:
        """Whether there would be something to pick without what gives no tasks."""
        name, own = missing.environment, self.categories[missing.environment]
        others = [one for one in own if one != missing.category] if missing.category in own else []
        is_left = any(self.is_open(name, one) for one in others) or any(one != name for one in self.open_environments)
        return self.section is not None and is_left

    def judges(self, groups: Sequence[PlayedGroup]) -> bool:
        """Whether it is for it to say what these groups mean; not where the sampler lost all of them."""
        return self.section is not None and bool(_by_place(groups))

    def judge(self, groups: Sequence[PlayedGroup], step: int) -> list[str]:
        """Take in which groups of a step could be scored; say what goes into quarantine, and what comes out of it."""
        if self.section is None:
            return []
        said = []
        for place, own in _by_place(groups).items():
            if any(group.scored for group in own):
                healed = self._watched.pop(place, None)
                said += [f"{place} can be scored again"] if healed and healed.until else []
                continue
            watched = self._watched.setdefault(place, _Watched())
            if watched.until:  # played before it was known, or by an earlier pick
                continue
            watched.failed += 1
            most = self.section.after * (2 if place in self.categories else 1)
            if watched.failed >= most or watched.times:
                num = "step" if watched.failed == 1 else f"{watched.failed} steps"
                why = f"no sample of its last {num} could be scored{_why(own)}"
                said.append(self._put(place, watched, self.section.steps, step, why))
        # in the same order after it was read from JSON
        ended = sorted(place for place, watched in self._watched.items() if 0 < watched.until <= step)
        for place in ended:
            self._watched[place].until = 0
        # an environment's time may end before that of all its categories, and a category's before its environment's
        return said + [f"{place} is tried again" for place in ended if self.is_open(*place.split("/", 1))]

    def put(self, missing: NoTasks, step: int) -> list[str]:
        """Put what gives no tasks there, at once; say so. Nothing is said where there is no quarantine."""
        if self.section is None:
            return []
        name, category = missing.environment, missing.category
        place = f"{name}/{category}" if category in self.categories[name] else name
        watched = self._watched.setdefault(place, _Watched())
        return [self._put(place, watched, self.section.steps, step, f"it gives no tasks ({missing.reason})")]

    @staticmethod
    def _put(place: str, watched: _Watched, steps: int, step: int, why: str) -> str:
        length = steps * 2**watched.times
        watched.failed, watched.times, watched.until = 0, watched.times + 1, step + length
        return f"{place} goes into quarantine for {length:,} steps: {why}"

    def lift(self) -> None:
        """Forget it all: whatever failed may be mended."""
        self._watched = {}

    def state(self) -> dict[str, Any]:
        """State as JSON; empty where nothing failed lately."""
        return {place: asdict(watched) for place, watched in self._watched.items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; environments and categories that are gone are left out."""
        known = {*self.categories}
        if state:
            known |= {f"{name}/{one}" for name, own in self.categories.items() for one in own}
        found = {place: _Watched(**watched) for place, watched in state.items() if place in known}
        self._watched = found if self.section is not None else {}


def _by_place(groups: Iterable[PlayedGroup]) -> dict[str, list[PlayedGroup]]:
    """The groups of each category and of each environment that say something about it."""
    found: dict[str, list[PlayedGroup]] = {}
    for group in groups:
        if any(sample.finish != "lost" for sample in group.samples):
            for place in (group.arm, group.task.environment):
                found.setdefault(place, []).append(group)
    return found


def _why(groups: Sequence[PlayedGroup]) -> str:
    reasons = Counter(one.score.reason for group in groups for one in group.samples if one.score.reason is not None)
    return f" ({'; '.join(reason for reason, _ in reasons.most_common(REASONS))})"
