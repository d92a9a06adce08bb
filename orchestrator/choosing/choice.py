"""Who chooses what the policy trains on: two levels of bandits (staged), or one over everything (flat)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from orchestrator import random_streams, registry
from orchestrator.bandits.contracts import ArmInfo, Bandit, Feedback, Pick, Signal
from orchestrator.bandits.quantile_scale import QuantileScale
from orchestrator.bandits.signal import mean_absolute_advantage
from orchestrator.choosing.stage_scheduler import (
    StageChoice,
    StageReward,
    StageScheduler,
    arm_records,
    restore_bandit,
)
from orchestrator.errors import SpecError
from orchestrator.progress import Progress
from orchestrator.schedulers.rewards import Scores
from orchestrator.spec.model import CurriculumSection
from store.records import EVERYTHING, ArmRecord, Level, Role

Arms = Mapping[str, Mapping[str, ArmInfo]]  # what is known of the trainable categories, by environment


@dataclass(frozen=True)
class Slot:
    """One group's place in a batch: what will be played there, and whose decision that was."""

    index: int
    environment: str
    category: str
    role: Role
    level: Level
    bandit: str  # the environment's, or EVERYTHING
    pick: Pick


def by_pick(slots: Sequence[Slot], numbers: Sequence[float | None]) -> list[tuple[Slot, float | None, int]]:
    """Give every pick's first slot, the mean of its groups' numbers, and how many have one; in the picks' order."""
    found: dict[tuple[str, str], tuple[Slot, list[float]]] = {}
    for slot, number in zip(slots, numbers, strict=True):
        _, own = found.setdefault((slot.bandit, slot.pick.id), (slot, []))
        if number is not None:
            own.append(number)
    return [(slot, sum(own) / len(own) if own else None, len(own)) for slot, own in found.values()]


class Choice(ABC):
    """Fills the slots of a batch and takes in what they earned."""

    def __init__(self, bandit: BaseModel, bandits: Mapping[str, Bandit]) -> None:
        self.config, self.bandits = bandit, dict(bandits)
        self._form: Signal = getattr(bandit, "signal", "raw")
        self._reward = getattr(bandit, "signal_reward", "value")
        self._scales: dict[str, QuantileScale] | None = (
            {} if getattr(bandit, "signal_scale", "none") == "quantile" else None
        )

    @abstractmethod
    def slots(self, n: int, step: int, environment: str | None, visited: Sequence[str]) -> list[Slot]:
        """Choose n slots of step number `step`, in a stage on `environment` after those visited."""

    def signal(self, values: Sequence[float], correct: Sequence[bool]) -> float | None:
        """Measure what a group is worth to the bandit; None when it carries no comparison."""
        return mean_absolute_advantage(values if self._reward == "value" else correct, self._form)

    def score(self, values: Sequence[float], correct: Sequence[bool]) -> float | None:
        """Mean of what the signal reads, for bandits that watch progress; None when nothing was scored."""
        read = values if self._reward == "value" else correct
        return sum(read) / len(read) if read else None

    def learn(
        self, slots: Sequence[Slot], signals: Sequence[float | None], scores: Sequence[float | None]
    ) -> None:
        """Give every pick the mean reward and the mean score of its groups, and how many those are.

        A signal of None says that nothing was observed. A pick that was played again has several groups.
        """
        told: dict[str, list[Feedback]] = {name: [] for name in self.bandits}
        rewards = by_pick(slots, self._scaled(slots, signals))
        for (slot, reward, num), (_, score, _) in zip(rewards, by_pick(slots, scores), strict=True):
            told[slot.bandit].append(Feedback(slot.pick, 0.0 if reward is None else reward, num, score))
        for name, bandit in self.bandits.items():
            bandit.learn(told[name])

    def arms(self) -> list[ArmRecord]:
        """Describe every arm of every bandit as it stands."""
        return [record for name, bandit in self.bandits.items() for record in arm_records(name, bandit)]

    def raw_signal(
        self, signal: float | None, values: Sequence[float], correct: Sequence[bool]
    ) -> float | None:
        """Measure a group, whose signal is known, for the level above: there all environments have one unit."""
        if self._form == "raw":
            return signal
        return mean_absolute_advantage(values if self._reward == "value" else correct, "raw")

    def next_environment(self) -> StageChoice:
        """Pick the next stage's environment; nobody picks in flat mode."""
        return StageChoice(None)

    def join(self, scores: Scores) -> None:
        """Take in the held-out scores of environments that joined at a fork; nobody asks in flat mode."""
        return

    def end_stage(self, at: Progress, scores: Scores) -> StageReward:
        """Tell the scheduler what the stage before this boundary earned; in flat mode there is none.

        `scores` are held-out scores of the `select` pool, empty unless the scheduler asked for them.
        """
        return StageReward(None)

    def state(self) -> dict[str, Any]:
        """All bandits' states, as JSON."""
        bandits = {name: bandit.state() for name, bandit in self.bandits.items()}
        scales = {name: scale.state() for name, scale in (self._scales or {}).items()}
        return {"bandits": bandits, "bandit": registry.type_of(self.config), "scales": scales}

    def load_state(self, state: Mapping[str, Any]) -> list[str]:
        """Continue from a state; names what begins anew, because a fork changed its type.

        An environment that joined since keeps the state it was made with.
        """
        saved = state.get("bandits", state)  # flat runs of 0.1 kept nothing else
        own_type = registry.type_of(self.config)
        if state.get("bandit", own_type) != own_type:
            return ["the bandits"]
        for name, bandit in self.bandits.items():
            if name in saved:
                restore_bandit(bandit, saved[name])
        if self._scales is not None:
            for name, scale in state.get("scales", {}).items():
                self._scales.setdefault(name, QuantileScale()).load_state(scale)
        return []

    def _scaled(self, slots: Sequence[Slot], signals: Sequence[float | None]) -> Sequence[float | None]:
        """Bring the signals of every environment to one scale, if the spec says so."""
        if self._scales is None:
            return signals
        scaled = list(signals)
        for name in sorted({slot.environment for slot in slots}):
            at = [k for k, slot in enumerate(slots) if slot.environment == name and signals[k] is not None]
            scale = self._scales.setdefault(name, QuantileScale())
            own = [float(signals[k] or 0.0) for k in at]
            scale.add(own)
            for k, value in zip(at, scale.scale(own).tolist(), strict=True):
                scaled[k] = value
        return scaled


