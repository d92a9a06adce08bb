"""Bandits over books, coins and dead arms, with a small policy that really learns. One command:

    python -m benchmarks.book_arms [REGIME ...] [--seeds 200-207] [--bandits headroom gated_sec sec]

A book of n answers is an arm: 32 keys, paired with the answers at random. A coin pays at random whatever is answered, a
dead arm never pays. The policy and its objective (`repo_adaptive` with one strength for all, learning rate 1e-3, 32
groups of 8 a step) are those of `benchmarks/many_books.py`, all seeds side by side: some two minutes a bandit.

    rising    books of 4, 8, 16 and 64 answers, a coin, three dead arms; 1,600 steps
    crowded   books of 4, 8, 12, 16, 24 and 32 answers, three coins, three dead arms; 1,600 steps
    half      books of 4, 8, 16 and 32 answers, four dead arms; 1,000 steps
    books     books of 4, 8, 12, 16, 24 and 32 answers and nothing else; 1,000 steps

Prints the accuracy of the books at the end (the exact probability of the right answer, mean over all keys) and its mean
over the run, less those of uniform with the same seeds, with 95 % t-intervals; by book; and the share of groups that
went to the rest. Seeds below 100 were used to choose the options of `headroom`, which counts here what falls as
movement too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.many_books import (
    GROUP_SIZE,
    GROUPS,
    ONE_STRENGTH,
    SHAPE,
    Adam,
    Strength,
    Weights,
    draw_answers,
    entropy_of,
    logits,
)
from benchmarks.paired import seed_range, with_interval
from environments.codebook import Codebook
from environments.codebook import Config as BookConfig
from orchestrator import random_streams, registry
from orchestrator.bandits.contracts import ArmInfo, Bandit, Feedback, signals_of
from orchestrator.choosing.choice import make_bandit
from orchestrator.runs.environments import vocabulary_sample
from orchestrator.simulation.trials import signal_table
from policies.models.tiny import make_tiny
from policies.objectives.config import ObjectiveConfig
from policies.objectives.shapers import repo
from policies.policy import Policy

Floats = NDArray[np.float64]
KEYS, LR, LOOKS = 32, 1e-3, 10
OPTIONS = {"headroom": {"falling": 1.0}}  # its default when docs/results/defaults.md was measured


@dataclass(frozen=True)
class Regime:
    """Which arms there are, and for how many steps."""

    answers: tuple[int, ...]  # of the books
    num_coins: int
    num_dead: int
    num_steps: int

    @property
    def num_arms(self) -> int:
        """Books first, then coins, then what is dead."""
        return len(self.answers) + self.num_coins + self.num_dead


REGIMES = {
    "rising": Regime((4, 8, 16, 64), 1, 3, 1600),
    "crowded": Regime((4, 8, 12, 16, 24, 32), 3, 3, 1600),
    "half": Regime((4, 8, 16, 32), 0, 4, 1000),
    "books": Regime((4, 8, 12, 16, 24, 32), 0, 0, 1000),
}


class Shelf:
    """All keys of a regime, arm by arm, and policies that can read them."""

    def __init__(self, regime: Regime) -> None:
        num_answers = [*regime.answers, *[2] * (regime.num_coins + regime.num_dead)]
        self.arms = [f"arm{k:02d}" for k in range(regime.num_arms)]
        categories = dict(zip(self.arms, num_answers, strict=True))
        book = Codebook("book", BookConfig(keys=KEYS, categories=categories))
        self._sample = vocabulary_sample({"book": book})
        policy, tasks = self._policy(0), [book.task(arm, index) for arm in self.arms for index in range(KEYS)]
        self.prompts_NP = torch.tensor([policy.encode(task.messages) for task in tasks])
        self.answers_N = torch.tensor([policy.encode_answer(task.answer or "", ends=False)[0] for task in tasks])

    def _policy(self, seed: int) -> Policy:
        return make_tiny(SHAPE, self._sample, random_streams.integer(seed, "policy"), torch.device("cpu"))

    def weights(self, seeds: Sequence[int]) -> Weights:
        """The weights of one policy for each seed."""
        starts = [dict(self._policy(seed).model.named_parameters()) for seed in seeds]
        return {name: torch.stack([start[name].detach() for start in starts]) for name in starts[0]}


class Learner:
    """One run of those that go side by side: its bandit, the order of its keys, its strength."""

    def __init__(self, regime: Regime, arms: Sequence[str], bandit: str, seed: int) -> None:
        self.regime, self.rng = regime, random_streams.generator(seed, "book_arms")
        config = registry.config_class("bandits", bandit)(**OPTIONS.get(bandit, {}))
        about = {arm: ArmInfo(KEYS) for arm in arms}
        rng = random_streams.generator(seed, "bandits")
        self.bandit: Bandit = make_bandit(config, about, rng, regime.num_steps)
        self.strength = Strength(ObjectiveConfig.model_validate(ONE_STRENGTH))
        self.num_groups = np.zeros(len(arms), np.int64)
        self._worth, self._place = signal_table(signals_of(config).signal), {arm: k for k, arm in enumerate(arms)}
        self._orders = [self.rng.permutation(KEYS) for _ in arms]
        self._next = [0] * len(arms)

    def ask(self) -> NDArray[np.int64]:
        """Pick the arms of a step, and a key of each: all keys of an arm once before any comes again."""
        self._picks = self.bandit.pick(GROUPS)
        self.arms_N = np.array([self._place[pick.arm] for pick in self._picks])
        self.num_groups += np.bincount(self.arms_N, minlength=len(self._orders))
        asked = []
        for arm in self.arms_N.tolist():
            if self._next[arm] == KEYS:
                self._orders[arm], self._next[arm] = self.rng.permutation(KEYS), 0
            asked.append(arm * KEYS + int(self._orders[arm][self._next[arm]]))
            self._next[arm] += 1
        return np.array(asked)

    def pay(self, is_right_NG: torch.Tensor) -> torch.Tensor:
        """What the answers earn [N, G]: a coin what it falls on, a dead arm nothing."""
        reward_NG, num_books = is_right_NG.clone(), len(self.regime.answers)
        is_coin = (self.arms_N >= num_books) & (self.arms_N < num_books + self.regime.num_coins)
        reward_NG[torch.from_numpy(self.arms_N >= num_books)] = 0.0
        coins = (self.rng.random((int(is_coin.sum()), GROUP_SIZE)) < 0.5).astype(np.float32)
        reward_NG[torch.from_numpy(is_coin)] = torch.from_numpy(coins)
        return reward_NG

    def learn(self, solved_N: Sequence[int], entropy_N: Floats, signal: float) -> None:
        """Tell the bandit and the controller of a step."""
        told = [
            Feedback(p, float(self._worth[c]), 1, c / GROUP_SIZE) for p, c in zip(self._picks, solved_N, strict=True)
        ]
        self.bandit.learn(told)
        step = {}
        for arm in np.unique(self.arms_N).tolist():
            own = entropy_N[self.arms_N == arm]
            step[f"arm{arm:02d}"] = (float(own.sum()) * GROUP_SIZE, len(own) * GROUP_SIZE)
        self.strength.observe(step, signal)


def train(regime: Regime, bandit: str, seeds: Sequence[int]) -> tuple[Floats, Floats]:
    """Train a policy for each seed; gives its accuracies at 11 looks [R, 11, arms], and groups [R, arms]."""
    shelf = Shelf(regime)
    weights = shelf.weights(seeds)
    adam = Adam(weights, torch.full((len(seeds),), LR))
    learners = [Learner(regime, shelf.arms, bandit, seed) for seed in seeds]
    accuracy, entropy = _look(shelf, weights)
    for learner, own in zip(learners, entropy, strict=True):
        learner.strength.reading.set_baseline(dict(zip(shelf.arms, own.tolist(), strict=True)))
    looks = [accuracy]
    for step in range(1, regime.num_steps + 1):
        _step(shelf, weights, adam, learners)
        if step % (regime.num_steps // LOOKS) == 0:
            looks.append(_look(shelf, weights)[0])
    return np.stack(looks, 1), np.stack([learner.num_groups for learner in learners])


def _step(shelf: Shelf, weights: Weights, adam: Adam, learners: Sequence[Learner]) -> None:
    asked_RN = torch.from_numpy(np.stack([learner.ask() for learner in learners]))
    for weight in weights.values():
        weight.requires_grad_()
    lp_RNV = logits(weights, shelf.prompts_NP[asked_RN]).log_softmax(-1)
    given_RNG = draw_answers(lp_RNV.detach(), [learner.rng for learner in learners])
    lp_RNG, entropy_RN = lp_RNV.gather(-1, given_RNG), entropy_of(lp_RNV.detach())
    is_right_RNG = (given_RNG == shelf.answers_N[asked_RN][..., None]).float()
    reward_RNG = torch.stack([one.pay(right) for one, right in zip(learners, is_right_RNG, strict=True)])
    advantage_RNG = (reward_RNG - reward_RNG.mean(-1, keepdim=True)) * GROUP_SIZE / (GROUP_SIZE - 1)
    strength_R = torch.tensor([learner.strength.value for learner in learners])
    centred_RNG = lp_RNG.detach() + entropy_RN[..., None]
    loss = -(repo.shape(advantage_RNG, centred_RNG, strength_R[:, None, None]) * lp_RNG).sum() / (GROUPS * GROUP_SIZE)
    gradients = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
    with torch.no_grad():
        for weight in weights.values():
            weight.requires_grad_(False)
        adam.step(weights, gradients)
    signals = advantage_RNG.abs().mean((1, 2)).tolist()
    solved_RN = reward_RNG.sum(-1).int().tolist()
    for learner, solved, entropy, signal in zip(learners, solved_RN, entropy_RN.numpy(), signals, strict=True):
        learner.learn(solved, entropy, signal)


def _look(shelf: Shelf, weights: Weights) -> tuple[Floats, Floats]:
    """Accuracy and entropy of every arm, [R, arms]: exact, over all keys."""
    num_runs = len(next(iter(weights.values())))
    with torch.no_grad():
        lp_RNV = logits(weights, shelf.prompts_NP.expand(num_runs, -1, -1)).log_softmax(-1)
    right_RN1 = lp_RNV.gather(-1, shelf.answers_N.expand(num_runs, -1)[..., None]).exp()
    by_arm = partial(torch.Tensor.view, size=(num_runs, len(shelf.arms), KEYS))
    means = [by_arm(of).mean(-1).double().numpy() for of in (right_RN1[..., 0], entropy_of(lp_RNV))]
    return means[0], means[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("regimes", nargs="*", metavar="REGIME", help="default: all")
    parser.add_argument("--seeds", type=seed_range, default="200-207")
    parser.add_argument("--bandits", nargs="+", default=["headroom", "gated_sec", "sec"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.regimes or REGIMES:
        regime, base = REGIMES[name], None
        for bandit in ["uniform", *options.bandits]:
            accuracy, groups = train(regime, bandit, list(options.seeds))
            books = accuracy[..., : len(regime.answers)]
            final, over = books[:, -1].mean(-1), books.mean((1, 2))
            base = base or (final, over)
            less = (
                f"{with_interval(final - base[0])}, over the run {with_interval(over - base[1])}"
                if bandit != "uniform"
                else ""
            )
            by_book = " ".join(f"{value:.2f}" for value in books[:, -1].mean(0))
            rest = groups[:, len(regime.answers) :].sum() / groups.sum()
            print(
                f"{name:8} {bandit:10} {final.mean():.3f} {less}  by book {by_book}; elsewhere {rest:.0%}", flush=True
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
