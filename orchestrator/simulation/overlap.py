"""What a log cannot answer, and why: refused with a remedy rather than estimated."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.errors import UserError
from orchestrator.simulation.estimates import FEWEST_STEPS
from orchestrator.simulation.log_replay import ReplayedLog
from orchestrator.simulation.logs import SAME, BanditLog, RunLog
from store.records import EVERYTHING
from store.sentences import num, number

NOTHING = 1e-12  # a share below it is rounding


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
        raise UserError(
            f"the picks of {run} were not left to chance: its bandit, {_type(log)}, recorded probability 1 for every "
            "one of them, as index rules and fixed orders do, so nothing says what the other arms would have earned. "
            f"{_REMEDY}"
        )


def require_support(log: RunLog, label: str, followed: Sequence[ReplayedLog]) -> None:
    """Refuse another bandit where it would have picked what the logged one could not. Raises UserError."""
    problems = [problem for one in followed if (problem := _unsupported(one)) is not None]
    if problems:
        lines = [f"{label} cannot be judged by {log.run}:", *problems, *_certain(log), f"{_REMEDY}"]
        raise UserError("\n".join(lines))


def judged_by_picks(followed: Sequence[ReplayedLog]) -> tuple[int, float]:
    """Count the picks at steps without known probabilities, and the share that had gone to arms never picked."""
    num_picks, lost = 0, 0.0
    for one in followed:
        picked = {pick.arm for step in one.log.steps for pick in step.picks}
        for step in one.steps:
            if step.logged.probabilities is None:
                n = len(step.logged.picks)
                num_picks += n
                lost += n * sum(share for arm, share in step.shares.items() if arm not in picked)
    return num_picks, lost / num_picks if num_picks else 0.0


_REMEDY = "Replay a run whose bandit left every arm a chance: with `curriculum.bandit.floor`, such as .2, any rule does"


def _unsupported(followed: ReplayedLog) -> str | None:
    found = [
        (share, step.logged.step, arm)
        for step in followed.steps
        for arm, share in step.shares.items()
        if share > NOTHING and (step.logged.probabilities or {}).get(arm, 1.0) <= 0
    ]
    if not found:
        return None
    share, at, arm = max(found, key=lambda one: one[0])
    steps = len({step for _, step, _ in found})
    of = num(len(followed.steps), "step")
    return (
        f"  {_whose(followed.log)}: at {steps} of {of} it gives a chance to arms that had none in the run; most at "
        f"step {at}, {number(share)} to {arm}"
    )


def _certain(log: RunLog) -> list[str]:
    """Say how many picks were not left to chance, if any: what index rules and fixed orders record."""
    chances = [
        p.probability for one in log.bandits if one.has_choice for step in one.steps for p in step.picks
    ]
    certain = sum(chance >= 1 - SAME for chance in chances)
    if not certain:
        return []
    return [
        f"  {certain} of its {num(len(chances), 'pick')} had probability 1: {_type(log)} left nothing to chance there"
    ]


def _whose(log: BanditLog) -> str:
    return "the bandit over everything" if log.bandit == EVERYTHING else f"the bandit of {log.bandit}"


def _type(log: RunLog) -> str:
    return str(getattr(log.section.bandit, "type", "unknown"))
