"""What a run wrote down of its bandits' choices, step by step: the material of a replay.

The log of a bandit holds, for every step in which it was asked: the arms, the probability of every arm at that moment,
and the picks, each with the probability it was drawn with, the signal it earned and the scores of its group. A stage's
own picks and replay picks are alike: both are the environment's bandit's.

The ledger keeps the arms' probabilities as they stand after a step, which are those of the next one. Before the first
step they are those of the run's bandit, made anew. What was found so is believed only if the picks agree with it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pydantic import BaseModel

from orchestrator import registry
from orchestrator.bandits.contracts import ArmInfo, Signal, signals_of
from orchestrator.choosing.choice import Arms, make_choice
from orchestrator.errors import SpecError, UserError
from orchestrator.spec.sections import CurriculumSection
from store.ledger import Reading
from store.ledger.query_rows import GroupScores, PickRow, by_key
from store.records import EVERYTHING

SAME = 1e-9  # probabilities nearer than this are equal

FORM = ("signal", "signal_reward", "signal_scale")  # options of a bandit that say what its signals are

Probabilities = Mapping[str, float]  # of every arm


@dataclass(frozen=True)
class LoggedGroup:
    """How the episodes of a group were scored, those that could be."""

    values: Sequence[float]
    correct: Sequence[bool]

    def of(self, reads: str) -> Sequence[float]:
        """What is read of each: its `value`, or whether it is `correct`."""
        return self.values if reads == "value" else self.correct

    def is_even(self, reads: str) -> bool:
        """Whether all of several earned the same, so that there is nothing to learn from."""
        read = self.of(reads)
        return len(read) > 1 and max(read) == min(read)


@dataclass(frozen=True)
class LoggedPick:
    """One slot: what was picked there, and what that showed."""

    arm: str
    probability: float  # with which it was drawn
    signal: float | None  # mean of its groups' that could be compared; None: no observation
    groups: Sequence[LoggedGroup] = ()  # several where it was played again; none where the ledger lost them


@dataclass(frozen=True)
class LoggedStep:
    """One step in which a bandit was asked."""

    step: int  # of the run, from 1
    arms: Sequence[str]  # what it could pick
    probabilities: Probabilities | None  # at its first slot; None: not known
    picks: Sequence[LoggedPick]  # in the order of the slots
    is_in_turn: bool = False  # later slots had other probabilities than the first
    is_replay: bool = False  # of a stage of another environment


@dataclass(frozen=True)
class BanditLog:
    """All that one bandit of a run picked."""

    bandit: str  # the environment's name, or EVERYTHING
    steps: Sequence[LoggedStep]

    @property
    def has_choice(self) -> bool:
        """It ever had more than one arm."""
        return any(len(step.arms) > 1 for step in self.steps)

    @property
    def is_deterministic(self) -> bool:
        """No pick was left to chance."""
        return all(pick.probability >= 1 - SAME for step in self.steps for pick in step.picks)


@dataclass(frozen=True)
class RunLog:
    """The logs of a run's bandits over categories, with what they were told beforehand."""

    run: str
    seed: int
    section: CurriculumSection  # of the spec: who chose, how long
    about: Arms
    bandits: Sequence[BanditLog]  # those that picked anything, by name
    notes: Sequence[str] = ()  # on whose log it is

    @property
    def num_steps(self) -> int:
        """Steps in which somebody was asked."""
        return len({step.step for log in self.bandits for step in log.steps})


def signal_form(config: BaseModel) -> tuple[Signal, str, str]:
    """Tell what signals a bandit is given: their form, what of a score they read, how they are scaled."""
    given = signals_of(config)
    return given.signal, given.signal_reward, given.signal_scale


def form_in_words(config: BaseModel) -> str:
    """Say what signals a bandit is given."""
    form, reads, scale = signal_form(config)
    return f"{form} signal of the {reads}" + ("" if scale == "none" else f", scaled by {scale}")


def _curriculum(spec: Mapping[str, Any]) -> CurriculumSection:
    context = {"search_path": spec.get("resources", {}).get("search_path")}
    return CurriculumSection.model_validate(spec["curriculum"], context=context)


