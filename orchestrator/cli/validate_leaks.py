"""validate --leaks: held-out tasks that are all but training tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from environments.leaks import Leak, Leaks, TaskPlace
    from orchestrator.spec import Spec

WORST = 10  # leaks that are printed
ELLIPSIS = "\u2026"
CONTEXT, SHOWN = 30, 110  # characters of a text: before its first difference, and in all


def look_for_leaks(spec: Spec, threshold: float) -> Leaks:
    """Search the environments of a spec, saying how far it is."""
    from environments.leaks import find_leaks
    from orchestrator.cli.console import problem
    from orchestrator.cli.throttle import every_few_seconds
    from orchestrator.os_signals import exit_code_of
    from orchestrator.runs.assembly import build_environments

    tell = every_few_seconds("leaks: ")
    try:
        _, environments = build_environments(spec, tell)
        return find_leaks(environments, threshold, tell)
    except KeyboardInterrupt as signal:
        problem("stopped while looking for leaks")
        raise typer.Exit(exit_code_of(signal)) from None


def print_leaks(out: Console, found: Leaks) -> None:
    """Print how many there are, by environment, and the worst; tasks are text, never markup."""
    from orchestrator.cli.console import plain

    lines = [summary(found), *_by_environment(found), *_not_looked_at(found)]
    for leak in found.leaks[:WORST]:
        cut = math.floor(100 * leak.similarity) / 100  # 1.00 is said of 1 only
        lines += [f"  {cut:.2f}  {leak.how}", *(f"        {line}" for line in _sides(leak))]
    if found.num_leaks > WORST:
        lines.append(f"  and {found.num_leaks - WORST:,} more; --json tells all")
    for line in lines:
        out.print(Text(plain(line)))


def summary(found: Leaks) -> str:
    """Say in a sentence what was found."""
    if not found.num_held_out or not found.num_training:
        return "leaks: there is nothing to compare: no task to train on, or none held out"
    sides = f"{found.num_held_out:,} held-out tasks looked at, {found.num_training:,} to train on"
    if not found.num_leaks:
        return f"leaks: none ({sides}; similarity {found.threshold:g})"
    kinds = ", ".join(f"{num:,} {how}" for how, num in found.by_how.items())
    return (
        f"leaks: {found.num_leaks:,} held-out tasks have a near-duplicate among training tasks: {kinds}"
        f" ({sides}; similarity from {found.threshold:g})"
    )


def _by_environment(found: Leaks) -> list[str]:
    """Say which environments have how many, where there are several."""
    if len(found.by_environment) < 2:
        return []
    return [f"  {name}: {num:,} of {looked:,}" for name, (num, looked) in found.by_environment.items()]


def _not_looked_at(found: Leaks) -> list[str]:
    lines = [f"  {name} is closed, evaluated on its own tasks: not looked at" for name in found.closed]
    for one in found.looked:
        num = one.num_training + one.num_held_out
        name = f"{one.environment}.{one.category}"
        if one.size is None:
            lines.append(f"  {name} never ends: {num:,} different tasks of its first ones were looked at")
        elif one.is_part:
            lines.append(f"  {name} has {one.size:,} tasks: {num:,} of them were looked at")
    return lines


def _sides(leak: Leak) -> Sequence[str]:
    """Show both texts from shortly before they differ."""
    sides = (leak.held_out, leak.training)
    texts = [" ".join(side.text.split()) for side in sides]
    pairs = enumerate(zip(*texts, strict=False))
    alike = next((place for place, (a, b) in pairs if a != b), min(map(len, texts)))
    start = max(0, alike - CONTEXT) if texts[0] != texts[1] else 0
    return [f"{_where(side)}  {_cut(text, start)}" for side, text in zip(sides, texts, strict=True)]


def _where(place: TaskPlace) -> str:
    file = f", {place.where}" if place.where else ""
    return f"{place.environment}.{place.category} {place.index} ({place.pool}{file})"


def _cut(text: str, start: int) -> str:
    end = start + SHOWN
    before, after = ELLIPSIS if start else "", ELLIPSIS if len(text) > end else ""
    return f"{before}{text[start:end]}{after}"
