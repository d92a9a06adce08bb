"""Who competes when a user names bandits, schedulers, a file, some of these or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.errors import UserError
from orchestrator.simulation.candidates import (
    GAP,
    NO_STAGES,
    ORACLE,
    Candidate,
    CandidateName,
    distinct,
    make_named,
    pair_up,
    read_file,
    read_named,
)
from orchestrator.simulation.trials import World
from orchestrator.spec.fields import DEFAULT_TYPES

BANDITS = ("uniform", DEFAULT_TYPES["bandits"], "sec", "discounted_ucb", "thompson", "learning_progress")
SCHEDULERS: tuple[Any, ...] = (
    DEFAULT_TYPES["schedulers"],
    "round_robin",
    "uniform",
    "boltzmann",
    {"type": "boltzmann", "reward": "gain"},
    "discounted_ucb",
    GAP,
)


def entrants_of(
    world: World, bandits: Sequence[str], schedulers: Sequence[str], file: Path | None
) -> list[Candidate]:
    """Pair every named bandit with every named scheduler, then add the file's; empty if nothing was named.

    Where only one of the two is named in a world of stages, the other is the default of a spec. Raises UserError.
    """
    outer = read_named(schedulers, "scheduler") if schedulers else _defaults(world, "scheduler")
    inner = read_named(bandits, "bandit") if bandits else _defaults(world, "bandit") * bool(schedulers)
    return distinct([*pair_up(inner, outer), *(_of_file(world, file, outer) if file else [])])


def usual(world: World) -> list[Candidate]:
    """A telling handful of policies, for a user who names none."""
    if not world.has_stages:
        names = (*BANDITS, "easy_to_hard", ORACLE) if world.letter in "ab" else BANDITS
        return distinct(pair_up(_made(names, "bandit"), []))
    inner = _made((DEFAULT_TYPES["bandits"],), "bandit")
    mixed = pair_up([*_made(("uniform",), "bandit"), *inner], _made((NO_STAGES,), "scheduler"))
    return distinct([*mixed, *pair_up(inner, _made(SCHEDULERS, "scheduler"))])


def _of_file(world: World, file: Path, outer: Sequence[CandidateName]) -> list[Candidate]:
    found = []
    for name, bandit, scheduler in read_file(file):
        if scheduler is not None and not world.has_stages:
            raise UserError(
                f"{file}: {name}: world {world.letter} has no stages, so no `scheduler`; use world d or h"
            )
        for pair in pair_up([bandit], [scheduler] if scheduler else outer):
            several = f"{pair.label.partition(', ')[0]}, {name}" if len(outer) > 1 and not scheduler else name
            found.append(Candidate(several, pair.bandit, pair.scheduler))
    return found


def _defaults(world: World, kind: str) -> list[CandidateName]:
    return _made((DEFAULT_TYPES[f"{kind}s"],), kind) if world.has_stages else []


def _made(names: Sequence[Any], kind: str) -> list[CandidateName]:
    return [make_named(name, kind, str(name)) for name in names]
