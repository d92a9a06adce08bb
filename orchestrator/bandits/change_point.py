"""Change-point UCB: an index rule that begins anew with an arm whose rewards have changed.

    index_k of `rule`, from the observations of arm k since its last restart;  restart when `detector` raises an alarm;
    with probability `floor` a slot is uniform, so that changes of neglected arms are seen

Source: arXiv 1711.03539 (CUSUM-UCB), Besson and Kaufmann 2019 (GLR-klUCB), arXiv 1802.03692 (M-UCB); curricula
reference, section 3.7. For events: another stage, another reward, an older checkpoint. Skill drifts gradually, and
smooth forgetting (`discounted_ucb`) suits that better.
Reward: in [0, 1]. Detectors count slots, a step of n groups with mean reward r as n rewards of r: cusum compares with
the mean of an arm's first `samples`, glr any two halves of its history, m_ucb the two halves of its last `window`.
Theory asks, for T slots with C changes, a cusum threshold of ln(T / C) and a floor of sqrt(C / T ln(T / C)); the
constants of m_ucb are not verified.
Slots of a batch are filled in turn with virtual counts (`index_rule`). An arm never seen or just restarted comes first;
`restart: global` restarts all. An arm not picked keeps its data. With the default rule nothing is forgotten between
restarts. The probability of the best index is 1 before the floor.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from orchestrator.bandits import discounted_ucb, sliding_window_ucb
from orchestrator.bandits.contracts import ArmInfo, BanditConfig, Floats, StepFeedback
from orchestrator.bandits.index_rule import IndexRule

SOURCE = "arXiv 1711.03539"

HEARD = ("places", "lengths", "numbers")

Rule = Annotated[discounted_ucb.Options | sliding_window_ucb.Options, Field(discriminator="type")]


@dataclass
class Detector(ABC):
    """Finds changes of an arm's rewards; `heard` is its data by arm, as JSON."""

    heard: dict[str, list[Any]] = field(default_factory=dict, init=False)

    @abstractmethod
    def changed(self, arm: str, reward: float, count: int) -> bool:
        """Take `count` rewards of this mean; whether the arm has changed since it was last forgotten."""

    def forget(self, arm: str) -> None:
        """Drop the data of an arm."""
        self.heard.pop(arm, None)

    def as_row(self, heard: list[Any]) -> list[float]:
        """Give the data of an arm as numbers alone."""
        return heard

    def from_row(self, row: list[float]) -> list[Any]:
        """Give the data of an arm that these numbers are."""
        return row


@dataclass
class Cusum(Detector):
    """Two cumulative sums of how far rewards lie above and below the mean of the first ones (arXiv 1711.03539).

        up <- max(0, up + y - u - drift),  down <- max(0, down + u - y - drift);  alarm: one of them >= threshold

    u is the mean of the first `samples` slots; changes below `drift` are not found; `threshold` in reward times slots.
    """

    samples: int
    drift: float
    threshold: float

    def changed(self, arm: str, reward: float, count: int) -> bool:
        known = self.heard.setdefault(arm, [0, 0.0, 0.0, 0.0])  # slots, sum of their rewards, up, down
        if known[0] < self.samples:
            known[0] += count
            known[1] += count * reward
            return False
        above = reward - known[1] / known[0]
        known[2] = max(0.0, known[2] + count * (above - self.drift))
        known[3] = max(0.0, known[3] + count * (-above - self.drift))
        return bool(max(known[2], known[3]) >= self.threshold)

    def from_row(self, row: list[float]) -> list[Any]:
        return [int(row[0]), *row[1:]]


