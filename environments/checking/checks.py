"""The list of checks, in the order they are made, and what surrounds every one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from environments.checking import building, closed, episodes, pools, saying, scores, tasks
from environments.checking.bench import Bench
from environments.checking.findings import Finding, told
from environments.checking.surroundings import Surroundings


@dataclass(frozen=True)
class Check:
    """One thing that is looked at."""

    doing: str  # in words: "making tasks"
    look: Callable[..., None]  # takes a bench; adds findings to it


CHECKS: dict[str, Check] = {
    "build": Check("building", building.check_build),
    "attributes": Check("reading its attributes", saying.check_attributes),
    "categories": Check("reading its categories", saying.check_categories),
    "sizes": Check("trying its sizes", saying.check_sizes),
    "tasks": Check("making tasks", tasks.check_tasks),
    "again": Check("making tasks again", tasks.check_made_again),
    "budget": Check("measuring answers", tasks.check_budget),
    "pools": Check("counting tasks", pools.check_pools),
    "scores": Check("scoring", scores.check_scores),
    "closed": Check("drawing legal answers", closed.check_closed),
    "episodes": Check("playing episodes", episodes.check_episodes),
}
ELSEWHERE = Check("making tasks in another process", tasks.check_made_elsewhere)


def look(check: Check, bench: Bench, *arguments: Any) -> list[Finding]:
    """Make one check: whatever the environment does, short of ending or blocking the process, ends in a finding."""
    before = Surroundings.now()
    try:
        check.look(bench, *arguments)
    except BaseException as error:  # foreign code may raise anything, and this process is there for it
        bench.find("raises", f"{check.doing}: {told(error)}")
    for rule, what in before.changes(Surroundings.now()):
        bench.find(rule, f"{what} ({check.doing})")
    return bench.take()
