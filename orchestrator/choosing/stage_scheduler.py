"""The outer level: which environment the next stage trains, what a stage earned, and when it ends early."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from orchestrator import registry
from orchestrator.bandits.contracts import ArmInfo, Bandit, Feedback, Pick
from orchestrator.progress import Progress
from orchestrator.schedulers.clusters import ClusteredScheduler
from orchestrator.schedulers.guards import GuardConfig, GuardedScheduler
from orchestrator.schedulers.rewards import Scores, StageOutcome, rewards_of
from orchestrator.schedulers.sequence import Sequence as FixedOrder
from orchestrator.spec.sections import Stage
from orchestrator.stop_rules.contracts import StopRule
from orchestrator.stop_rules.dead_signal import DeadSignal
from store.sentences import num

REPAID = "the scheduler, which is paid by another reward, or in another unit"
LEARNING = (GuardedScheduler, ClusteredScheduler)  # those that decide by what stages earned


@dataclass(frozen=True)
class StageChoice:
    """The environment of a stage, and why; no pick in flat mode."""

    pick: Pick | None
    why: str = ""
    probabilities: Mapping[str, float] = field(default_factory=dict)  # of all environments, at the pick
    is_news: bool = False  # decided by a scheduler that learns, not by a fixed order


@dataclass(frozen=True)
class StageReward:
    """What a stage earned its scheduler, and why; None: nothing was observed, or there is no scheduler."""

    reward: float | None
    why: str = ""


class StageScheduler:
    """A scheduler, with the held-out scores that its reward may need.

    `signal_reward` says which rewards of a group the advantage is taken of.
    """

    def __init__(self, config: BaseModel, scheduler: Bandit, signal_reward: str = "value") -> None:
        self.config, self.scheduler = config, scheduler
        self.name = registry.type_of(config)
        self._rewards = rewards_of(config)
        self._unit = {
            "reward": self._rewards.reward,
            "factor": self._rewards.factor,
            **({"signal_reward": signal_reward} if self._rewards.reward == "advantage" else {}),
            **({"forgetting_weight": self._rewards.forgetting_weight} if self._rewards.reward == "retention" else {}),
        }
        self._scores: dict[str, float] = {}  # at the last boundary
        self._best: dict[str, float] = {}  # of each environment, up to then

    def next_environment(self) -> StageChoice:
        """Pick the environment of the next stage."""
        why = self.scheduler.why() if isinstance(self.scheduler, LEARNING) else None
        values, probabilities = self.scheduler.values(), self.scheduler.probabilities()  # before the pick
        clusters = self.scheduler.outer.probabilities() if isinstance(self.scheduler, ClusteredScheduler) else {}
        pick = self.scheduler.pick(1)[0]
        if isinstance(self.scheduler, ClusteredScheduler):
            text = self._of_cluster(self.scheduler.cluster_of[pick.arm], pick, clusters, why == "new")
        elif why == "forced":
            assert isinstance(self.config, GuardConfig)
            text = f"{pick.arm}, forced: it had no stage for {self.config.max_gap} stages"
        elif why == "new":
            text = f"{pick.arm}, new: every environment has a first stage before the scheduler decides"
        elif why is None and pick.probability == 1.0:
            text = f"{pick.arm}, next in the order of {self.name}"
        else:
            text = f"{pick.arm}, picked by {self.name} with probability {pick.probability:.2f}"
        if why == "chosen" and not clusters:
            text += f" ({self._of_each(probabilities, values)})"
        return StageChoice(pick, text, probabilities, is_news=why is not None)

    def upcoming(self) -> list[str]:
        """Name the environment of the next stage where the order is fixed, and nothing is drawn."""
        known = self.scheduler.probabilities() if isinstance(self.scheduler, FixedOrder) else {}
        return [name for name, probability in known.items() if probability == 1.0]

    def _of_cluster(self, cluster: str, pick: Pick, clusters: Mapping[str, float], is_new: bool) -> str:
        """Say how a cluster and its environment were picked: the pick's probability is the product."""
        inside = pick.probability / clusters[cluster]
        how = ", new: every cluster has a first stage before the scheduler decides" if is_new else ""
        each = "; ".join(f"{name} {p:.2f}" for name, p in clusters.items())
        return (
            f"{pick.arm}, picked by {self.name} in cluster {cluster} with probability {inside:.2f}{how} "
            f"(of each cluster: {each})"
        )

    def _of_each(self, probabilities: Mapping[str, float], values: Mapping[str, float | None]) -> str:
        """Say what was known of every environment: its probability and, where one is kept, what a stage would earn."""
        known = {arm: "" if value is None else f", {value:.3f}" for arm, value in values.items()}
        kind = {"advantage": "mean |advantage|"}.get(self._rewards.reward, self._rewards.reward)
        expected = f", and the {kind} expected of a stage" if any(known.values()) else ""
        return f"of each{expected}: " + "; ".join(f"{arm} {p:.2f}{known[arm]}" for arm, p in probabilities.items())

    def end_stage(self, at: Progress, scores: Scores) -> StageReward:
        """Reward the scheduler for the stage that ends; the scores are kept for the next one."""
        earned = self._judge(at, scores) if at.pick is not None else StageReward(None)
        self._scores = dict(scores)
        self._best = self._best | {name: max(self._best.get(name, 0.0), score) for name, score in scores.items()}
        return earned

    def state(self) -> dict[str, Any]:
        """State as JSON."""
        scores = {"scores": self._scores, "best": self._best}
        return {"scheduler": self.scheduler.state(), "scheduler_type": self.name, "unit": self._unit, **scores}

    def load_state(self, state: Mapping[str, Any], environments: Sequence[str]) -> list[str]:
        """Continue from a state, among these environments; returns what begins anew because of what a fork changed."""
        self._scores, self._best = dict(state.get("scores", {})), dict(state.get("best", {}))
        if state.get("scheduler_type", self.name) != self.name or not self._has_clusters_of(state["scheduler"]):
            offer(self.scheduler, dict.fromkeys(environments))
            return ["the scheduler"]
        unit = state.get("unit", {key: state[key] for key in ("reward",) if key in state})  # earlier: not all of it
        if isinstance(self.scheduler, LEARNING) and any(
            self._unit[key] != unit[key] for key in self._unit.keys() & unit.keys()
        ):
            offer(self.scheduler, dict.fromkeys(environments))
            return [REPAID]
        restore_bandit(self.scheduler, state["scheduler"], dict.fromkeys(environments))
        return []

    def _has_clusters_of(self, state: Mapping[str, Any]) -> bool:
        """Whether the environments of a state are in the clusters that they are in now."""
        now = self.scheduler.cluster_of if isinstance(self.scheduler, ClusteredScheduler) else None
        before = state.get("clusters")
        if now is None or before is None:
            return now is None and before is None
        return all(before[name] == now[name] for name in before.keys() & now.keys())

    def forget(self, environments: Collection[str]) -> list[str]:
        """Drop the scores of environments whose held-out tasks are others now; names those that had one."""
        known = [name for name in sorted({*self._scores, *self._best}) if name in environments]
        for name in known:
            self._scores.pop(name, None)
            self._best.pop(name, None)
        return known

    def join(self, scores: Scores) -> None:
        """Take the scores of environments that joined at a fork."""
        self._scores |= scores
        self._best |= scores

    def _judge(self, at: Progress, scores: Scores) -> StageReward:
        """Compute the stage's reward and let the scheduler learn it."""
        assert at.pick is not None
        signal, num_groups = at.stage_signal
        outcome = StageOutcome(
            environment=at.pick.arm,
            signal=signal,
            num_groups=num_groups,
            cost=max(1, at.stage_step) / at.steps_per_stage,  # one whose environment gave no task has no step
            before=self._scores,
            after=scores,
            best=self._best,
        )
        kind, reward = self._rewards.reward, self._rewards.earned(outcome)
        # a stage that nothing can be said of earns 0: as no observation it would stay new, and be picked again
        groups = max(1, num_groups) if kind == "advantage" else 1
        # one that began without a score, as the first of a fork that is paid by them anew, says nothing; the next can
        began_unscored = kind != "advantage" and at.pick.arm in scores.keys() - self._scores
        groups = 0 if began_unscored else groups
        score, scatter = at.stage_score if kind == "advantage" else (None, 0.0)
        self.scheduler.learn([Feedback(at.pick, reward or 0.0, groups, score, scatter)])
        if not isinstance(self.scheduler, LEARNING):
            return StageReward(reward)
        if began_unscored:
            return StageReward(None, f"{at.pick.arm} had no held-out score when its stage began ({kind}): not judged")
        if reward is None:
            return StageReward(None, f"{at.pick.arm} left nothing to judge it by ({kind}), which counts as 0")
        text = f"{at.pick.arm} earned {reward:.3f}"
        if kind == "advantage":
            return StageReward(reward, f"{text}, mean |advantage| of {num(num_groups, 'group')}")
        both = self._scores.keys() & scores
        changes = ", ".join(f"{name} {self._scores[name]:.2f} to {scores[name]:.2f}" for name in scores if name in both)
        return StageReward(reward, f"{text} ({kind}; held-out scores {changes})")


