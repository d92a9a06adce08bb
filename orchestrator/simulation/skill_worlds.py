"""One bandit over all arms of LSM-1: scenarios A and B (curricula reference, section 8.1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orchestrator.bandits.contracts import Bandit, Floats, signals_of
from orchestrator.simulation.skills import (
    BATCH,
    NUM_LEVELS,
    NUM_SKILLS,
    NUM_TYPES,
    Skills,
    about_arms,
    arm_names,
    generator,
)
from orchestrator.simulation.trials import Candidate, Trial, TrialSetting, feedback, make_bandit
from orchestrator.simulation.world_policies import Oracle, OracleConfig

POLICY, EVALUATION = 10**6, 2 * 10**6  # added to the seed: the streams of section 8
MASTERY = 0.8
GROUPS = (*(f"level {level}" for level in range(NUM_LEVELS)), "noise", "impossible")


def run_skills(entrant: Candidate, seed: int, setting: TrialSetting) -> Trial:
    """Scenario A."""
    return _trial(entrant, seed, setting, has_traps=False)


def run_traps(entrant: Candidate, seed: int, setting: TrialSetting) -> Trial:
    """Scenario B."""
    return _trial(entrant, seed, setting, has_traps=True)


def _trial(entrant: Candidate, seed: int, setting: TrialSetting, has_traps: bool) -> Trial:
    rates, places = follow_one_bandit(Skills(generator(seed)), entrant, seed, setting.num_steps, has_traps)
    means = rates.mean(axis=1)
    numbers = {
        "auc": means.mean(),
        "final": means[-1],
        "worst": rates[-1].min(),
        "steps": steps_to(MASTERY, means),
        "reached": float((means >= MASTERY).any()),
        "traps": (places >= NUM_SKILLS).mean(),
    }
    groups = GROUPS if has_traps else GROUPS[:NUM_LEVELS]
    return Trial({k: float(v) for k, v in numbers.items()}, means, group_shares(places, len(groups)))


def follow_one_bandit(
    world: Skills, entrant: Candidate, seed: int, num_steps: int, has_traps: bool = False
) -> tuple[Floats, NDArray[np.intp]]:
    """Let one bandit choose every slot: pass rates after each step [T, 12], and the arms of all slots [T, 64]."""
    names = arm_names(has_traps)
    place_of = {name: k for k, name in enumerate(names)}
    rng, form = generator(seed + POLICY), signals_of(entrant.bandit).signal
    bandit: Bandit = (
        Oracle(names, rng, world)
        if isinstance(entrant.bandit, OracleConfig)
        else make_bandit(entrant.bandit, about_arms(has_traps), rng, num_steps)
    )
    rates, places = np.empty((num_steps, NUM_SKILLS)), np.empty((num_steps, BATCH), np.intp)
    for t in range(num_steps):
        picks = bandit.pick(BATCH)
        places[t] = [place_of[pick.arm] for pick in picks]
        solved = world.play(places[t])
        bandit.learn(feedback(picks, solved, form))
        rates[t] = world.pass_rates()
    return rates, places


def steps_to(goal: float, means: Floats) -> int:
    """Steps until the mean reaches a goal; one more than there were if it never does."""
    reached = np.flatnonzero(means >= goal)
    return int(reached[0]) + 1 if len(reached) else len(means) + 1


def group_shares(places: NDArray[np.intp], num_groups: int) -> Floats:
    """Share of each step's slots [T, B] that went to a level, to noise, to the impossible: [T, groups]."""
    group = np.where(places < NUM_SKILLS, places % NUM_LEVELS, places - NUM_SKILLS + NUM_LEVELS)
    return np.stack([(group == g).mean(axis=1) for g in range(num_groups)], axis=1)


def type_means(rates: Floats) -> Floats:
    """Mean pass rate of each type: [..., 12] to [..., 3]."""
    return np.asarray(rates.reshape(*rates.shape[:-1], NUM_TYPES, NUM_LEVELS).mean(axis=-1))
