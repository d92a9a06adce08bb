"""LSM-1, the logistic skill model: what training does to twelve skills, without a language model.

    3 types x 4 levels, skill k = 4 type + level, difficulty d = .5 type + 1.5 level, s = 0 at first
    pass rate        P = sigmoid(s - d)
    a group of 8     c ~ Binomial(8, sigmoid(s - d - delta)),  delta ~ Normal(0, .5)
    practice         g_k = (1 / B) sum over the groups of k of 4 p (1 - p),  p = c / 8
    learning         s_k <- s_k + .5 sum_i g_i M_ik - phi s_k max(0, 1 - (m_k / B) / (.5 / 12))

M is the transfer within a type: 1 to itself, .3 a level towards harder skills, .2 a level towards easier ones; m_k of
the B groups of a batch went to skill k; phi is the forgetting. Source: curricula reference, section 8.1. The numbers
are properties of the model, not predictions for a language model.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from orchestrator.bandits.contracts import ArmInfo, Floats

NUM_TYPES, NUM_LEVELS = 3, 4
NUM_SKILLS = NUM_TYPES * NUM_LEVELS
GROUP_SIZE = 8
BATCH = 64  # groups a step
NOISE, IMPOSSIBLE = NUM_SKILLS, NUM_SKILLS + 1  # the traps of scenario B

_TYPE, _LEVEL = np.divmod(np.arange(NUM_SKILLS), NUM_LEVELS)
DIFFICULTY: Floats = 0.5 * _TYPE + 1.5 * _LEVEL


def transfer() -> Floats:
    """M [12, 12]: how much of the practice of skill i (row) reaches skill k (column)."""
    up = (_LEVEL - _LEVEL[:, None]).astype(np.float64)  # levels from i to k
    reach = np.where(up >= 0, 0.3 ** np.maximum(up, 0), 0.2 ** np.maximum(-up, 0))
    return np.asarray(np.where(_TYPE[:, None] == _TYPE, reach, 0.0))


class Skills:
    """The model's skills s [12], 0 at first, changed by every batch; `difficulty` d [12], `forgetting` phi per step."""

    def __init__(
        self,
        rng: np.random.Generator,
        forgetting: float = 0.005,
        skills: Floats | None = None,
        difficulty: Floats = DIFFICULTY,
        rate: float = 0.5,
    ) -> None:
        self.rng, self.forgetting, self.difficulty, self.rate = rng, forgetting, difficulty, rate
        self.skills = np.zeros(NUM_SKILLS) if skills is None else skills.copy()
        self.transfer = transfer()

    def pass_rates(self) -> Floats:
        """P of every skill, [12]."""
        return _sigmoid(self.skills - self.difficulty)

    def play(self, places: NDArray[np.intp]) -> NDArray[np.intp]:
        """Play a batch and learn from it: a skill or trap for each group [B] in, how many of 8 succeeded [B] out."""
        counts = np.bincount(places, minlength=NUM_SKILLS)
        found = []
        # in the reference's order: normals, then binomials, arm by arm
        for k, m in enumerate(counts.tolist()):
            if m and k < NUM_SKILLS:
                offset = self.rng.normal(0.0, 0.5, m)
                chances = _sigmoid(self.skills[k] - self.difficulty[k] - offset)
                found.append(self.rng.binomial(GROUP_SIZE, chances))
            elif m:
                found.append(self.rng.binomial(GROUP_SIZE, np.full(m, 0.5 if k == NOISE else 0.0)))
        solved = np.empty(len(places), np.intp)
        solved[np.argsort(places, kind="stable")] = np.concatenate(found)
        p, share = solved / GROUP_SIZE, counts[:NUM_SKILLS] / len(places)
        practice = np.bincount(places, 4 * p * (1 - p), NUM_SKILLS)[:NUM_SKILLS] / len(places)
        lost = self.forgetting * self.skills * np.maximum(0, 1 - share / (0.5 / NUM_SKILLS))
        self.skills = self.skills + self.rate * (practice @ self.transfer) - lost
        return solved


def arm_names(has_traps: bool = False) -> list[str]:
    """Names of the arms, by index."""
    names = [f"type{k}.level{level}" for k, level in zip(_TYPE, _LEVEL, strict=True)]
    return [*names, "trap.noise", "trap.impossible"] if has_traps else names


def about_arms(has_traps: bool = False) -> Mapping[str, ArmInfo]:
    """What a bandit is told of the arms: type and level; the traps look like a fourth type at level 0."""
    features = [{"level": float(level), "type": float(k)} for k, level in zip(_TYPE, _LEVEL, strict=True)] + [
        {"level": 0.0, "type": float(NUM_TYPES)}
    ] * 2
    return {name: ArmInfo(None, features[k]) for k, name in enumerate(arm_names(has_traps))}


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))
