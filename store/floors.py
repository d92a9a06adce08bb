"""What no learning is worth and what cannot be beaten: pass rates of policies that are no model, kept with a run.

    <run>/floors.json    by kind, `floor` or `ceiling`: which policy, and its pass rates by environment and category

`evergreen play SPEC --policy ... --run RUN` writes it, and the run's report draws it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from store.errors import StoreError
from store.files import write_text

FILE = "floors.json"  # in a run's folder
FORMAT = 1

Kind = Literal["floor", "ceiling"]
KINDS: tuple[Kind, ...] = ("floor", "ceiling")


@dataclass(frozen=True)
class Level:
    """What one policy that is no model earned."""

    policy: str  # in words: `random`, `constant`, `reference`
    rates: Mapping[str, Mapping[str, float]]  # pass rate by environment and category
    held_out: Mapping[str, Sequence[str]] = field(default_factory=dict)  # categories that are only ever evaluated

    def of(self, environment: str, category: str | None = None) -> float | None:
        """Pass rate of a category, or of an environment: its mean, as of accuracy. None: not played."""
        own = self.rates.get(environment, {})
        return mean_of(own, self.held_out.get(environment, ())) if category is None else own.get(category)


def mean_of(rates: Mapping[str, float], held_out: Collection[str]) -> float | None:
    """Mean of an environment's trainable categories, of all where none is; None without any."""
    counted = [rate for name, rate in rates.items() if name not in held_out] or list(rates.values())
    return sum(counted) / len(counted) if counted else None


def keep(folder: Path, kind: Kind, level: Level) -> Path:
    """Write a level into a run's folder, beside the other kind's, and the same policy's in other environments."""
    levels = read(folder)
    if kind in levels and levels[kind].policy == level.policy:
        rates = {**levels[kind].rates, **level.rates}
        level = Level(level.policy, rates, {**levels[kind].held_out, **level.held_out})
    plain = {
        name: {"policy": one.policy, "pass_rates": one.rates, "held_out": one.held_out}
        for name, one in {**levels, kind: level}.items()
    }
    write_text(folder / FILE, json.dumps({"format": FORMAT, **plain}, indent=2) + "\n")
    return folder / FILE


def read(folder: Path) -> dict[Kind, Level]:
    """Read the levels of a run; empty where none were played. Raises StoreError at a file that says something else."""
    try:
        text = (folder / FILE).read_text("utf-8")
    except FileNotFoundError:
        return {}
    try:
        plain = json.loads(text)
        return {kind: _level(plain[kind]) for kind in KINDS if kind in plain}
    except (ValueError, TypeError, KeyError, AttributeError) as wrong:
        raise StoreError(
            f"{folder / FILE} is not as `evergreen play --run` writes it ({wrong}): delete it and play again"
        ) from wrong


def _level(plain: Mapping[str, Any]) -> Level:
    rates = {
        str(name): {str(category): float(rate) for category, rate in own.items()}
        for name, own in plain["pass_rates"].items()
    }
    held_out = {str(name): list(map(str, own)) for name, own in plain.get("held_out", {}).items()}
    return Level(str(plain["policy"]), rates, held_out)
