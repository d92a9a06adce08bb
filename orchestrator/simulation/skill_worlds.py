"""Worlds of LSM-1's skills: one bandit over all arms, or a scheduler over environments with a bandit in each.

One bandit (scenarios A and B, curricula reference, section 8.1) chooses among all twelve skills, in B also two traps.

Two levels (scenario D): the three types are the environments, their levels the categories; forgetting .02; stages of 20
steps of 64 groups. A share of every batch is replay: uniform over the eight skills of the other environments, whose
bandits learn from it. At every boundary each environment is scored on 64 held-out trials a skill. Without a scheduler
one bandit chooses among all twelve. Heterogeneous: type 0 starts mastered, s = d + 3, and decays when unused; type 2 is
practically impossible, d + 6. Source: curricula reference, section 8.5. The scheduler is judged by the same code as a
run's (`orchestrator.choosing.stage_scheduler`).

Two policies of these worlds only read what no run could tell them. The oracle reads the skills of the world, so it
bounds what a chooser can reach:

    v_i = 4 P_i (1 - P_i) (7 / 8) sum_k M_ik P_k (1 - P_k)      what a group of skill i teaches, all skills counted
    P = .9 softmax(v / .02) + .1 / 12 over the skills; never a trap

Greedy: it looks one step ahead. Source: curricula reference, section 8.2.

The gap rule: next is an environment that has lost much, or has much left to gain:

    g_k = 2 (best_k - s_k) + .3 (1 - s_k)        s: held-out score at the boundary, best: its best so far, of all k
    Q_k <- .5 Q_k + .5 g_k;   P = .85 softmax(Q / .1) + .05

Environments without a stage come first. It needs no reward, and chases what nobody can learn. It is no scheduler of a
run: those see the reward of their own stages, not all scores. Source: curricula reference, sections 7.2 and 8.5, for g
alone. That it is chosen through Q is our guess: the nearest to the published rows of ten rules tried on the same 30
seeds. A deterministic argmax of g, which 7.2 describes, has an AUC of .536 in world d, .010 above the published one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
from numpy.random import default_rng
from numpy.typing import NDArray
from typing_extensions import override

from orchestrator.bandits.contracts import ArmInfo, Bandit, ChooserConfig, Floats, StepFeedback, signals_of
from orchestrator.bandits.softmax import normalised, softmax
from orchestrator.choosing.choice import make_scheduler
from orchestrator.choosing.stage_scheduler import StageScheduler
from orchestrator.errors import UserError
from orchestrator.progress import Progress
from orchestrator.simulation import skills
from orchestrator.simulation.skills import (
    BATCH,
    GROUP_SIZE,
    NUM_LEVELS,
    NUM_SKILLS,
    NUM_TYPES,
    Skills,
    arm_names,
)
from orchestrator.simulation.trials import (
    Candidate,
    Trial,
    TrialSetting,
    feedback,
    make_bandit,
    signal_table,
)

SHARPNESS = 0.02  # the oracle's temperature, in units of v
MIXED = 0.1  # its uniform mass over the skills
LOST, LEFT = 2.0, 0.3  # weights of what was lost and of what is left
RATE, TEMPERATURE, LEAST = 0.5, 0.1, 0.05  # as `boltzmann` has them
POLICY, EVALUATION = 10**6, 2 * 10**6  # added to the seed: the streams of section 8
MASTERY = 0.8
LEVELS = (*(f"level {level}" for level in range(NUM_LEVELS)), "noise", "impossible")  # groups of arms
TYPES = tuple(f"type {k}" for k in range(NUM_TYPES))  # with stages
STEPS_PER_STAGE = 20
FORGETTING = 0.02
HELD_OUT = 64  # trials a skill and boundary
ENVIRONMENTS = [f"type{k}" for k in range(NUM_TYPES)]
CATEGORIES = [f"level{level}" for level in range(NUM_LEVELS)]


class OracleConfig(ChooserConfig):
    """The oracle takes no options."""

    type: Literal["oracle"] = "oracle"


class GapConfig(ChooserConfig):
    """The gap rule takes no options."""

    type: Literal["gap"] = "gap"


class Oracle(Bandit):
    """Chooses by what the world will learn."""

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, world: Skills) -> None:
        super().__init__(arms, rng)
        self.world = world
        self._at = [self.arms.index(name) for name in arm_names()]

    @override
    def preferences(self) -> Floats:
        p = self.world.pass_rates()
        room = p * (1 - p)
        value = 4 * room * (7 / 8) * (self.world.transfer @ room)
        chances = np.zeros(len(self.arms))
        chances[self._at] = (1 - MIXED) * softmax(value / SHARPNESS) + MIXED / NUM_SKILLS
        return chances

    @override
    def observe(self, seen: StepFeedback) -> None:
        pass  # it knows


class Gap(Bandit):
    """Goes by the held-out scores that `see` tells it."""

    best: Floats
    q: Floats

    def __init__(self, arms: list[str], rng: np.random.Generator) -> None:
        super().__init__(arms, rng)
        self.keep(best=0.0, q=0.0)

    def see(self, scores: Mapping[str, float]) -> None:
        """Take in the held-out scores of a boundary."""
        score = np.array([scores[arm] for arm in self.arms])
        self.best = np.maximum(self.best, score)
        gap = LOST * (self.best - score) + LEFT * (1 - score)
        self.q = (1 - RATE) * self.q + RATE * gap

    @override
    def preferences(self) -> Floats:
        new = self._picked == 0
        if new.any():
            return normalised(new.astype(np.float64))
        return np.asarray(LEAST + (1 - len(self.arms) * LEAST) * softmax(self.q / TEMPERATURE))

    @override
    def observe(self, seen: StepFeedback) -> None:
        pass  # it goes by the scores


def run_mixed(entrant: Candidate, seed: int, setting: TrialSetting, has_traps: bool) -> Trial:
    """Scenario A, or B with traps."""
    rates, places = follow_one_bandit(Skills(default_rng(seed)), entrant, seed, setting.num_steps, has_traps)
    means = rates.mean(axis=1)
    numbers = {
        "auc": means.mean(),
        "final": means[-1],
        "worst": rates[-1].min(),
        "steps": steps_to(MASTERY, means),
        "reached": float((means >= MASTERY).any()),
        "traps": (places >= NUM_SKILLS).mean(),
    }
    groups = LEVELS if has_traps else LEVELS[:NUM_LEVELS]
    return Trial({k: float(v) for k, v in numbers.items()}, means, group_shares(places, len(groups)))


def follow_one_bandit(
    world: Skills, entrant: Candidate, seed: int, num_steps: int, has_traps: bool = False
) -> tuple[Floats, NDArray[np.intp]]:
    """Let one bandit choose every slot: pass rates after each step [T, 12], and the arms of all slots [T, 64]."""
    names = arm_names(has_traps)
    place_of = {name: k for k, name in enumerate(names)}
    rng, form = default_rng(seed + POLICY), signals_of(entrant.bandit).signal
    bandit: Bandit = (
        Oracle(names, rng, world)
        if isinstance(entrant.bandit, OracleConfig)
        else make_bandit(entrant.bandit, skills.about_arms(has_traps), rng, num_steps)
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


def run_stages(entrant: Candidate, seed: int, setting: TrialSetting, are_alike: bool) -> Trial:
    """Scenario D with environments alike, or with one of them mastered and one impossible."""
    at_first, difficulty = np.zeros(NUM_SKILLS), skills.DIFFICULTY.copy()
    if not are_alike:
        at_first[:NUM_LEVELS] = difficulty[:NUM_LEVELS] + 3
        difficulty[-NUM_LEVELS:] += 6
    world = Skills(default_rng(seed), FORGETTING, at_first, difficulty)
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
        self.rng, self.evaluation = default_rng(seed + POLICY), default_rng(seed + EVALUATION)
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
            outer = make_scheduler(entrant.scheduler, ENVIRONMENTS, self.rng)
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
        others = np.array([k for k in range(NUM_SKILLS) if k // NUM_LEVELS != own])
        drawn = others[self.rng.integers(len(others), size=num_replay)]
        for environment in np.unique(drawn // NUM_LEVELS).tolist():
            levels = drawn[drawn // NUM_LEVELS == environment] % NUM_LEVELS
            arms = [CATEGORIES[level] for level in levels]
            picks[environment] = self.inner[environment].witness(arms, [1 / NUM_LEVELS] * len(arms))
            self.inner[environment].count_replay()
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
        self.at.add_scores((solved[: BATCH - num_replay] / GROUP_SIZE).tolist())
        for environment, some in picks.items():
            told, solved = solved[: len(some)], solved[len(some) :]
            self.inner[environment].learn(feedback(some, told, self.form))
        return places

    def _boundary(self) -> None:
        trials = self.evaluation.binomial(HELD_OUT, self.world.pass_rates()) / HELD_OUT
        scores = dict(zip(ENVIRONMENTS, type_means(trials).tolist(), strict=True))
        self.outer.end_stage(self.at, scores)
        if isinstance(self.outer.scheduler, Gap):
            self.outer.scheduler.see(scores)
        self.at.end_boundary()