@dataclass
class Glr(Detector):
    """Generalised likelihood ratio of one against two Bernoulli means (Besson and Kaufmann, 2019).

        alarm: max over s of  s kl(m[1..s], m) + (n - s) kl(m[s+1..n], m)  >=  ln(3 n^1.5 / delta)

    Rewards in [0, 1]. Tested every EVERY slots, with s at the ends of steps; the older half of a long history is kept
    at half the resolution, so memory stays below LIMIT steps an arm.
    """

    EVERY = 10
    LIMIT = 200
    delta: float

    def changed(self, arm: str, reward: float, count: int) -> bool:
        if not 0 <= reward <= 1:
            raise ValueError(
                f"the detector glr takes rewards in [0, 1] and was given {reward:g}: choose cusum or m_ucb"
            )
        history = self.heard.setdefault(arm, [0])  # slots, then [slots, sum of their rewards] by step
        before = history[0]
        history[0] += count
        history.append([count, count * reward])
        if len(history) > self.LIMIT:
            old, new = history[1 : self.LIMIT // 2 + 1], history[self.LIMIT // 2 + 1 :]
            joined = [[a[0] + b[0], a[1] + b[1]] for a, b in zip(old[::2], old[1::2], strict=True)]
            history[1:] = joined + new
        if history[0] // self.EVERY == before // self.EVERY:
            return False
        counts, totals = np.array(history[1:], np.float64).T
        limit = math.log(3 * history[0] ** 1.5 / self.delta)
        return glr_statistic(counts, totals)[0] >= limit

    def as_row(self, heard: list[Any]) -> list[float]:
        return [heard[0], *chain.from_iterable(heard[1:])]

    def from_row(self, row: list[float]) -> list[Any]:
        return [int(row[0]), *([int(count), total] for count, total in zip(row[1::2], row[2::2], strict=True))]


def glr_statistic(counts: Floats, totals: Floats) -> tuple[float, int]:
    """Largest likelihood ratio of steps with these slots and sums of rewards, and after which step it is."""
    slots, rewards = np.cumsum(counts), np.cumsum(totals)
    mean, s, n = rewards[-1] / slots[-1], slots[:-1], slots[-1]
    if len(s) == 0 or not 0 < mean < 1:
        return 0.0, 0
    ratio = s * _kl(rewards[:-1] / s, mean) + (n - s) * _kl((rewards[-1] - rewards[:-1]) / (n - s), mean)
    return float(ratio.max()), int(ratio.argmax()) + 1


def _kl(p: Floats, q: float) -> Floats:
    """kl(p, q) of Bernoulli distributions, 0 < q < 1; p [S]."""
    p = np.clip(p, 0.0, 1.0)
    one, none = np.maximum(p, 1e-300), np.maximum(1 - p, 1e-300)
    return np.asarray(p * np.log(one / q) + (1 - p) * np.log(none / (1 - q)))


@dataclass
class Halves(Detector):
    """The sums of both halves of an arm's last `window` slots differ by more than `gap` (M-UCB, arXiv 1802.03692)."""

    window: int
    gap: float

    def changed(self, arm: str, reward: float, count: int) -> bool:
        last = self.heard.setdefault(arm, [])
        last.extend([reward] * min(count, self.window))
        del last[: -self.window]
        if len(last) < self.window:
            return False
        half = self.window // 2
        return bool(abs(sum(last[half:]) - sum(last[:half])) > self.gap)


class Config(BanditConfig):
    type: Literal["change_point"] = "change_point"
    rule: Rule = Field(
        discounted_ucb.Options(discount=1.0),
        description="The index rule and its options: discounted_ucb or sliding_window_ucb; the default never forgets.",
    )
    detector: Literal["cusum", "glr", "m_ucb"] = Field("glr", description="What finds a change.")
    restart: Literal["local", "global"] = Field("local", description="Restart the changed arm, or all.")
    floor: float = Field(0.05, ge=0, le=1, description="Total uniform mass F: P = (1 - F) P + F / K.")
    samples: int = Field(50, ge=1, description="cusum: first slots, whose mean is the reference.")
    drift: float = Field(0.05, ge=0, description="cusum: smaller changes of the mean are not found.")
    threshold: float = Field(8.0, gt=0, description="cusum: summed deviation that raises an alarm.")
    delta: float = Field(0.05, gt=0, lt=1, description="glr: chance of a false alarm.")
    window: int = Field(100, ge=2, multiple_of=2, description="m_ucb: last slots, compared by halves.")
    gap: float = Field(15.0, gt=0, description="m_ucb: alarm when the sums of both halves differ by more.")

    @field_validator("rule", mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        return {"type": given} if isinstance(given, str) else given


class ChangePoint(IndexRule):
    restarts: Floats  # of each arm so far

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config) -> None:
        names = list(arms)
        super().__init__(names, rng, config.floor)
        self.config = config
        self.rule = self._new_rule()
        self.detector: Detector = {
            "cusum": Cusum(config.samples, config.drift, config.threshold),
            "glr": Glr(config.delta),
            "m_ucb": Halves(config.window, config.gap),
        }[config.detector]
        self.keep(restarts=0.0)

    def means(self) -> Floats:
        return self.rule.means()

    def counts(self) -> Floats:
        return self.rule.counts()

    def bonus(self) -> float:
        return self.rule.bonus()

    def observe(self, seen: StepFeedback) -> None:
        self.rule.observe(seen)
        rewards = zip(seen.at.tolist(), seen.reward.tolist(), seen.num_groups.tolist(), strict=True)
        alarmed = [k for k, reward, n in rewards if self.detector.changed(self.arms[k], reward, round(n))]
        if alarmed:
            every = self.config.restart == "global"
            self.forget(np.arange(len(self.arms)) if every else np.array(alarmed, np.intp))

    def forget(self, at: NDArray[np.intp]) -> None:
        self.rule.forget(at)
        self.restarts[at] += 1
        for k in at.tolist():
            self.detector.forget(self.arms[k])

    def add(self, arm: str, about: ArmInfo | None = None) -> None:
        super().add(arm, about)
        self.rule.add(arm, about)

    def retire(self, arm: str) -> None:
        super().retire(arm)
        self.rule.retire(arm)
        self.detector.forget(arm)

    def state(self) -> dict[str, Any]:
        self.rule.as_arrays = self.as_arrays
        heard = self._heard() if self.as_arrays else {"heard": deepcopy(self.detector.heard)}
        types = {"rule_type": self.config.rule.type, "detector": self.config.detector}
        return {**super().state(), **types, "rule": self.rule.state(), **heard}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; a rule or a detector that a fork changed for another begins anew."""
        super().load_state(state)
        if state.get("rule_type", self.config.rule.type) == self.config.rule.type:
            self.rule.load_state(state["rule"])
        else:
            self.rule = self._new_rule()
        if state.get("detector", self.config.detector) != self.config.detector:
            self.detector.heard = {}
            return
        if "heard" in state:
            self.detector.heard = deepcopy(state["heard"])
            return
        places, lengths, numbers = (np.asarray(state[f"heard_{part}"]).tolist() for part in HEARD)
        of = iter(numbers)
        self.detector.heard = {
            self.arms[k]: self.detector.from_row([*islice(of, length)])
            for k, length in zip(places, lengths, strict=True)
        }

    def _new_rule(self) -> IndexRule:
        rule = self.config.rule
        if rule.type == "discounted_ucb":
            return discounted_ucb.DiscountedUcb(self.arms, self.rng, rule)
        return sliding_window_ucb.SlidingWindowUcb(self.arms, self.rng, rule)

    def _heard(self) -> dict[str, NDArray[Any]]:
        """What the detector has heard as arrays: of which arms, how many numbers of each, and these."""
        heard = self.detector.heard
        places = sorted(map(self._place.__getitem__, heard))
        rows = [self.detector.as_row(heard[self.arms[k]]) for k in places]
        found = places, [*map(len, rows)], [*chain.from_iterable(rows)]
        kinds = np.int64, np.int64, np.float64
        return {f"heard_{part}": np.array(one, kind) for part, one, kind in zip(HEARD, found, kinds, strict=True)}


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> ChangePoint:
    return ChangePoint(arms, rng, config)
