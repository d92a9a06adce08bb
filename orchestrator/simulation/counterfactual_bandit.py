"""Another bandit in the place of each of a run's: made as the conductor would, told what it would have been told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from orchestrator import random_streams, registry
from orchestrator.bandits.contracts import ArmInfo
from orchestrator.choosing.choice import Choice, make_choice
from orchestrator.errors import SpecError, UserError
from orchestrator.schedulers.round_robin import Config as AnyScheduler
from orchestrator.simulation.bandit_in_world import make
from orchestrator.simulation.log_replay import Taught
from orchestrator.simulation.logs import FORM, LoggedPick, RunLog, about_arm, arms_at_first, signal_form

_OWN_WORDS = "curriculum.bandit: "  # begins what a bandit itself refuses
_NO_SIZES = (  # said after it
    "A log tells its arms' names and numbers, not how many tasks they have; for weights by size, name a `fixed` bandit"
)


def make_stand_ins(log: RunLog, label: str, config: BaseModel) -> Choice:
    """Make a bandit for each of the run's, over the arms it began with. Raises UserError."""
    changes: dict[str, Any] = {"bandit": config}
    if log.section.mode == "staged":
        changes["scheduler"] = AnyScheduler()  # nobody asks it
    try:
        _require_bandit(log, config)
        choice = make_choice(log.section.model_copy(update=changes), arms_at_first(log), log.seed)
    except SpecError as error:
        why = str(error).removeprefix(_OWN_WORDS)
        hint = "" if why == str(error) else f". {_NO_SIZES}"
        raise UserError(f"{label} cannot be replayed on {log.run}: {why}{hint}") from error
    return choice


def _require_bandit(log: RunLog, config: BaseModel) -> None:
    """Refuse a factory from outside that makes something else: only our base can be taught what it did not pick."""
    if isinstance(config, registry.GivenOption):
        for name, arms in arms_at_first(log).items():
            make("bandits", config, list(arms), random_streams.generator(log.seed, "replay", name))


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
    return ours == theirs or not set(FORM) & set(type(config).model_fields)


def lessons(log: RunLog, choice: Choice, is_logged_form: bool) -> Taught:
    """Say what a stand-in is taught of a pick: signal and score; no signal where none was logged."""
    reads = signal_form(log.section.bandit if is_logged_form else choice.config)[1]

    def taught(pick: LoggedPick) -> tuple[float | None, float | None]:
        read = pick.values if reads == "value" else pick.correct
        score = sum(read) / len(read) if read else None
        if is_logged_form or pick.signal is None:
            return pick.signal, score
        return choice.signal(pick.values, pick.correct), score

    return taught


def telling_of(log: RunLog, bandit: str) -> Callable[[str], ArmInfo]:
    """Make the function that tells of a bandit's arms, also of those that join later."""
    return lambda arm: about_arm(log, bandit, arm)
