"""A bandit in the place of a run's, led through its log: asked at every step what it would pick, then taught.

Nothing is drawn from it. It takes over the logged picks with their logged probabilities (`Bandit.witness`), so that a
rule that weighs by importance weighs by those, and learns what the run's bandit was told: the signals and scores of all
groups of a pick, 0 for one in which nothing could be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from pydantic import BaseModel

from orchestrator import random_streams
from orchestrator.bandits.contracts import ArmInfo, Bandit, BanditConfig, Feedback, Floats
from orchestrator.bandits.signal import mean_absolute_advantage
from orchestrator.choosing.choice import Choice, make_choice, make_chooser, mean_of
from orchestrator.errors import SpecError, UserError
from orchestrator.schedulers.round_robin import Config as AnyScheduler
from orchestrator.simulation.estimates import SLOT, Slots
from orchestrator.simulation.logs import (
    FORM,
    SAME,
    BanditLog,
    LoggedPick,
    LoggedStep,
    Probabilities,
    RunLog,
    arms_at_first,
    signal_form,
)
from orchestrator.user_options import UserOptions

NUM_BATCHES = 16  # drawn on copies of a rule that fills the slots of a batch in turn
NO_SIZES = (  # said after what a bandit itself refuses
    "A log tells its arms' names and numbers, not how many tasks they have; for weights by size, name a `fixed` bandit"
)

Taught = Callable[[LoggedPick], tuple[float, int, float | None]]  # reward, groups and score to learn from


@dataclass(frozen=True)
class ReplayedStep:
    """A logged step, and the share of its slots that the other bandit would have given to each arm."""

    logged: LoggedStep
    shares: Probabilities
    weights: Floats  # [n]: share of the arm that was picked / probability of the pick


@dataclass(frozen=True)
class ReplayedLog:
    """A bandit's way through a log."""

    log: BanditLog
    steps: Sequence[ReplayedStep]
    fills_in_turn: bool  # its shares are means over batches drawn on copies

    def slots(self) -> Slots:
        """Gather the slots whose signal was observed; the others count nowhere."""
        rows = [
            (step.logged.step, pick.signal, weight)
            for step in self.steps
            for pick, weight in zip(step.logged.picks, step.weights.tolist(), strict=True)
            if pick.signal is not None
        ]
        return np.array(rows, SLOT)


def follow(
    log: BanditLog, bandit: Bandit, about: Callable[[str], ArmInfo], taught: Taught, rng: np.random.Generator
) -> ReplayedLog:
    """Lead a fresh bandit through a log; `about` tells of arms that join, `rng` draws on copies only."""
    steps, in_turn = [], False
    for logged in log.steps:
        for arm in sorted({*logged.arms} - {*bandit.arms}):  # as a run offers them; levels go by the order
            bandit.add(arm, about(arm))
        for arm in sorted({*bandit.arms} - {*logged.arms}):
            bandit.retire(arm)
        shares, is_mean = batch_shares(bandit, len(logged.picks), rng)
        in_turn |= is_mean
        weights = np.array([shares[pick.arm] / pick.probability for pick in logged.picks])
        steps.append(ReplayedStep(logged, shares, weights))
        arms, chances = [pick.arm for pick in logged.picks], [pick.probability for pick in logged.picks]
        lessons = zip(bandit.witness(arms, chances), map(taught, logged.picks), strict=True)
        if logged.is_replay:
            bandit.count_replay()
        bandit.learn([Feedback(pick, *lesson) for pick, lesson in lessons])
    return ReplayedLog(log, steps, in_turn)


def batch_shares(bandit: Bandit, n: int, rng: np.random.Generator) -> tuple[Mapping[str, float], bool]:
    """Find the share of each arm in a batch of n, and whether it had to be drawn.

    Where slots are drawn independently these are the bandit's probabilities. A rule that fills the slots in turn (UCB
    with virtual counts) moves on within the batch: its shares are means over batches drawn on copies of it.
    """
    probabilities = bandit.probabilities()
    if type(bandit).draw is Bandit.draw:
        return probabilities, False
    table = np.array([probabilities[arm] for arm in bandit.arms])
    places, chances = _draw_aside(bandit, n, rng)
    if np.abs(chances - table[places]).max() <= SAME:
        return probabilities, False
    drawn = [places, *(_draw_aside(bandit, n, rng)[0] for _ in range(NUM_BATCHES - 1))]
    counts = np.bincount(np.concatenate(drawn), minlength=len(table))
    return bandit.by_arm(counts / counts.sum()), True


def _draw_aside(bandit: Bandit, n: int, rng: np.random.Generator) -> tuple[np.ndarray, Floats]:
    aside = deepcopy(bandit)
    aside.rng = rng
    return aside.draw(n)


def make_counterfactual(log: RunLog, label: str, config: BaseModel) -> Choice:
    """Make a bandit for each of the run's, over the arms it began with. Raises UserError."""
    changes: dict[str, Any] = {"bandit": config}
    if log.section.mode == "staged":
        changes["scheduler"] = AnyScheduler()  # nobody asks it
    try:
        if isinstance(config, UserOptions):  # only our base can be taught what it did not pick
            for name, arms in arms_at_first(log).items():
                make_chooser("bandits", config, arms, random_streams.generator(log.seed, "replay", name))
        return make_choice(log.section.model_copy(update=changes), arms_at_first(log), log.seed)
    except SpecError as error:
        why = str(error).removeprefix("curriculum.bandit: ")
        hint = "" if why == str(error) else f". {NO_SIZES}"
        raise UserError(f"{label} cannot be replayed on {log.run}: {why}{hint}") from error


def with_the_runs_signal(config: BaseModel, own: BaseModel) -> BaseModel:
    """Let a bandit read the signal that was logged, unless its user said which it reads."""
    unsaid = (set(FORM) & set(type(config).model_fields)) - config.model_fields_set
    return config.model_copy(update={key: getattr(own, key) for key in sorted(unsaid) if hasattr(own, key)})


def reads_what_was_logged(log: RunLog, label: str, config: BaseModel) -> bool:
    """Say whether a bandit reads the logged form of signal; if not, its own is worked out from the groups' scores.

    Raises UserError where it cannot be. A bandit from outside that has no such options takes what it is given.
    """
    ours, theirs = signal_form(config), signal_form(log.section.bandit)
    if "quantile" in (ours[2], theirs[2]):
        raise UserError(
            f"{label} cannot be replayed on {log.run}: `signal_scale: quantile` goes by all earlier signals of an "
            "environment, and the log holds each as it was before scaling. Replay runs and bandits without it"
        )
    return ours == theirs or not isinstance(config, BanditConfig)


def lessons(log: RunLog, config: BaseModel, is_logged_form: bool) -> Taught:
    """Say what the other bandit is taught of a pick, as `Choice.learn` does; nothing where its form was lost."""
    form, reads, _ = signal_form(log.section.bandit if is_logged_form else config)

    def taught(pick: LoggedPick) -> tuple[float, int, float | None]:
        if not pick.groups:
            return pick.signal or 0.0, int(is_logged_form and pick.signal is not None), None
        read = [group.of(reads) for group in pick.groups]
        signals = [mean_absolute_advantage(own, form) for own in read]
        return fmean(one or 0.0 for one in signals), len(read), mean_of(mean_of(own) for own in read)

    return taught
