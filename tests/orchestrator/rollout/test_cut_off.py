"""`cut_off: mask`: an episode without a gradient of its own, which the others of its group are still compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from orchestrator.played_group import Sample
from policies.config import LearnerConfig, PolicyConfig
from policies.learner import Learner
from policies.objectives import Objective, ObjectiveConfig
from policies.objectives.contracts import Trajectory
from policies.objectives.presets import PRESETS
from policies.policy import Policy
from policies.samplers.contracts import Request
from tests.orchestrator.rollout.chats import Scripted, chats, played, player_of, small_policy


def samples(policy: Policy, cut_off: str = "mask") -> list[Sample]:
    """Play a group of four episodes of two turns; the last one is cut off in its second."""
    seeds: list[int] = []

    def script(request: Request, call: int) -> str:
        seeds.append(request.seed)
        return "far too long" if len(seeds) == 8 else f"{'ok' * call}{len(seeds) % 3}"

    player = player_of(Scripted(policy, script), chats(2), cut_off=cut_off, turn_tokens=6)
    (group,) = played(player, [2], size=4)
    assert [sample.was_cut_off for sample in group.samples] == [False, False, False, True]
    return list(group.samples)


def rows(of: Sequence[Sample], rewards: Sequence[float]) -> list[Trajectory]:
    return [
        replace(sample.trajectory(0, reward), correct=reward == 1, components={"right": reward, "short": 0.5})
        for sample, reward in zip(of, rewards, strict=True)
    ]


def updated(preset: str, policy: Policy, trajectories: Sequence[Trajectory]) -> list[torch.Tensor]:
    """Give the weights after one update."""
    objective = Objective(ObjectiveConfig.model_validate(preset))
    config = LearnerConfig(lr=0.01, warmup=0, updates=1).resolved(PolicyConfig())
    learner = Learner(policy, config, keeps_reference="lp_ref" in objective.needs)
    report = learner.update(objective.prepare(trajectories, learner.reference_lp), objective)
    assert report.num_skipped == 0
    assert all(total == total for total, _ in report.sums.values())
    return [parameter.detach() for parameter in policy.model.parameters()]


def same(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("preset", PRESETS)
def test_what_a_masked_episode_wrote_moves_nothing(preset: str) -> None:
    policy = small_policy()
    own = rows(samples(policy), (1.0, 0.0, 0.5, 0.25))
    assert not own[-1].mask.any()
    other = [*own[:-1], replace(own[-1], ids=own[-1].ids[::-1].copy(), logprobs=own[-1].logprobs * 3)]
    assert same(updated(preset, policy, own), updated(preset, small_policy(), other))


@pytest.mark.parametrize("preset", ["rloo", "grpo", "dr_grpo", "repo", "repo_r", "entropy_bonus"])
def test_the_others_are_compared_with_its_score(preset: str) -> None:
    policy = small_policy()
    of = samples(policy)
    low, high = (rows(of, (1.0, 0.0, 0.5, own)) for own in (0.0, 1.0))
    objective = Objective(ObjectiveConfig.model_validate(preset))
    before, after = (objective.prepare(own).advantage_BT.sum(-1) for own in (low, high))
    assert (before[:3] > after[:3]).all(), "it was better, so they were less so"
    assert not same(updated(preset, policy, low), updated(preset, small_policy(), high))


def test_scored_it_has_a_gradient() -> None:
    policy = small_policy()
    own = rows(samples(policy, "score"), (1.0, 0.0, 0.5, 0.25))
    other = [*own[:-1], replace(own[-1], ids=own[-1].ids[::-1].copy())]
    assert own[-1].mask.any()
    assert not same(updated("rloo", policy, own), updated("rloo", small_policy(), other))


@pytest.mark.parametrize("preset", PRESETS)
def test_an_update_of_nothing_but_masked_episodes_leaves_the_weights_alone(preset: str) -> None:
    policy = small_policy()
    masked = [replace(row, mask=row.mask & False) for row in rows(samples(policy), (1.0, 0.0, 0.5, 0.25))]
    before = [parameter.detach().clone() for parameter in policy.model.parameters()]
    assert same(updated(preset, policy, masked), before)
