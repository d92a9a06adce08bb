"""The toy continual check of objectives.md 17.2: what the project is about, in miniature.

Softmax tables over 8 actions, two of which are rewarded; which two changes at every boundary while the logits
stay. A policy that lost its entropy does not learn the next stage. All seeds run side by side, each with its own
random numbers and its own controller. S seeds, K tables, N samples of a table, V actions.

    python -m tests.policies.objectives.test_continual_toy      # the table of 17.2, of 24 seeds
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from policies.objectives.controllers import geometric_signed
from policies.objectives.estimators import rloo
from policies.objectives.shapers import repo, repo_r

SEEDS, TABLES, SAMPLES, ACTIONS, STAGES, STEPS, STEP_SIZE = 12, 16, 16, 8, 3, 300, 8.0
# From advantages, log-probs and entropies of the samples [S, K, N] and the step's mean entropies [S].
Shape = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Outcome:
    """Of one stage, for every seed [S]."""

    recovered: Tensor  # first step whose 5-step mean accuracy reaches .7; STEPS when none does
    accuracy: Tensor  # mean of the last 20 steps


def keep(advantage: Tensor, lp: Tensor, entropy: Tensor, mean_entropy: Tensor) -> Tensor:
    return advantage


def push(beta: float) -> Shape:
    return lambda advantage, lp, entropy, mean_entropy: repo.shape(advantage, lp + entropy, beta)


class Controlled:
    """REPO-R with one controller a seed, whose target is the entropy of step 1."""

    def __init__(self, high: float) -> None:
        self.high = high
        self.controllers: list[geometric_signed.GeometricSigned] = []

    def __call__(self, advantage: Tensor, lp: Tensor, entropy: Tensor, mean_entropy: Tensor) -> Tensor:
        if not self.controllers:
            configs = [geometric_signed.Config(target=h, high=self.high) for h in mean_entropy.tolist()]
            self.controllers = [geometric_signed.GeometricSigned(config, 1e-3) for config in configs]
        zeta_S = torch.tensor([controller.value for controller in self.controllers], dtype=lp.dtype)
        for controller, reading in zip(self.controllers, mean_entropy.tolist(), strict=True):
            controller.update(reading)
        return repo_r.shape(advantage, lp, zeta_S[:, None, None])


def play(shape: Shape, num_seeds: int = SEEDS) -> list[Outcome]:
    rngs = [np.random.default_rng(seed) for seed in range(num_seeds)]

    def draw(one: Callable[[np.random.Generator], np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack([one(rng) for rng in rngs]))

    logits = draw(lambda rng: rng.normal(0, 0.3, (TABLES, ACTIONS)))
    outcomes = []
    for _ in range(STAGES):
        good = draw(lambda rng: rng.random((TABLES, ACTIONS)).argsort(-1)[:, :2])
        accuracies = []
        for _ in range(STEPS):
            accuracy = step(logits, good, draw(lambda rng: rng.random((TABLES, SAMPLES))), shape)
            accuracies.append(accuracy)
        outcomes.append(judge(torch.stack(accuracies, -1)))
    return outcomes


def step(logits: Tensor, good: Tensor, uniform: Tensor, shape: Shape) -> Tensor:
    """One exact policy-gradient step in place, a mean over all samples; returns their accuracy, [S]."""
    p = logits.softmax(-1)
    entropy = -(p * p.log()).sum(-1, keepdim=True)
    action = torch.searchsorted(p.cumsum(-1), uniform).clamp(max=ACTIONS - 1)
    reward = (action[..., None] == good[:, :, None, :]).any(-1).double()
    lp = p.log().gather(-1, action)
    group_B = torch.arange(len(p) * TABLES).repeat_interleave(SAMPLES)
    advantage = shape(rloo.estimate(reward.flatten(), group_B).view_as(reward), lp, entropy, entropy.mean((-1, -2)))
    pushed = torch.zeros_like(p).scatter_add(-1, action, advantage)
    logits += STEP_SIZE * (pushed - advantage.sum(-1, keepdim=True) * p) / (TABLES * SAMPLES)
    return reward.mean((-1, -2))


def judge(accuracy: Tensor) -> Outcome:
    reached = accuracy.unfold(-1, 5, 1).mean(-1) >= 0.7
    first = torch.where(reached.any(-1), reached.int().argmax(-1) + 5, STEPS)
    return Outcome(first, accuracy[:, -20:].mean(-1))


def test_without_a_force_on_entropy_no_seed_recovers() -> None:
    """Reference: objectives.md 17.2."""
    first, *later = play(keep)
    assert first.recovered.max() < 60
    assert first.accuracy.min() >= 0.97
    assert [int((stage.recovered < STEPS).sum()) for stage in later] == [0, 0]


def test_repo_r_with_room_to_act_recovers_in_every_stage() -> None:
    """Reference: objectives.md 17.2."""
    first, *later = play(Controlled(high=0.5))
    assert first.accuracy.min() >= 0.88
    assert [int(stage.recovered.max()) < 150 for stage in later] == [True, True]


@pytest.mark.slow
def test_at_the_published_bound_repo_r_is_too_weak_for_so_few_actions() -> None:
    """Reference: objectives.md 17.2."""
    first, *later = play(Controlled(high=0.05))
    assert first.recovered.max() < 60
    assert [bool((stage.recovered < STEPS).all()) for stage in later] == [False, False]


@pytest.mark.slow
@pytest.mark.parametrize(("beta", "recovers"), [(0.05, False), (0.2, True)])
def test_repo_needs_enough_strength(beta: float, recovers: bool) -> None:
    """Reference: objectives.md 17.2."""
    _, *later = play(push(beta))
    assert all(bool((stage.recovered < 150).all()) for stage in later) == recovers


def as_text(stage: Outcome) -> str:
    there, low, high = stage.recovered[stage.recovered < STEPS], stage.accuracy.min(), stage.accuracy.max()
    last = f", step {int(there.max())}" if len(there) else ""
    return f"{len(there)}{last}; {low:.2f} to {high:.2f}"


if __name__ == "__main__":
    shapes: dict[str, Shape] = {
        "none": keep,
        "`repo_r`, zeta_max .05": Controlled(0.05),
        "`repo_r`, zeta_max .5": Controlled(0.5),
        "`repo`, beta .05": push(0.05),
        "`repo`, beta .2": push(0.2),
    }
    for name, shape in shapes.items():
        print(f"| {name} | {' | '.join(map(as_text, play(shape, 24)))} |", flush=True)
