"""Bandits beside uniform in thirteen worlds of skills. One command, five minutes on one core:

    python -m benchmarks.bandit_worlds [WORLD ...] [--seeds 210-217] [--bandits headroom gated_sec sec discounted_ucb]
                                       [--baseline uniform]

A bandit is a name or a map of its options: "{type: headroom, falling: 1}".

The physics is that of LSM-1 (`orchestrator.simulation.skills`): pass rate sigmoid(s - d), a group's practice is
4 p (1 - p), a skill that gets less than half of its share fades. What differs is which arms there are:

    skills         the twelve skills of scenario A: three types of four levels, which help each other
    traps          the same, an arm of pure noise and an impossible one (scenario B)
    noisy          the same, eight arms of noise and two impossible ones
    rare noise     the same, four arms of noise that pass one time in eight, and two impossible ones
    drifting       the same, three arms of noise whose level drifts
    tides          four skills of rising difficulty, two arms of noise whose level swings with how often they are played
    shocks         the same, and four times a type is forgotten at once
    six            six skills of rising difficulty that share nothing and do not fade
    six and six    the same beside six arms of noise
    half           six skills, six that are out of reach
    chains         two types of four levels; those of the second are out of reach
    hard           four skills that hardly pass at first, and an arm of noise
    many           a hundred skills of twenty difficulties, and a large learning rate

Prints, for every bandit, AUC and final mean pass rate of the skills, less those of the baseline with the same seeds,
with 95 % t-intervals. Seeds below 100 were used to choose the options of `headroom`.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field

import numpy as np
import yaml
from numpy.typing import NDArray

from benchmarks.paired import seed_range, with_interval
from orchestrator import registry
from orchestrator.bandits.contracts import ArmInfo, Feedback, signals_of
from orchestrator.choosing.choice import make_bandit
from orchestrator.simulation.skills import DIFFICULTY, GROUP_SIZE, transfer
from orchestrator.simulation.trials import signal_table

Floats = NDArray[np.float64]
SPREAD = 0.5  # of a group's difficulty around its skill's
SHARE = 0.5  # of an equal share of the batch: with less a skill fades
POLICY = 10**6  # added to the seed


def levels(num: int) -> Floats:
    """Transfer among the levels of one type."""
    return transfer()[:num, :num]


def alone(num: int) -> Floats:
    """No transfer."""
    return np.eye(num)


@dataclass(frozen=True)
class World:
    """Which arms there are, and how they are learnt."""

    difficulty: Floats
    transfer: Floats
    forgetting: float = 0.005
    rate: float = 0.5
    noise: int = 0  # arms of noise
    noise_level: float = 0.5  # their pass rate
    drift: float = 0.0  # standard deviation of its change, a step
    swing: int = 0  # groups of an arm of noise in which its pass rate goes from .5 to .9, .1 and back; 0: it stays
    impossible: int = 0
    shocks: int = 0
    num_steps: int = 300
    batch: int = 64

    @property
    def num_arms(self) -> int:
        """Skills first, then noise, then what is impossible."""
        return len(self.difficulty) + self.noise + self.impossible


WORLDS = {
    "skills": World(DIFFICULTY, transfer()),
    "traps": World(DIFFICULTY, transfer(), noise=1, impossible=1),
    "noisy": World(DIFFICULTY, transfer(), noise=8, impossible=2),
    "rare noise": World(DIFFICULTY, transfer(), noise=4, noise_level=0.12, impossible=2),
    "drifting": World(DIFFICULTY, transfer(), noise=3, drift=0.03),
    "tides": World(
        np.array([0, 1.2, 2.4, 3.6]), alone(4), forgetting=0, rate=0.2, noise=2, swing=800, num_steps=1000, batch=16
    ),
    "shocks": World(DIFFICULTY, transfer(), shocks=4),
    "six": World(np.array([0, 0.9, 1.8, 2.7, 3.6, 4.5]), alone(6), forgetting=0),
    "six and six": World(np.array([0, 0.9, 1.8, 2.7, 3.6, 4.5]), alone(6), forgetting=0, noise=6),
    "half": World(np.array([0, 0.8, 1.6, 2.4, 3.2, 4.0, *[14.0] * 6]), alone(12), forgetting=0),
    "chains": World(
        np.array([0, 1.5, 3, 4.5, 12, 13.5, 15, 16.5]), np.kron(np.eye(2), levels(4)).astype(np.float64), 0.002
    ),
    "hard": World(np.array([3.5, 4, 4.5, 5]), alone(4), forgetting=0, noise=1, num_steps=400, batch=32),
    "many": World(np.array([*np.linspace(0, 5, 20)] * 5), alone(100), forgetting=0, rate=4.0),
}


@dataclass
class Course:
    """A world under way."""

    world: World
    rng: np.random.Generator
    skills: Floats = field(init=False)
    noise: Floats = field(init=False)
    played: Floats = field(init=False)  # groups of each arm of noise

    def __post_init__(self) -> None:
        self.skills = np.zeros(len(self.world.difficulty))
        level, num = self.world.noise_level, self.world.noise
        self.noise = self.rng.uniform(0.2, 0.8, num) if self.world.drift else np.full(num, level)
        self.played = np.zeros(num)

    def pass_rates(self) -> Floats:
        """Of every skill."""
        return _sigmoid(self.skills - self.world.difficulty)

    def play(self, places: NDArray[np.intp]) -> NDArray[np.intp]:
        """Play a batch of groups on these arms [B] and learn from it: how many of 8 succeeded, [B]."""
        world, num = self.world, len(self.skills)
        is_skill, is_noise = places < num, (places >= num) & (places < num + world.noise)
        chance = np.zeros(len(places))
        if world.swing:  # the arms by turns
            turned = self.played / world.swing + np.arange(world.noise) / world.noise
            self.noise = 0.5 + 0.4 * np.sin(2 * np.pi * turned)
            self.played += np.bincount(places[is_noise] - num, minlength=world.noise)
        own = places[is_skill]
        offset = self.rng.normal(0.0, SPREAD, len(places))
        chance[is_skill] = _sigmoid(self.skills[own] - world.difficulty[own] - offset[is_skill])
        chance[is_noise] = self.noise[places[is_noise] - num]
        solved = self.rng.binomial(GROUP_SIZE, chance)
        p = solved[is_skill] / GROUP_SIZE
        practice = np.bincount(own, 4 * p * (1 - p), num) / len(places)
        share = np.bincount(own, minlength=num) / len(places)
        lost = world.forgetting * self.skills * np.maximum(0, 1 - share / (SHARE / num))
        self.skills = self.skills + world.rate * (practice @ world.transfer) - lost
        if world.drift:
            moved = self.noise + self.rng.normal(0.0, world.drift, world.noise)
            self.noise = np.where(moved < 0.1, 0.2 - moved, np.where(moved > 0.9, 1.8 - moved, moved))
        return np.asarray(solved)

    def shock(self) -> None:
        """Forget one type."""
        first = 4 * int(self.rng.integers(len(self.skills) // 4))
        self.skills[first : first + 4] = 0


def run(world: World, bandit: str, seed: int) -> tuple[float, float]:
    """AUC and final mean pass rate of the skills."""
    said = yaml.safe_load(bandit)
    options = said if isinstance(said, dict) else {"type": said}
    config = registry.config_class("bandits", options["type"])(**options)
    course = Course(world, np.random.default_rng(seed))
    about = {f"arm{k:03d}": ArmInfo() for k in range(world.num_arms)}
    chooser = make_bandit(config, about, np.random.default_rng(seed + POLICY), world.num_steps)
    place_of = {name: k for k, name in enumerate(about)}
    worth = signal_table(signals_of(config).signal)
    shocks = set(np.linspace(0, world.num_steps, world.shocks + 2)[1:-1].astype(int).tolist())
    means = []
    for step in range(world.num_steps):
        if step in shocks:
            course.shock()
        picks = chooser.pick(world.batch)
        solved = course.play(np.array([place_of[pick.arm] for pick in picks])).tolist()
        chooser.learn([Feedback(p, float(worth[c]), 1, c / GROUP_SIZE) for p, c in zip(picks, solved, strict=True)])
        means.append(course.pass_rates().mean())
    return float(np.mean(means)), float(means[-1])


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("worlds", nargs="*", metavar="WORLD", help="default: all")
    parser.add_argument("--seeds", type=seed_range, default="210-217")
    parser.add_argument("--baseline", default="uniform")
    parser.add_argument("--bandits", nargs="+", default=["headroom", "gated_sec", "sec", "discounted_ucb"])
    options = parser.parse_args()
    for name in options.worlds or WORLDS:
        base = [run(WORLDS[name], options.baseline, seed) for seed in options.seeds]
        auc, final = np.mean(base, axis=0)
        print(f"{name}: {options.baseline} AUC {auc:.3f}, final {final:.3f}", flush=True)
        for bandit in options.bandits:
            found = [run(WORLDS[name], bandit, seed) for seed in options.seeds]
            differences = np.array(found) - np.array(base)
            print(
                f"  {bandit:16} AUC {with_interval(differences[:, 0])}   final {with_interval(differences[:, 1])}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
