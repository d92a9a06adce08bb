"""The learning rate of an update: a rise over the first ones, then as it is, or falling to an end.

    rate = lr * rise * fall
    rise = min(1, (n + 1) / warmup)        n: updates made since the optimiser began
    fall = end + (1 - end) * shape(p)      shape(p): 1 - p (linear), (1 + cos(pi p)) / 2 (cosine)
    p    = (m - w) / (M - w), from 0       m: updates planned before this one, of M in the run or in its stage

w is the warm-up where it lies in what the rate falls over, else 0. The rise counts updates that were made; the fall
counts those that steps have planned, so that it is at its end when the run or the stage is, whatever was skipped. Both
follow from numbers that a checkpoint holds. Where nothing is skipped this is transformers'
`get_linear_schedule_with_warmup`, `get_cosine_schedule_with_warmup` or `get_cosine_with_min_lr_schedule_with_warmup`,
but that the first update of the rise has a share of `lr` where theirs has 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from policies.config import LearnerConfig
from policies.errors import PolicyError

SHAPES: Mapping[str, Callable[[float], float]] = {
    "linear": lambda p: 1.0 - p,
    "cosine": lambda p: 0.5 * (1.0 + math.cos(math.pi * p)),
}


@dataclass(frozen=True)
class Span:
    """What the rate falls over, a run or a stage of it, seen from one of its steps."""

    num_done: int  # steps before this one
    num_steps: int  # in all, at most
    has_warmup: bool = True  # not in a stage that goes on with the optimiser's state: the rise lies behind it


def rise(config: LearnerConfig, num_updates: int) -> float:
    """Share of `lr` that the warm-up allows, after so many updates."""
    return min(1.0, (num_updates + 1) / max(1, config.warmup))


def fall(config: LearnerConfig, span: Span | None, update: int, num_updates: int) -> float:
    """Share of `lr` that the schedule leaves, for one of the updates of a step, counted from 0."""
    schedule = config.schedule
    if schedule.type == "constant":
        return 1.0
    if span is None:
        raise PolicyError(f"`schedule: {schedule.type}` falls over a run or a stage: pass where it stands, as `span`")
    warmup = config.warmup if span.has_warmup else 0
    done, planned = span.num_done * num_updates + update, span.num_steps * num_updates
    share = min(1.0, max(0, done - warmup) / max(1, planned - warmup))
    return schedule.end + (1.0 - schedule.end) * SHAPES[schedule.type](share)
