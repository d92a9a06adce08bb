"""The RL probe: how fast a copy learns by trying, by the policy gradient alone.

Plain RLOO (arXiv 2402.14740): leave-one-out advantages, one strictly on-policy update a step, no ratio, no clip, no
importance weights, no KL, no entropy term; a fresh AdamW. Nothing of the run's objective is in it, so that policies of
different objectives take the same test. Where a policy has stopped trying, groups have no spread and it learns nothing:
`zero_var_groups` says so, and the supervised probe may be fine at the same time.

Source: plasticity.md 3.1; arXiv 2606.09932, 2606.18487, 2603.11682.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from policies.config import LearnerConfig
from policies.learner import Learner
from policies.objectives import Objective
from policies.objectives.config import ObjectiveConfig
from policies.objectives.contracts import Trajectory
from policies.plasticity.curves import BETAS, CLIP_NORM, Budget, Curve
from policies.policy import Policy

OBJECTIVE = {"preset": "rloo_on_policy", "mismatch": "none"}


def probe(
    copy: Policy,
    budget: Budget,
    curve: Curve,
    play: Callable[[int], Sequence[Trajectory]],
    look: Callable[[], Mapping[str, float]],
    activation_checkpointing: bool | None = None,
) -> Iterator[int]:
    """Train a copy on what `play(step)` plays with its newest weights; `look` measures it. Yields the steps done.

    Metrics beside those of `look`: zero_var_groups and grad_norm, means of the steps since the last look.
    """
    config = LearnerConfig(
        lr=budget.lr,
        betas=BETAS,
        warmup=budget.warmup,
        updates=1,
        clip_norm=CLIP_NORM,
        micro_tokens=budget.micro_tokens,
        activation_checkpointing=activation_checkpointing,
    )
    learner, objective = Learner(copy, config), Objective(ObjectiveConfig.model_validate(OBJECTIVE))
    curve.look(0, look())
    yield 0
    for step in range(1, budget.steps + 1):
        trajectories = play(step)
        if trajectories:
            curve.note(zero_var_groups=zero_variance(trajectories))
            report = learner.learn(trajectories, objective)
            curve.count(report.num_updates, report.num_skipped)
            curve.note(grad_norm=report.grad_norm)
        if step in budget.looks:
            curve.look(step, look())
        yield step


def zero_variance(trajectories: Sequence[Trajectory]) -> float:
    """Share of groups whose samples all earned the same, which have no gradient (plasticity.md 1.9)."""
    rewards: dict[int, set[float]] = defaultdict(set)
    for one in trajectories:
        rewards[one.group].add(one.reward)
    return sum(len(own) == 1 for own in rewards.values()) / len(rewards)
