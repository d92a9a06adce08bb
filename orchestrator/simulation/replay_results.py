"""What a replay finds: facts by bandit, arm, stretch of steps and step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.simulation.estimates import FEWEST_STEPS, RELIABLE, Estimates, estimate
from orchestrator.simulation.log_replay import ReplayedLog, ReplayedStep

SAYS = (
    "What another bandit would have picked and earned given the same history. Every step was trained on what the "
    "logged bandit picked, and rewards depend on that: this is not how a run with the other bandit would have gone."
)
MOST_WINDOWS = 10


@dataclass(frozen=True)
class ArmShare:
    """One arm over some steps, each weighted by its slots."""

    arm: str
    share: float  # of slots, that the other bandit would have given it
    logged_share: float | None  # mean of the logged probability, where it is known; None: nowhere
    picked_share: float  # that it had


@dataclass(frozen=True)
class Window:
    """Some consecutive steps."""

    first: int
    last: int
    estimates: Estimates | None  # None: no signal there
    arms: Sequence[ArmShare]


@dataclass(frozen=True)
class StepEstimate:
    """One step, without an interval: it is one observation."""

    step: int
    num_slots: int  # with a signal
    own: float
    ips: float
    snips: float | None
    effective_share: float


@dataclass(frozen=True)
class BanditReplay:
    """One bandit of the run beside the other, over all its steps."""

    bandit: str
    num_picks: int
    num_missing: int  # picks without a signal, which count nowhere
    estimates: Estimates | None
    arms: Sequence[ArmShare]
    windows: Sequence[Window]
    steps: Sequence[StepEstimate]


@dataclass(frozen=True)
class TargetReplay:
    """Another bandit in the place of all of the run's."""

    label: str
    options: Mapping[str, Any]
    overall: Estimates  # over the slots of all bandits that had a choice
    windows: Sequence[tuple[int, int, Estimates | None]]  # of the run's steps: first, last
    bandits: Sequence[BanditReplay]
    notes: Sequence[str]


@dataclass(frozen=True)
class Replay:
    """A run's log, read by other bandits."""

    run: str
    bandit: str  # the logged one's type
    signal: str  # the unit of everything earned
    num_steps: int
    targets: Sequence[TargetReplay]
    notes: Sequence[str]

    def facts(self) -> dict[str, Any]:
        """Tell it to a program: plain data, with what it does and does not say."""
        return {"says": SAYS, "reliable_share": RELIABLE, **asdict(self)}


def replay_of(followed: ReplayedLog, edges: Sequence[tuple[int, int]]) -> BanditReplay:
    """Sum up one bandit's way through its log; `edges`: first and last step of every window."""
    slots, num_picks = followed.slots(), sum(len(step.logged.picks) for step in followed.steps)
    windows = []
    for first, last in edges:
        within = [step for step in followed.steps if first <= step.logged.step <= last]
        if within:
            windows.append(Window(first, last, estimate(slots.within(first, last)), _arm_shares(within)))
    steps = []
    for step in (one.logged.step for one in followed.steps):
        if (made := estimate(slots.within(step, step))) is not None:
            snips = None if made.snips is None else made.snips.value
            own, ips, share = made.own.value, made.ips.value, made.effective_share
            steps.append(StepEstimate(step, made.num_slots, own, ips, snips, share))
    return BanditReplay(
        bandit=followed.log.bandit,
        num_picks=num_picks,
        num_missing=num_picks - len(slots.reward),
        estimates=estimate(slots),
        arms=_arm_shares(followed.steps),
        windows=windows,
        steps=steps,
    )


def _arm_shares(steps: Sequence[ReplayedStep]) -> list[ArmShare]:
    """Average what the arms got, or would have got, over the slots of some steps."""
    ours: dict[str, float] = defaultdict(float)
    logged: dict[str, float] = defaultdict(float)
    picked: dict[str, int] = defaultdict(int)
    num_slots = sum(len(step.logged.picks) for step in steps)
    num_known = sum(len(step.logged.picks) for step in steps if step.logged.probabilities is not None)
    for step in steps:
        n = len(step.logged.picks)
        for arm in step.logged.arms:
            ours[arm] += n * step.shares[arm]
            if step.logged.probabilities is not None:
                logged[arm] += n * step.logged.probabilities.get(arm, 0.0)
        for pick in step.logged.picks:
            picked[pick.arm] += 1
    return [
        ArmShare(
            arm=arm,
            share=ours[arm] / num_slots,
            logged_share=logged[arm] / num_known if num_known else None,
            picked_share=picked[arm] / num_slots,
        )
        for arm in sorted(ours)
    ]


def windows(steps: Sequence[int]) -> list[tuple[int, int]]:
    """Cut the run's steps into at most ten stretches of the same length, five steps or more but for the last."""
    first, last = min(steps), max(steps)
    width = max(FEWEST_STEPS, -(-(last - first + 1) // MOST_WINDOWS))
    return [(at, min(last, at + width - 1)) for at in range(first, last + 1, width)]
