"""Replaying a run: what another bandit would have picked and earned at each step, given the same history.

    at every step t of a logged bandit:
        p_t   = the other bandit's probabilities                       nothing is drawn
        w     = p_t(arm) / probability that the arm was drawn with     of every slot
        it takes over the logged picks and learns their logged signals

The history stays the logged one: the policy was trained on what the logged bandit picked, and what an arm earns depends
on that. So this says nothing of how a run with the other bandit would have gone. That would take a run, or a world in
which the policy is simulated too. It also differs from the replay of arXiv 1003.5956, which shows the other bandit only
the steps where both agree, in a world that choices do not change.

The picks of schedulers are left out: a run has a handful of them.

    logs.py        what a run wrote down    log_replay.py   a bandit in the place of the run's, led through it
    estimates.py   the formulas

What a log cannot answer is refused with a remedy rather than estimated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from orchestrator import random_streams, registry
from orchestrator.bandits.difficulty_levels import LevelBandit
from orchestrator.errors import UserError
from orchestrator.simulation.candidates import ORACLE, CandidateName
from orchestrator.simulation.estimates import FEWEST_STEPS, RELIABLE, Estimates, estimate, within
from orchestrator.simulation.log_replay import (
    ReplayedLog,
    ReplayedStep,
    follow,
    lessons,
    make_counterfactual,
    reads_what_was_logged,
    with_the_runs_signal,
)
from orchestrator.simulation.logs import SAME, RunLog, about_arm, form_in_words, read_log
from store.ledger import Reading
from store.records import EVERYTHING
from store.sentences import listed, num, number

SAYS = (
    "What another bandit would have picked and earned given the same history. Every step was trained on what the "
    "logged bandit picked, and rewards depend on that: this is not how a run with the other bandit would have gone."
)
MOST_WINDOWS = 10
NOTHING = 1e-12  # a share below it is rounding
REMEDY = "Replay a run whose bandit left every arm a chance: with `curriculum.bandit.floor`, such as .2, any rule does"


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
        there = [step for step in followed.steps if first <= step.logged.step <= last]
        if there:
            windows.append(Window(first, last, estimate(within(slots, first, last)), _arm_shares(there)))
    steps = []
    for step in (one.logged.step for one in followed.steps):
        if (made := estimate(within(slots, step, step))) is not None:
            snips = None if made.snips is None else made.snips.value
            own, ips, share = made.own.value, made.ips.value, made.effective_share
            steps.append(StepEstimate(step, made.num_slots, own, ips, snips, share))
    return BanditReplay(
        bandit=followed.log.bandit,
        num_picks=num_picks,
        num_missing=num_picks - len(slots),
        estimates=estimate(slots),
        arms=_arm_shares(followed.steps),
        windows=windows,
        steps=steps,
    )


def _arm_shares(steps: Sequence[ReplayedStep]) -> list[ArmShare]:
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


def replay_run(reading: Reading, run: str, targets: Sequence[CandidateName]) -> Replay:
    """Replay a run of the ledger. Raises UserError for what its log cannot answer."""
    return replay(read_log(reading, run), targets)


def replay(log: RunLog, targets: Sequence[CandidateName]) -> Replay:
    """Lead every target through a log and estimate what it would have earned. Raises UserError."""
    require_material(log)
    idle = [one.bandit for one in log.bandits if not one.has_choice]
    return Replay(
        run=log.run,
        bandit=registry.type_of(log.section.bandit),
        signal=form_in_words(log.section.bandit),
        num_steps=log.num_steps,
        targets=[_replay_target(log, target) for target in targets],
        notes=[
            *log.notes,
            *([f"{listed(idle)}: only one arm, so nothing to choose; left out"] if idle else []),
        ],
    )


def _replay_target(log: RunLog, target: CandidateName) -> TargetReplay:
    if target.label == ORACLE:
        raise UserError(f"{target.label} cannot be replayed on {log.run}: it exists in simulated worlds only")
    config = with_the_runs_signal(target.config, log.section.bandit)
    is_logged_form = reads_what_was_logged(log, target.label, config)
    choice = make_counterfactual(log, target.label, config)
    followed, ordered = [], {}
    for one in log.bandits:
        if one.has_choice:
            if isinstance(bandit := choice.bandits[one.bandit], LevelBandit) and bandit.placed:
                ordered[one.bandit] = bandit.placed
            rng = random_streams.generator(log.seed, "replay", target.label, one.bandit)
            taught, about = lessons(log, config, is_logged_form), partial(about_arm, log, one.bandit)
            followed.append(follow(one, bandit, about, taught, rng))
    require_support(log, target.label, followed)
    slots = np.concatenate([one.slots() for one in followed])
    overall = estimate(slots)
    assert overall is not None  # require_material has looked
    edges = windows([step.logged.step for one in followed for step in one.steps])
    return TargetReplay(
        label=target.label,
        options=config.model_dump(mode="json"),
        overall=overall,
        windows=[(first, last, estimate(within(slots, first, last))) for first, last in edges],
        bandits=[replay_of(one, edges) for one in followed],
        notes=[*_levels(ordered), *_notes(followed, is_logged_form)],
    )


def _levels(ordered: Mapping[str, Sequence[str]]) -> list[str]:
    """Say which order was taken for difficulty, by bandit, where nothing else says how hard the arms are."""
    return [
        f"takes {'the arms' if name == EVERYTHING else name} from the easiest to the hardest as {listed(arms, 12)}, "
        "the order in which the ledger was first told of them; where the spec's is another, name `levels`"
        for name, arms in ordered.items()
    ]


def _notes(followed: Sequence[ReplayedLog], is_logged_form: bool) -> list[str]:
    """Say what was not quite as the formulas assume."""
    notes = []
    steps = [step for one in followed for step in one.steps]
    if not is_logged_form:
        notes.append(
            "learns from its own form of signal, worked out from the groups' scores; it earns in the run's form"
        )
    if any(one.fills_in_turn for one in followed):
        how = "its shares are means of batches drawn on copies of it"
        notes.append(f"fills the slots of a batch in turn: {how}")
    if any(step.logged.is_in_turn for step in steps):
        how = "each is weighed by the probability recorded for it"
        notes.append(f"the run's bandit filled slots in turn: {how}")
    if missing := sum(pick.signal is None for step in steps for pick in step.logged.picks):
        left_out = f"{num(missing, 'pick')} without a signal left out"
        notes.append(f"{left_out}; IPS takes all arms to miss them alike")
    # picks at steps without known probabilities, and those that had gone to arms never picked
    unknown, lost = 0, 0.0
    for one in followed:
        picked = {pick.arm for step in one.log.steps for pick in step.picks}
        for step in one.steps:
            if step.logged.probabilities is None:
                unknown += len(step.logged.picks)
                never = sum(share for arm, share in step.shares.items() if arm not in picked)
                lost += len(step.logged.picks) * never
    if unknown:
        notes.append(
            f"the arms' probabilities are not known for {num(unknown, 'pick')}, so support there is judged by picks "
            f"alone; {number(lost / unknown)} of its own would have gone to arms that the run never picked"
        )
    return notes


def require_material(log: RunLog) -> None:
    """Refuse a run that says nothing about any other bandit. Raises UserError."""
    run = log.run
    if log.num_steps < FEWEST_STEPS:
        raise UserError(
            f"{run} has {num(log.num_steps, 'step')} with picks, and a replay needs at least {FEWEST_STEPS}: let it go "
            f"on (`evergreen resume {run}`), or replay a longer run"
        )
    choices = [one for one in log.bandits if one.has_choice]
    if not choices:
        raise UserError(
            f"in {run} nobody chose: every bandit had one arm. Replay a run with several categories in an environment"
        )
    if not any(pick.signal is not None for one in choices for step in one.steps for pick in step.picks):
        raise UserError(
            f"no pick of {run} earned a signal: nothing could be scored, so there is nothing to estimate from. "
            f"`evergreen show {run}` says why"
        )
    if all(one.is_deterministic for one in choices):
        who = registry.type_of(log.section.bandit)
        raise UserError(
            f"the picks of {run} were not left to chance: its bandit, {who}, recorded probability 1 for every one of "
            "them, as index rules and fixed orders do, so nothing says what the other arms would have earned. "
            f"{REMEDY}"
        )


def require_support(log: RunLog, label: str, followed: Sequence[ReplayedLog]) -> None:
    """Refuse another bandit where it would have picked what the logged one could not. Raises UserError."""
    problems = []
    for one in followed:
        found = [
            (share, step.logged.step, arm)
            for step in one.steps
            for arm, share in step.shares.items()
            if share > NOTHING and (step.logged.probabilities or {}).get(arm, 1.0) <= 0
        ]
        if found:
            share, at, arm = max(found, key=lambda case: case[0])
            name = one.log.bandit
            whose = "the bandit over everything" if name == EVERYTHING else f"the bandit of {name}"
            steps = f"{len({step for _, step, _ in found})} of {num(len(one.steps), 'step')}"
            problems.append(
                f"  {whose}: at {steps} it gives a chance to arms that had none in the run; most at "
                f"step {at}, {number(share)} to {arm}"
            )
    if not problems:
        return
    asked = [step for one in log.bandits if one.has_choice for step in one.steps]
    chances = [pick.probability for step in asked for pick in step.picks]
    if certain := sum(chance >= 1 - SAME for chance in chances):  # as index rules and fixed orders record it
        who, picks = registry.type_of(log.section.bandit), num(len(chances), "pick")
        problems.append(f"  {certain} of its {picks} had probability 1: {who} left nothing to chance there")
    raise UserError("\n".join([f"{label} cannot be judged by {log.run}:", *problems, REMEDY]))