def restore_bandit(bandit: Bandit, state: Mapping[str, Any], arms: Mapping[str, ArmInfo | None]) -> None:
    """Continue from a state; those of these arms that are not in it are added."""
    bandit.load_state(state)
    known = {*bandit.arms}
    for arm in sorted(arm for arm in arms if arm not in known):
        bandit.add(arm, arms[arm])


def offer(bandit: Bandit, arms: Mapping[str, ArmInfo | None]) -> None:
    """Have a bandit pick among these arms: others are retired, new ones begin anew. Without any it keeps its own."""
    if not arms:
        return
    for arm in sorted({*arms} - {*bandit.arms}):
        bandit.add(arm, arms[arm])
    for arm in sorted({*bandit.arms} - {*arms}):
        bandit.retire(arm)


class StopConditions:
    """A spec's stop rules, asked at every window of a stage after its `min_steps`."""

    def __init__(self, section: Stage) -> None:
        self.min_steps = section.min_steps
        self.rules: Sequence[StopRule] = [registry.create("stop_rules", rule) for rule in section.stop]

    @property
    def ends_dead_stages(self) -> bool:
        """Whether one of the rules ends stages without signal."""
        return any(isinstance(rule, DeadSignal) for rule in self.rules)

    def verdict(self, at: Progress) -> str | None:
        """The first reason to end this stage before its budget is used, or None."""
        if at.stage_step < self.min_steps or at.stage_step == at.steps_per_stage:
            return None
        reasons = (rule.verdict(at.window.history) for rule in self.rules)
        return next((reason for reason in reasons if reason is not None), None)
