"""Two levels on LSM-1, scenario D: a scheduler picks an environment a stage, its bandit a category a slot.

The three types are the environments, their levels the categories; forgetting .02; stages of 20 steps of 64 groups. A
share of every batch is replay: uniform over the eight skills of the other environments, whose bandits learn from it.
At every boundary each environment is scored on 64 held-out trials a skill. Without a scheduler one bandit chooses
among all twelve. Heterogeneous: type 0 starts mastered, s = d + 3, and decays when unused; type 2 is practically
impossible, d + 6. Source: curricula reference, section 8.5.

The scheduler is judged by the same code as a run's (`orchestrator.choosing.stage_scheduler`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orchestrator.bandits.contracts import ArmInfo, Bandit, Floats, signals_of
from orchestrator.choosing.stage_scheduler import StageScheduler
from orchestrator.errors import UserError
from orchestrator.progress import Progress
from orchestrator.simulation.skill_worlds import (
    EVALUATION,
    POLICY,
    follow_one_bandit,
    type_means,
)
from orchestrator.simulation.skills import (
    BATCH,
    DIFFICULTY,
    NUM_LEVELS,
    NUM_SKILLS,
    NUM_TYPES,
    Skills,
    generator,
)
from orchestrator.simulation.trials import (
    Candidate,
    Trial,
    TrialSetting,
    feedback,
    make,
    make_bandit,
    signal_table,
)
from orchestrator.simulation.world_policies import Gap, GapConfig, OracleConfig

STEPS_PER_STAGE = 20
FORGETTING = 0.02
HELD_OUT = 64  # trials a skill and boundary
ENVIRONMENTS = [f"type{k}" for k in range(NUM_TYPES)]
CATEGORIES = [f"level{level}" for level in range(NUM_LEVELS)]
GROUPS = tuple(f"type {k}" for k in range(NUM_TYPES))


def run_stages(entrant: Candidate, seed: int, setting: TrialSetting) -> Trial:
    """Scenario D with environments alike."""
    return _trial(Skills(generator(seed), FORGETTING), entrant, seed, setting)


def run_unlike_stages(entrant: Candidate, seed: int, setting: TrialSetting) -> Trial:
    """Scenario D with one environment mastered and one impossible."""
    skills, difficulty = np.zeros(NUM_SKILLS), DIFFICULTY.copy()
    skills[:NUM_LEVELS] = DIFFICULTY[:NUM_LEVELS] + 3
    difficulty[-NUM_LEVELS:] += 6
    return _trial(Skills(generator(seed), FORGETTING, skills, difficulty), entrant, seed, setting)


def _trial(world: Skills, entrant: Candidate, seed: int, setting: TrialSetting) -> Trial:
    before = world.pass_rates()
    if entrant.scheduler is None:
        rates, places = follow_one_bandit(world, entrant, seed, setting.num_steps)
    else:
        rates, places = TwoLevels(world, entrant, seed, setting).follow()
    means, scores = rates.mean(axis=1), type_means(rates)
    peaks = np.maximum(scores.max(axis=0), type_means(before))
    numbers = {
        "auc": means.mean(),
        "final": means[-1],
        "worst": scores[-1].min(),
        "forgetting": (peaks - scores[-1]).mean(),
    }
    shares = np.stack([(places // NUM_LEVELS == k).mean(axis=1) for k in range(NUM_TYPES)], axis=1)
    return Trial({name: float(value) for name, value in numbers.items()}, means, shares)


class TwoLevels:
    """A scheduler over the environments and a bandit in each, kept across stages. All draw from one stream."""

    def __init__(self, world: Skills, entrant: Candidate, seed: int, setting: TrialSetting) -> None:
        if isinstance(entrant.bandit, OracleConfig):
            raise UserError("the oracle chooses among all skills at once: give it --scheduler none")
        if setting.num_steps % STEPS_PER_STAGE:
            raise UserError(f"--steps: stages have {STEPS_PER_STAGE} steps here, so say a multiple of it")
        self.world, self.setting = world, setting
        self.rng, self.evaluation = generator(seed + POLICY), generator(seed + EVALUATION)
        self.form = signals_of(entrant.bandit).signal
        self.at = Progress(setting.num_steps // STEPS_PER_STAGE, STEPS_PER_STAGE)
        about = {name: ArmInfo(None, {"level": float(k)}) for k, name in enumerate(CATEGORIES)}
        steps = -(-setting.num_steps // NUM_TYPES)
        self.inner = [make_bandit(entrant.bandit, about, self.rng, steps) for _ in ENVIRONMENTS]
        assert entrant.scheduler is not None
        outer: Bandit
        if isinstance(entrant.scheduler, GapConfig):
            outer = Gap(ENVIRONMENTS, self.rng)
        else:
            outer = make("schedulers", entrant.scheduler, ENVIRONMENTS, self.rng)
        self.outer = StageScheduler(entrant.scheduler, outer)

    def follow(self) -> tuple[Floats, NDArray[np.intp]]:
        """Run all stages: pass rates after each step [T, 12], and the skills of all slots [T, 64]."""
        rates, places = [], []
        self._boundary()
        for _ in range(self.at.num_stages):
            self.at.begin_stage(self.outer.next_environment().pick)
            for _ in range(STEPS_PER_STAGE):
                places.append(self._step(ENVIRONMENTS.index(self.at.environment or "")))
                rates.append(self.world.pass_rates())
            self._boundary()
        return np.array(rates), np.array(places)

    def _step(self, own: int) -> np.ndarray:
        """Fill, play and learn one batch of a stage on environment `own`; [64] of the skills played."""
        num_replay = round(self.setting.replay_share * BATCH)
        picks = {own: self.inner[own].pick(BATCH - num_replay)}
        # Replay slots are uniform over the skills of the others, whose bandits hear of them.
        skills = np.array([k for k in range(NUM_SKILLS) if k // NUM_LEVELS != own])
        drawn = skills[self.rng.integers(len(skills), size=num_replay)]
        for environment in np.unique(drawn // NUM_LEVELS).tolist():
            levels = drawn[drawn // NUM_LEVELS == environment] % NUM_LEVELS
            arms = [CATEGORIES[level] for level in levels]
            picks[environment] = self.inner[environment].witness(arms, [1 / NUM_LEVELS] * len(arms))
        places = np.array(
            [
                environment * NUM_LEVELS + CATEGORIES.index(pick.arm)
                for environment, some in picks.items()
                for pick in some
            ],
            np.intp,
        )
        solved = self.world.play(places)
        form = self.form if self.setting.stage_signal == "own" else "raw"
        self.at.begin_step()
        self.at.signal_sum += float(signal_table(form)[solved[: BATCH - num_replay]].sum())
        self.at.num_signals += BATCH - num_replay
        for environment, some in picks.items():
            told, solved = solved[: len(some)], solved[len(some) :]
            self.inner[environment].learn(feedback(some, told, self.form))
        return places

    def _boundary(self) -> None:
        """Score every environment on held-out trials; the scheduler hears what the stage earned."""
        trials = self.evaluation.binomial(HELD_OUT, self.world.pass_rates()) / HELD_OUT
        scores = dict(zip(ENVIRONMENTS, type_means(trials).tolist(), strict=True))
        self.outer.end_stage(self.at, scores)
        if isinstance(self.outer.scheduler, Gap):
            self.outer.scheduler.see(scores)
        self.at.end_boundary()
