"""The outer level: which environment the next stage trains, what a stage was worth, and when it ends early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from orchestrator import registry
from orchestrator.bandits.contracts import Bandit, Feedback, Pick
from orchestrator.progress import Progress
from orchestrator.schedulers.guards import GuardConfig, GuardedScheduler
from orchestrator.schedulers.rewards import Scores, StageOutcome, rewards_of
from orchestrator.spec.model import Stage
from orchestrator.stop_rules.contracts import StopRule
from orchestrator.stop_rules.dead_signal import DeadSignal
from store.records import EVERYTHING, ArmRecord


@dataclass(frozen=True)
class StageChoice:
    """A stage's environment, and why, in words; no pick in flat mode."""

    pick: Pick | None
    why: str = ""
    probabilities: Mapping[str, float] = field(default_factory=dict)  # of all environments, at the pick
    is_news: bool = False  # a scheduler that learns decided it; a fixed order surprises nobody


@dataclass(frozen=True)
class StageReward:
    """What a stage was worth to its scheduler, in words too; None: nothing was observed, or nobody asked."""

    reward: float | None
    why: str = ""


class StageScheduler:
    """A scheduler, with the held-out scores that its reward may need."""

    def __init__(self, config: BaseModel, scheduler: Bandit) -> None:
        self.config, self.scheduler = config, scheduler
        self.name = registry.type_of(config)
        self._rewards = rewards_of(config)
        self._scores: dict[str, float] = {}  # at the last boundary
        self._best: dict[str, float] = {}  # of each environment, up to then
        self._arms: list[ArmRecord] | None = None  # asked for every step, and only boundaries move them

    def next_environment(self) -> StageChoice:
        """Ask the scheduler, and say why it chose so."""
        why = self.scheduler.why() if isinstance(self.scheduler, GuardedScheduler) else None
        values, probabilities = self.scheduler.values(), self.scheduler.probabilities()  # before the pick
        pick, self._arms = self.scheduler.pick(1)[0], None
        if why == "forced":
            assert isinstance(self.config, GuardConfig)
            text = f"{pick.arm}, forced: it had no stage for {self.config.max_gap} stages"
        elif why == "new":
            text = f"{pick.arm}, new: every environment has a first stage before the scheduler decides"
        elif why is None and pick.probability == 1.0:
            text = f"{pick.arm}, next in the order of {self.name}"
        else:
            text = f"{pick.arm}, picked by {self.name} with probability {pick.probability:.2f}"
        if why == "chosen":
            arms = (
                f"{arm} {probability:.2f}" + ("" if values[arm] is None else f" at {values[arm]:.3f}")
                for arm, probability in probabilities.items()
            )
            text += f" ({', '.join(arms)})"
        return StageChoice(pick, text, probabilities, is_news=why is not None)

    def end_stage(self, at: Progress, scores: Scores) -> StageReward:
        """Work out the stage's reward from what it changed, and teach the scheduler; keep the scores for the next."""
        earned, self._arms = self._judge(at, scores) if at.pick is not None else StageReward(None), None
        self._scores = dict(scores)
        self._best = {
            name: max(self._best.get(name, 0.0), scores.get(name, 0.0)) for name in {**self._best, **scores}
        }
        return earned

    def arms(self) -> list[ArmRecord]:
        """Describe every environment as the scheduler sees it."""
        if self._arms is None:
            self._arms = arm_records(EVERYTHING, self.scheduler)
        return self._arms

    def state(self) -> dict[str, Any]:
        """The scheduler's state and the scores, as JSON."""
        scores = {"scores": self._scores, "best": self._best}
        return {"scheduler": self.scheduler.state(), "scheduler_type": self.name, **scores}

    def load_state(self, state: Mapping[str, Any]) -> list[str]:
        """Continue from a state; names the scheduler if it begins anew, because a fork changed its type."""
        self._scores, self._best = dict(state.get("scores", {})), dict(state.get("best", {}))
        self._arms = None
        if state.get("scheduler_type", self.name) != self.name:
            return ["the scheduler"]
        restore_bandit(self.scheduler, state["scheduler"])
        return []

    def join(self, scores: Scores) -> None:
        """Take in the scores of environments that joined at a fork."""
        self._scores |= scores
        self._best |= scores

    def _judge(self, at: Progress, scores: Scores) -> StageReward:
        """Reward the scheduler's pick for the stage that ends; in words if the scheduler learns."""
        assert at.pick is not None
        signal, num_groups = at.stage_signal
        outcome = StageOutcome(
            environment=at.pick.arm,
            signal=signal,
            num_groups=num_groups,
            cost=at.stage_step / at.steps_per_stage,
            before=self._scores,
            after=scores,
            best=self._best,
        )
        kind, reward = self._rewards.reward, self._rewards.earned(outcome)
        groups = num_groups if kind == "advantage" else 1
        self.scheduler.learn([Feedback(at.pick, reward or 0.0, groups if reward is not None else 0)])
        if not isinstance(self.scheduler, GuardedScheduler):
            return StageReward(reward)
        if reward is None:
            return StageReward(None, f"{at.pick.arm} left nothing to judge it by ({kind})")
        text = f"{at.pick.arm} earned {reward:.3f}"
        if kind == "advantage":
            return StageReward(reward, f"{text}, mean |advantage| of {num_groups} groups")
        before = self._scores
        changes = [
            f"{name} {before[name]:.2f} to {now:.2f}" for name, now in scores.items() if name in before
        ]
        return StageReward(reward, f"{text} ({kind}; held-out scores {', '.join(changes)})")


def arm_records(name: str, bandit: Bandit) -> list[ArmRecord]:
    """Describe every arm of a bandit as it stands."""
    values = bandit.values()
    return [
        ArmRecord(name, arm, probability, values[arm], bandit.num_picks[arm])
        for arm, probability in bandit.probabilities().items()
    ]


def restore_bandit(bandit: Bandit, state: Mapping[str, Any]) -> None:
    """Continue from a state; arms that it does not know have joined since."""
    arms = list(bandit.arms)
    bandit.load_state(state)
    for arm in arms:
        if arm not in bandit.arms:
            bandit.add(arm)


class StopConditions:
    """A spec's stop rules, asked at every window of a stage from its least number of steps on."""

    def __init__(self, section: Stage) -> None:
        self.min_steps = section.min_steps
        self.rules: Sequence[StopRule] = [registry.create("stop_rules", rule) for rule in section.stop]

    @property
    def ends_dead_stages(self) -> bool:
        """Whether one of the rules is for stages without signal."""
        return any(isinstance(rule, DeadSignal) for rule in self.rules)

    def verdict(self, at: Progress) -> str | None:
        """Give the first reason to end this stage now, or None; the budget's end is no rule's business."""
        if at.stage_step < self.min_steps or at.stage_step == at.steps_per_stage:
            return None
        reasons = (rule.verdict(at.window.history) for rule in self.rules)
        return next((reason for reason in reasons if reason is not None), None)
