"""The list of checks, in the order they are made, and what surrounds every one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from environments.checker import build, closed_answers, episodes, metadata, pools, scores, tasks
from environments.checker.context import CheckContext
from environments.checker.findings import Finding, told
from environments.checker.side_effects import SideEffects


@dataclass(frozen=True)
class Check:
    """One thing that is looked at."""

    doing: str  # in words: "making tasks"
    look: Callable[..., None]  # takes a bench; adds findings to it


CHECKS: dict[str, Check] = {
    "build": Check("building", build.check_build),
    "attributes": Check("reading its attributes", metadata.check_attributes),
    "categories": Check("reading its categories", metadata.check_categories),
    "sizes": Check("trying its sizes", metadata.check_sizes),
    "tasks": Check("making tasks", tasks.check_tasks),
    "again": Check("making tasks again", tasks.check_made_again),
    "budget": Check("measuring answers", tasks.check_budget),
    "pools": Check("counting tasks", pools.check_pools),
    "scores": Check("scoring", scores.check_scores),
    "closed": Check("drawing legal answers", closed_answers.check_closed),
    "episodes": Check("playing episodes", episodes.check_episodes),
}
ELSEWHERE = Check("making tasks in another process", tasks.check_made_elsewhere)


def look(check: Check, bench: CheckContext, *arguments: Any) -> list[Finding]:
    """Make one check: whatever the environment does, short of ending or blocking the process, ends in a finding."""
    before = SideEffects.now()
    try:
        check.look(bench, *arguments)
    except BaseException as error:  # foreign code may raise anything, and this process is there for it
        bench.find("raises", f"{check.doing}: {told(error)}")
    for rule, what in before.changes(SideEffects.now()):
        bench.find(rule, f"{what} ({check.doing})")
    return bench.take()
