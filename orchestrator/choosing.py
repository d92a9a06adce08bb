"""Who chooses what the policy trains on: two levels of bandits (staged), or one over everything (flat)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from orchestrator import methods, streams
from orchestrator.bandits.contracts import Bandit, Feedback, Pick, Signal
from orchestrator.bandits.signal import mean_absolute_advantage
from orchestrator.errors import SpecError
from orchestrator.spec.model import CurriculumSection
from store.records import EVERYTHING, ArmRecord, Level, Role


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


class Choice(ABC):
    """Fills the slots of a batch and takes in what they earned."""

    def __init__(self, bandit: BaseModel, bandits: Mapping[str, Bandit]) -> None:
        self.bandits = dict(bandits)
        self._form: Signal = getattr(bandit, "signal", "raw")
        self._reward = getattr(bandit, "signal_reward", "value")

    @abstractmethod
    def slots(self, n: int, step: int, environment: str | None, visited: Sequence[str]) -> list[Slot]:
        """Choose n slots of step number `step`, in a stage on `environment` after those visited."""

    def signal(self, values: Sequence[float], correct: Sequence[bool]) -> float | None:
        """Measure what a group is worth to the bandit; None when it carries no comparison."""
        return mean_absolute_advantage(values if self._reward == "value" else correct, self._form)

    def learn(self, slots: Sequence[Slot], signals: Sequence[float | None]) -> None:
        """Give every pick its reward; None says that nothing was observed."""
        for name, bandit in self.bandits.items():
            bandit.learn(
                [
                    Feedback(slot.pick, signal or 0.0, num_groups=int(signal is not None))
                    for slot, signal in zip(slots, signals, strict=True)
                    if slot.bandit == name
                ]
            )

    def arms(self) -> list[ArmRecord]:
        """Describe every arm of every bandit as it stands."""
        return [record for name, bandit in self.bandits.items() for record in _arms(name, bandit)]

    def next_environment(self) -> Pick | None:
        """Pick the next stage's environment; None in flat mode."""
        return None

    def end_stage(self, pick: Pick | None, signal: float | None, num_groups: int) -> None:
        """Tell the scheduler what its stage earned; in flat mode there is none."""
        return

    def state(self) -> dict[str, Any]:
        """All bandits' states, as JSON."""
        return {name: bandit.state() for name, bandit in self.bandits.items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        for name, bandit in self.bandits.items():
            bandit.load_state(state[name])


class Staged(Choice):
    """A scheduler picks a stage's environment, that environment's own bandit a category a slot.

    A `replay` share of the slots goes to other environments, one of them drawn uniformly for each such slot;
    their own bandits pick the category and learn from it.
    """

    def __init__(
        self, section: CurriculumSection, categories: Mapping[str, Sequence[str]], seed: int
    ) -> None:
        super().__init__(
            section.bandit,
            {name: _make("bandits", section.bandit, arms, seed, name) for name, arms in categories.items()},
        )
        self.stage, self.seed = section.stage, seed
        assert section.scheduler is not None
        self.scheduler: Bandit = _make("schedulers", section.scheduler, list(categories), seed, EVERYTHING)

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

    def next_environment(self) -> Pick | None:
        """Ask the scheduler."""
        return self.scheduler.pick(1)[0]

    def end_stage(self, pick: Pick | None, signal: float | None, num_groups: int) -> None:
        """Give the scheduler the mean signal of the stage's own groups."""
        assert pick is not None
        self.scheduler.learn([Feedback(pick, signal or 0.0, num_groups if signal is not None else 0)])

    def arms(self) -> list[ArmRecord]:
        """Describe the scheduler's arms too."""
        return [*super().arms(), *_arms(EVERYTHING, self.scheduler)]

    def state(self) -> dict[str, Any]:
        """The scheduler's state beside the bandits'."""
        return {"bandits": super().state(), "scheduler": self.scheduler.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        super().load_state(state["bandits"])
        self.scheduler.load_state(state["scheduler"])

    def _replay_counts(self, n: int, step: int, environment: str, visited: Sequence[str]) -> dict[str, int]:
        """How many slots each other environment gets in this step."""
        eligible = self.bandits if self.stage.replay_from == "all" else visited
        others = sorted(set(eligible) - {environment})
        num_replay = (
            min(n - 1, round(self.stage.replay * n)) if others else 0
        )  # a stage keeps a group of its own
        drawn = streams.generator(self.seed, "replay", str(step)).integers(len(others) or 1, size=num_replay)
        return {name: int((drawn == k).sum()) for k, name in enumerate(others) if (drawn == k).any()}


class Flat(Choice):
    """One bandit over (environment, category) arms, named `environment/category`."""

    def __init__(
        self, section: CurriculumSection, categories: Mapping[str, Sequence[str]], seed: int
    ) -> None:
        arms = [f"{name}/{category}" for name, own in categories.items() for category in own]
        super().__init__(
            section.bandit, {EVERYTHING: _make("bandits", section.bandit, arms, seed, EVERYTHING)}
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


def make_choice(section: CurriculumSection, categories: Mapping[str, Sequence[str]], seed: int) -> Choice:
    """Make whoever chooses, over the trainable categories of every environment."""
    kind = Flat if section.mode == "flat" else Staged
    return kind(section, categories, seed)


def _make(kind: str, config: BaseModel, arms: Sequence[str], seed: int, name: str) -> Bandit:
    rng = streams.generator(seed, kind, name)
    try:
        made: Bandit = methods.create(kind, config, arms=list(arms), rng=rng)
    except ValueError as error:
        raise SpecError(f"curriculum.{kind.removesuffix('s')}: {error}") from error
    return made


def _arms(name: str, bandit: Bandit) -> list[ArmRecord]:
    values = bandit.values()
    return [
        ArmRecord(name, arm, probability, values[arm], bandit.num_picks[arm])
        for arm, probability in bandit.probabilities().items()
    ]
