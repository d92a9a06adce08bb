"""The worlds, by name and letter (curricula reference, section 8)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.random import default_rng

from orchestrator.bandits.contracts import ArmInfo, Feedback
from orchestrator.errors import UserError
from orchestrator.registry import nearest
from orchestrator.simulation import skill_worlds
from orchestrator.simulation.skill_worlds import POLICY, OracleConfig
from orchestrator.simulation.trials import (
    Candidate,
    Trial,
    TrialMetric,
    TrialSetting,
    World,
    make_bandit,
    thinned,
)

NUM_ARMS, NUM_SEGMENTS = 10, 5
REWARDS = 500_000  # added to the seed
_LEARNT = (TrialMetric("auc", "AUC"), TrialMetric("final", "final"), TrialMetric("worst", "worst"))
_STEPS = TrialMetric("steps", "to .8", 0, False)


def run_switching(entrant: Candidate, seed: int, setting: TrialSetting) -> Trial:
    """Scenario C: ten Bernoulli arms whose means change four times; one pull a round (section 8.4).

    means PCG64(seed).random((5, 10)), a row for each fifth of the rounds;  reward [u_t < mean], u PCG64(seed + 500000)
    dynamic regret = sum over rounds of (best mean - mean of the arm pulled)
    """
    if isinstance(entrant.bandit, OracleConfig):
        why = "the oracle knows the skills of worlds a, b and d; in world c its regret is 0"
        raise UserError(f"{why}: leave it out")
    num_rounds = setting.num_steps
    segments = default_rng(seed).random((NUM_SEGMENTS, NUM_ARMS))
    means = segments[np.arange(num_rounds) * NUM_SEGMENTS // num_rounds]
    wins = default_rng(seed + REWARDS).random(num_rounds)[:, None] < means
    place_of = {f"arm{k}": k for k in range(NUM_ARMS)}
    about = {name: ArmInfo() for name in place_of}
    bandit = make_bandit(entrant.bandit, about, default_rng(seed + POLICY), num_rounds)
    pulled = np.empty(num_rounds, np.intp)  # the arm of every round
    rewards = wins.astype(np.float64).tolist()
    for t in range(num_rounds):
        pick = bandit.pick(1)[0]
        pulled[t] = place_of[pick.arm]
        reward = rewards[t][pulled[t]]
        bandit.learn([Feedback(pick, reward, 1, reward)])
    regret = means.max(axis=1) - means[np.arange(num_rounds), pulled]
    is_best = regret == 0
    numbers = {"regret": float(regret.sum()), "best": float(is_best.mean())}
    shares = np.stack([is_best, ~is_best], axis=1).astype(np.float64)
    return Trial(numbers, thinned(np.cumsum(regret)), thinned(shares))


_SKILLS = World(
    name="skills",
    letter="a",
    about="twelve related skills, 3 types of 4 levels; all can be learnt",
    run=partial(skill_worlds.run_mixed, has_traps=False),
    metrics=(*_LEARNT, _STEPS),
    arm_groups=skill_worlds.LEVELS[:4],
)
_TRAPS = World(
    name="traps",
    letter="b",
    about="the same beside an arm of pure noise and an impossible one",
    run=partial(skill_worlds.run_mixed, has_traps=True),
    metrics=(*_LEARNT, _STEPS, TrialMetric("traps", "on traps", 3, False)),
    arm_groups=skill_worlds.LEVELS,
)
_SWITCHING = World(
    name="switching",
    letter="c",
    about="ten Bernoulli arms whose means change four times; one pull a round",
    run=run_switching,
    metrics=(TrialMetric("regret", "regret", 0, False), TrialMetric("best", "on the best arm")),
    arm_groups=("the best arm", "the others"),
    curve="regret so far",
    num_steps=10_000,
    step="round",
)
_STAGES = World(
    name="stages",
    letter="d",
    about="the skills' types as three environments that forget; a scheduler picks one a stage",
    run=partial(skill_worlds.run_stages, are_alike=True),
    metrics=(*_LEARNT, TrialMetric("forgetting", "forgetting", 3, False)),
    arm_groups=skill_worlds.TYPES,
    has_stages=True,
)
_UNLIKE_STAGES = replace(
    _STAGES,
    name="heterogeneous",
    letter="h",
    about="world d with one environment mastered at first and one impossible",
    run=partial(skill_worlds.run_stages, are_alike=False),
)
WORLDS = (_SKILLS, _TRAPS, _SWITCHING, _STAGES, _UNLIKE_STAGES)


def find_world(word: str) -> World:
    """Find a world by its name or letter. Raises UserError."""
    known = {key: world for world in WORLDS for key in (world.name, world.letter)}
    if word.lower() not in known:
        names = [world.name for world in WORLDS]
        listed = ", ".join(f"{world.letter} or {world.name}" for world in WORLDS)
        raise UserError(f"{word!r} is not one of the worlds: {listed}{nearest(word.lower(), names)}")
    return known[word.lower()]