def read_log(reading: Reading, run: str) -> RunLog:
    """Read a run's log. Raises `LedgerError` for an unknown run, UserError for one whose signals are of two forms."""
    spec = reading.spec(run)
    registry.search_in(spec.get("resources", {}).get("search_path"))
    section = _curriculum(spec)
    notes = _on_parents(reading, run, section)
    # What the ledger knows of the arms: the numbers among their parameters, not how many tasks there are.
    about: dict[str, dict[str, ArmInfo]] = defaultdict(dict)
    for category in reading.categories(run):
        about[category.environment][category.name] = ArmInfo.of(None, category.parameters)
    scores = by_key(reading.scores(run), lambda group: group.step)
    states: dict[str, dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for arm in reading.arms(run):
        states[arm.bandit][arm.step][arm.arm] = arm.probability
    first: dict[str, Probabilities] = {}  # of bandits that cannot be made from the log, none
    if states:
        with suppress(SpecError):
            made = make_choice(section, about, spec["seed"]).bandits
            first = {name: bandit.probabilities() for name, bandit in made.items()}
    picks = [pick for pick in reading.picks(run) if pick.level in ("category", "flat")]
    compared = spec.get("objective", {}).get("reward", "value")
    groups = {
        (step, slot): found
        for step, own in by_key(picks, lambda pick: pick.step).items()
        for slot, found in _groups_of_picks(own, scores.get(step, []), compared).items()
    }
    asked = by_key(picks, lambda pick: EVERYTHING if pick.level == "flat" else pick.environment)
    everything = [f"{environment}/{category}" for environment, own in about.items() for category in own]
    logs = []
    for name, own_picks in sorted(asked.items()):
        arms = everything if name == EVERYTHING else list(about[name])
        logs.append(_bandit_log(name, own_picks, states[name], first.get(name, {}), arms, groups))
    return RunLog(run, spec["seed"], section, dict(about), logs, notes)


def arms_at_first(log: RunLog) -> Arms:
    """Tell of the arms as they were when each bandit was first asked; others joined later."""
    first = {one.bandit: set(one.steps[0].arms) for one in log.bandits}
    if EVERYTHING in first:
        return {
            environment: kept
            for environment, own in log.about.items()
            if (kept := {c: a for c, a in own.items() if f"{environment}/{c}" in first[EVERYTHING]})
        }
    return {
        environment: {c: a for c, a in own.items() if environment not in first or c in first[environment]}
        for environment, own in log.about.items()
    }


def about_arm(log: RunLog, bandit: str, arm: str) -> ArmInfo:
    """Tell of one arm of a bandit."""
    environment, category = arm.split("/", 1) if bandit == EVERYTHING else (bandit, arm)
    return log.about[environment][category]


def _on_parents(reading: Reading, run: str, section: CurriculumSection) -> list[str]:
    """Say which part of a fork's log its parents wrote; refuse one whose bandit was given other signals."""
    notes, child = [], reading.run(run)
    while child.parent is not None:
        theirs = _curriculum(reading.spec(child.parent))
        if signal_form(theirs.bandit) != signal_form(section.bandit):
            raise UserError(
                f"{run} was forked from {child.parent}, whose bandit was given another signal "
                f"({form_in_words(theirs.bandit)}; {run}: {form_in_words(section.bandit)}), so its log has two units: "
                f"replay {child.parent} instead"
            )
        who = registry.type_of(theirs.bandit)
        notes.append(f"up to stage {child.parent_stage} the picks are those of {child.parent}, made by {who}")
        child = reading.run(child.parent)
    return notes


def _bandit_log(
    name: str,
    picks: Sequence[PickRow],
    states: Mapping[int, Mapping[str, float]],
    first: Probabilities,
    arms: Sequence[str],
    groups: Mapping[tuple[int, int], Sequence[LoggedGroup]],
) -> BanditLog:
    steps, known = [], sorted(states)
    for step, of_step in groupby(picks, lambda pick: pick.step):
        own = list(of_step)
        logged = [LoggedPick(p.arm, p.probability, p.signal, groups.get((p.step, p.slot), ())) for p in own]
        at = bisect_left(known, step)  # of a bandit that was not asked meanwhile the newest is from before
        before = states[known[at - 1]] if at else first
        agrees = [abs(before.get(pick.arm, -1) - pick.probability) <= SAME for pick in logged]
        # What went into quarantine by this step, or came out of it, differs after it; what it picked was there.
        there = before if agrees[0] else {*(states.get(step) or arms), *(pick.arm for pick in logged)}
        steps.append(
            LoggedStep(
                step=step,
                arms=sorted(there),
                probabilities=before if agrees[0] else None,
                picks=logged,
                is_in_turn=agrees[0] and not all(agrees),
                is_replay=own[0].role == "replay",
            )
        )
    return BanditLog(name, steps)


def _groups_of_picks(
    picks: Sequence[PickRow], groups: Sequence[GroupScores], compared: str
) -> dict[int, list[LoggedGroup]]:
    """Find the groups of each pick of a step, by its slot: the one that stands there, and those that replaced it.

    `dynamic_sampling` plays slots again whose groups are even in what is `compared`, in rounds and in the order of the
    slots, and enters the new groups behind all others; an environment without the plan has none there.
    """
    slots = {pick.slot for pick in picks}
    found = {group.slot: [_scored(group)] for group in groups if group.slot in slots}
    place = {group.slot: (group.environment, group.category) for group in groups if group.slot in slots}
    later = deque(sorted((group for group in groups if group.slot not in slots), key=lambda group: group.slot))
    latest = sorted(found)
    while later and latest:
        again = [slot for slot in latest if found[slot][-1].is_even(compared)]
        latest = []
        for slot in again:
            if later and (later[0].environment, later[0].category) == place[slot]:
                found[slot].append(_scored(later.popleft()))
                latest.append(slot)
    return found


def _scored(group: GroupScores) -> LoggedGroup:
    samples = zip(group.values, group.correct, strict=True)
    scored = [(value, bool(correct)) for value, correct in samples if value is not None]
    return LoggedGroup([value for value, _ in scored], [correct for _, correct in scored])
