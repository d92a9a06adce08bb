"""Change-point UCB: an index rule that begins anew with an arm whose rewards have changed.

    index_k of `rule`, from what was seen of arm k since its last restart;  restart when `detector` says so;
    with probability `floor` a slot is uniform, so that changes of neglected arms are seen

Source: arXiv 1711.03539 (CUSUM-UCB), Besson and Kaufmann 2019 (GLR-klUCB), arXiv 1802.03692 (M-UCB); curricula
reference, section 3.7. For events: another stage, another reward, an older checkpoint. Skill drifts gradually, and
smooth forgetting (`discounted_ucb`) suits that better.
Reward: in [0, 1]. Detectors count in slots (`detectors`): cusum compares with the mean of an arm's first `samples`, glr
any two halves of its history, m_ucb the two halves of its last `window`. Theory wants, for T slots with C changes, a
cusum threshold of ln(T / C) and a floor of sqrt(C / T ln(T / C)); the constants of m_ucb are not verified.
The slots of a batch are filled in turn with virtual counts (`index_rule`). An arm never seen comes first, and so does
one that was restarted; `restart: global` restarts all. An arm that is not picked keeps what is known of it. With the
default rule nothing is forgotten between restarts. The probability of the best index is 1 before the floor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from orchestrator.bandits import discounted_ucb, sliding_window_ucb
from orchestrator.bandits.contracts import ArmInfo, BanditConfig, Floats, StepFeedback
from orchestrator.bandits.detectors import Cusum, Detector, Glr, Halves
from orchestrator.bandits.index_rule import IndexRule

SOURCE = "arXiv 1711.03539"

Rule = Annotated[discounted_ucb.Options | sliding_window_ucb.Options, Field(discriminator="type")]


class Config(BanditConfig):
    """Options of change-point UCB."""

    type: Literal["change_point"] = "change_point"
    rule: Rule = Field(
        discounted_ucb.Options(discount=1.0),
        description="The index rule and its options: discounted_ucb or sliding_window_ucb; the default never forgets.",
    )
    detector: Literal["cusum", "glr", "m_ucb"] = Field("glr", description="What notices a change.")
    restart: Literal["local", "global"] = Field(
        "local", description="Begin anew with the arm that changed, or with all of them."
    )
    floor: float = Field(
        0.05, ge=0, le=1, description="Total uniform mass F mixed in: P = (1 - F) P + F / K."
    )
    samples: int = Field(
        50, ge=1, description="cusum: slots of an arm whose mean is its reward before a change."
    )
    drift: float = Field(0.05, ge=0, description="cusum: changes of the mean below it are let pass.")
    threshold: float = Field(
        8.0, gt=0, description="cusum: alarm when rewards have drifted off by so much in sum."
    )
    delta: float = Field(0.05, gt=0, lt=1, description="glr: chance of a false alarm.")
    window: int = Field(
        100, ge=2, multiple_of=2, description="m_ucb: the last slots of an arm, compared by halves."
    )
    gap: float = Field(15.0, gt=0, description="m_ucb: alarm when the sums of both halves differ by more.")

    @field_validator("rule", mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        return {"type": given} if isinstance(given, str) else given


class ChangePoint(IndexRule):
    """The rule; see the module."""

    restarts: Floats  # how often each arm was begun anew

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config) -> None:
        names = list(arms)
        super().__init__(names, rng, config.floor)
        self.config = config
        self.rule = _rule(config.rule, names, rng)
        self.detector = _detector(config)
        self.keep(restarts=0.0)

    def means(self) -> Floats:
        """The rule's means since the last restarts, [K]."""
        return self.rule.means()

    def counts(self) -> Floats:
        """The rule's counts since the last restarts, [K]."""
        return self.rule.counts()

    def bonus(self) -> float:
        """The rule's."""
        return self.rule.bonus()

    def observe(self, seen: StepFeedback) -> None:
        """Teach the rule, then restart what has changed."""
        self.rule.observe(seen)
        rewards = zip(seen.at.tolist(), seen.reward.tolist(), seen.num_groups.tolist(), strict=True)
        alarmed = [k for k, reward, n in rewards if self.detector.changed(self.arms[k], reward, round(n))]
        if alarmed:
            every = self.config.restart == "global"
            self.forget(np.arange(len(self.arms)) if every else np.array(alarmed, np.intp))

    def forget(self, at: NDArray[np.intp]) -> None:
        """Begin anew with these arms."""
        self.rule.forget(at)
        self.restarts[at] += 1
        for k in at.tolist():
            self.detector.forget(self.arms[k])

    def add(self, arm: str, about: ArmInfo | None = None) -> None:
        """Add an arm."""
        super().add(arm, about)
        self.rule.add(arm, about)

    def retire(self, arm: str) -> None:
        """Take an arm out."""
        super().retire(arm)
        self.rule.retire(arm)
        self.detector.forget(arm)

    def state(self) -> dict[str, Any]:
        """Add the state of the rule and of the detector."""
        return {**super().state(), "rule": self.rule.state(), "heard": self.detector.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        super().load_state(state)
        self.rule.load_state(state["rule"])
        self.detector.load_state(state["heard"])


def _rule(options: Rule, arms: list[str], rng: np.random.Generator) -> IndexRule:
    if options.type == "discounted_ucb":
        return discounted_ucb.DiscountedUcb(arms, rng, options)
    return sliding_window_ucb.SlidingWindowUcb(arms, rng, options)


def _detector(c: Config) -> Detector:
    if c.detector == "cusum":
        return Cusum(c.samples, c.drift, c.threshold)
    return Glr(c.delta) if c.detector == "glr" else Halves(c.window, c.gap)


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> ChangePoint:
    """Make the bandit of a spec."""
    return ChangePoint(arms, rng, config)