class Staged(Choice):
    """A scheduler picks a stage's environment, that environment's own bandit a category a slot.

    A `replay` share of the slots goes to other environments, one of them drawn uniformly for each such slot;
    their own bandits pick the category and learn from it.
    """

    def __init__(self, section: CurriculumSection, categories: Arms, seed: int) -> None:
        steps = math.ceil(_planned(section) / len(categories))
        super().__init__(
            section.bandit,
            {name: _bandit(section, arms, seed, name, steps) for name, arms in categories.items()},
        )
        self.stage, self.seed = section.stage, seed
        assert section.scheduler is not None
        self.outer = StageScheduler(
            section.scheduler,
            _make("schedulers", section.scheduler, list(categories), seed, EVERYTHING),
        )

    def slots(self, n: int, step: int, environment: str | None, visited: Sequence[str]) -> list[Slot]:
        """Choose the main slots first, then the replay slots by environment."""
        assert environment is not None
        counts = self._replay_counts(n, step, environment, visited)
        counts = {environment: n - sum(counts.values()), **counts}
        slots: list[Slot] = []
        for name, count in counts.items():
            role: Role = "main" if name == environment else "replay"
            for pick in self.bandits[name].pick(count):
                slots.append(Slot(len(slots), name, pick.arm, role, "category", name, pick))
        return slots

    def next_environment(self) -> StageChoice:
        """Ask the scheduler."""
        return self.outer.next_environment()

    def join(self, scores: Scores) -> None:
        """Tell the outer level."""
        self.outer.join(scores)

    def end_stage(self, at: Progress, scores: Scores) -> StageReward:
        """Judge the stage, and teach the scheduler."""
        return self.outer.end_stage(at, scores)

    def arms(self) -> list[ArmRecord]:
        """Describe the scheduler's arms too."""
        return [*super().arms(), *self.outer.arms()]

    def state(self) -> dict[str, Any]:
        """The scheduler's state beside the bandits'."""
        return {**super().state(), **self.outer.state()}

    def load_state(self, state: Mapping[str, Any]) -> list[str]:
        """Continue from a state."""
        return [*super().load_state(state), *self.outer.load_state(state)]

    def _replay_counts(self, n: int, step: int, environment: str, visited: Sequence[str]) -> dict[str, int]:
        """How many slots each other environment gets in this step."""
        eligible = self.bandits if self.stage.replay_from == "all" else visited
        others = sorted(set(eligible) - {environment})
        num_replay = (
            min(n - 1, round(self.stage.replay * n)) if others else 0
        )  # a stage keeps a group of its own
        drawn = random_streams.generator(self.seed, "replay", str(step)).integers(
            len(others) or 1, size=num_replay
        )
        return {name: int((drawn == k).sum()) for k, name in enumerate(others) if (drawn == k).any()}


class Flat(Choice):
    """One bandit over (environment, category) arms, named `environment/category`."""

    def __init__(self, section: CurriculumSection, categories: Arms, seed: int) -> None:
        arms = {f"{name}/{arm}": about for name, own in categories.items() for arm, about in own.items()}
        super().__init__(
            section.bandit, {EVERYTHING: _bandit(section, arms, seed, EVERYTHING, _planned(section))}
        )

    def slots(self, n: int, step: int, environment: str | None, visited: Sequence[str]) -> list[Slot]:
        """Choose every slot among all arms."""
        picks = self.bandits[EVERYTHING].pick(n)
        return [
            Slot(index, *_split(pick.arm), "main", "flat", EVERYTHING, pick)
            for index, pick in enumerate(picks)
        ]


def _split(arm: str) -> tuple[str, str]:
    """Undo `environment/category`; a category's name may hold a slash, an environment's may not."""
    environment, _, category = arm.partition("/")
    return environment, category


def make_choice(section: CurriculumSection, categories: Arms, seed: int) -> Choice:
    """Make whoever chooses, over the trainable categories of every environment."""
    kind = Flat if section.mode == "flat" else Staged
    return kind(section, categories, seed)


def _planned(section: CurriculumSection) -> int:
    return section.stages * section.stage.steps


def _bandit(
    section: CurriculumSection, arms: Mapping[str, ArmInfo], seed: int, name: str, num_steps: int
) -> Bandit:
    """Make a bandit over categories and tell it what is known of them."""
    made = _make("bandits", section.bandit, list(arms), seed, name)
    try:
        made.introduce(arms, num_steps)
    except ValueError as error:
        raise SpecError(f"curriculum.bandit: {error}") from error
    return made


def _make(kind: str, config: BaseModel, arms: Sequence[str], seed: int, name: str) -> Bandit:
    rng = random_streams.generator(seed, kind, name)
    try:
        made: Bandit = registry.create(kind, config, arms=list(arms), rng=rng)
    except ValueError as error:
        raise SpecError(f"curriculum.{kind.removesuffix('s')}: {error}") from error
    return made
