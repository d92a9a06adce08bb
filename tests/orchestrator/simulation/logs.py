"""Logs of choices in a world that is known: arms whose rewards are 0 or 1 with fixed means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.bandits.contracts import ArmInfo, Bandit, Feedback
from orchestrator.choosing.choice import make_choice
from orchestrator.simulation.candidates import CandidateName, read_named
from orchestrator.simulation.logs import BanditLog, LoggedPick, LoggedStep, RunLog
from orchestrator.spec.sections import CurriculumSection

MEANS = {"a": 0.2, "b": 0.6}


def played(
    bandit: str | dict[str, Any],
    means: Mapping[str, float] = MEANS,
    num_steps: int = 20,
    n: int = 8,
    seed: int = 0,
    missing: float = 0.0,
) -> RunLog:
    """Let a bandit play, and log it: `missing` is the share of picks whose signal never came."""
    section = CurriculumSection.model_validate({"bandit": bandit, "stages": 1, "stage": {"steps": num_steps}})
    about = {"one": {arm: ArmInfo() for arm in means}}
    rng = np.random.Generator(np.random.PCG64([seed, 7]))
    made = make_choice(section, about, seed).bandits["one"]
    steps = [_step(made, t, n, means, rng, missing) for t in range(1, num_steps + 1)]
    return RunLog("known", seed, section, about, [BanditLog("one", steps)])


def target(bandit: str) -> CandidateName:
    """Read one bandit."""
    return read_named([bandit], "bandit")[0]


def without_missing(log: RunLog) -> RunLog:
    """The same log as if the picks without a signal had never been made."""
    steps = [
        LoggedStep(s.step, s.arms, s.probabilities, [p for p in s.picks if p.signal is not None])
        for s in log.bandits[0].steps
    ]
    return with_steps(log, [step for step in steps if step.picks])


def with_steps(log: RunLog, steps: Sequence[LoggedStep]) -> RunLog:
    """The same run with other steps."""
    return RunLog(log.run, log.seed, log.section, log.about, [BanditLog("one", steps)])


def _step(
    bandit: Bandit, step: int, n: int, means: Mapping[str, float], rng: np.random.Generator, missing: float
) -> LoggedStep:
    probabilities, picks = bandit.probabilities(), bandit.pick(n)
    rewards = [float(rng.random() < means[pick.arm]) for pick in picks]
    lost = rng.random(n) < missing
    logged = [
        LoggedPick(pick.arm, pick.probability, None if gone else reward)
        for pick, reward, gone in zip(picks, rewards, lost, strict=True)
    ]
    told = zip(picks, rewards, lost, strict=True)
    bandit.learn([Feedback(pick, reward, int(not gone), reward) for pick, reward, gone in told])
    is_in_turn = any(abs(pick.probability - probabilities[pick.arm]) > 1e-9 for pick in picks)
    return LoggedStep(step, list(means), probabilities, logged, is_in_turn)
