"""Who competes when a user names bandits, schedulers, a file, some of these or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.errors import UserError
from orchestrator.simulation.entrants import (
    GAP,
    NO_STAGES,
    ORACLE,
    Entrant,
    Named,
    distinct,
    make_named,
    pair_up,
    read_file,
    read_named,
)
from orchestrator.simulation.trials import World
from orchestrator.spec.fields import DEFAULT_TYPES

SIMPLE = ("uniform", "gated_sec", "sec", "discounted_ucb", "thompson")  # learn from rewards alone
PROGRESSIVE = ("learning_progress", "easy_to_hard")  # read pass rates or levels
SCHEDULERS: tuple[Any, ...] = (
    "round_robin",
    "uniform",
    "boltzmann",
    {"type": "boltzmann", "reward": "gain"},
    "discounted_ucb",
    GAP,
)


def entrants_of(
    world: World, bandits: Sequence[str], schedulers: Sequence[str], file: Path | None
) -> list[Entrant]:
    """Pair every named bandit with every named scheduler, then add the file's; empty if nothing was named.

    Where only one of the two is named in a world of stages, the other is the default of a spec. Raises UserError.
    """
    outer = read_named(schedulers, "scheduler") if schedulers else _defaults(world, "scheduler")
    inner = read_named(bandits, "bandit") if bandits else _defaults(world, "bandit") * bool(schedulers)
    return distinct([*pair_up(inner, outer), *(_of_file(world, file, outer) if file else [])])


def usual(world: World) -> list[Entrant]:
    """A telling handful of policies, for a user who names none."""
    if not world.has_stages:
        names = SIMPLE if world.letter == "c" else (*SIMPLE, *PROGRESSIVE, ORACLE)
        return pair_up(_made(names, "bandit"), [])
    mixed = pair_up(_made(("uniform", "sec"), "bandit"), _made((NO_STAGES,), "scheduler"))
    return [*mixed, *pair_up(_made(("sec",), "bandit"), _made(SCHEDULERS, "scheduler"))]


def _of_file(world: World, file: Path, outer: Sequence[Named]) -> list[Entrant]:
    found = []
    for name, bandit, scheduler in read_file(file):
        if scheduler is not None and not world.has_stages:
            raise UserError(
                f"{file}: {name}: world {world.letter} has no stages, so no `scheduler`; use world d or h"
            )
        for pair in pair_up([bandit], [scheduler] if scheduler else outer):
            several = f"{pair.label.partition(', ')[0]}, {name}" if len(outer) > 1 and not scheduler else name
            found.append(Entrant(several, pair.bandit, pair.scheduler))
    return found


def _defaults(world: World, kind: str) -> list[Named]:
    return _made((DEFAULT_TYPES[f"{kind}s"],), kind) if world.has_stages else []


def _made(names: Sequence[Any], kind: str) -> list[Named]:
    return [make_named(name, kind, str(name)) for name in names]
