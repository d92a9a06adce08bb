"""What no learning is worth and what cannot be beaten: pass rates of policies that are no model, kept with a run.

    <run>/floors.json    by kind, `floor` or `ceiling`: which policy, and its pass rates by environment and category

`evergreen play SPEC --policy ... --run RUN` writes it, and the run's report draws it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
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

    def of(self, environment: str, category: str | None = None) -> float | None:
        """Pass rate of a category, or of an environment: the mean of its categories. None: not played."""
        own = self.rates.get(environment, {})
        if category is not None:
            return own.get(category)
        return sum(own.values()) / len(own) if own else None


def keep(folder: Path, kind: Kind, level: Level) -> Path:
    """Write a level into a run's folder, beside the other kind's."""
    levels = {**read(folder), kind: level}
    plain = {name: {"policy": one.policy, "pass_rates": one.rates} for name, one in levels.items()}
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
    return Level(str(plain["policy"]), rates)
