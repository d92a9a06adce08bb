"""What the policy trains on: two levels of bandits (staged), or one over everything (flat)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
from pydantic import BaseModel
from typing_extensions import override

from environments import NoTasks
from orchestrator import random_streams, registry
from orchestrator.bandits.contracts import MANY_ARMS, ArmInfo, Bandit, Feedback, Pick, Standing, signals_of
from orchestrator.bandits.signal import QuantileScale, mean_absolute_advantage
from orchestrator.choosing.arm_states import ArmStates
from orchestrator.choosing.quarantine import Quarantine
from orchestrator.choosing.replay import Replay
from orchestrator.choosing.stage_scheduler import (
    StageChoice,
    StageReward,
    StageScheduler,
    offer,
    restore_bandit,
)
from orchestrator.errors import SpecError
from orchestrator.played_group import PlayedGroup, Slot
from orchestrator.progress import Progress
from orchestrator.schedulers.clusters import ClusteredScheduler, clusters_of
from orchestrator.schedulers.guards import GuardConfig
from orchestrator.schedulers.rewards import Scores
from orchestrator.spec.sections import CurriculumSection
from orchestrator.spec.sections import Replay as ReplaySection
from store.errors import did_you_mean
from store.records import EVERYTHING, CellRecord, HoldoutQueryRecord, ItemRecord, Role
from store.sentences import listed

RETOLD = "the bandits, which are told another `signal`"
OTHER_TASKS = "whose held-out tasks are others now"  # at the end of what begins anew for that
Arms = Mapping[str, Mapping[str, ArmInfo]]  # what is known of the trainable categories, by environment


def by_pick(groups: Iterable[PlayedGroup]) -> list[list[PlayedGroup]]:
    """The groups of each pick, in the picks' order; one that was played again has several."""
    found: dict[tuple[str, str], list[PlayedGroup]] = {}
    for group in groups:
        found.setdefault((group.slot.bandit, group.slot.pick.id), []).append(group)
    return list(found.values())


def mean_of(numbers: Iterable[float | None]) -> float | None:
    """Mean without the missing numbers; None: all are missing."""
    known = [number for number in numbers if number is not None]
    return sum(known) / len(known) if known else None


class Choice(ABC):
    """Fills the slots of a batch and learns from their groups; `scheduler`: of stages, none in flat mode.

    `categories` are known by environment, `arms` by bandit: the same by other names in flat mode.
    """

    def __init__(
        self,
        section: CurriculumSection,
        categories: Arms,
        arms: Arms,
        bandits: Mapping[str, Bandit],
        scheduler: StageScheduler | None = None,
    ) -> None:
        self.config, self.bandits, self.scheduler = section.bandit, dict(bandits), scheduler
        has_many = sum(map(len, categories.values())) > MANY_ARMS
        for bandit in self.bandits.values():
            bandit.as_arrays = has_many
        self.categories, self._arms = categories, arms
        self.quarantine = Quarantine(section.quarantine, categories)
        given = signals_of(section.bandit)
        self._told = {name: getattr(given, name) for name in ("signal", "signal_reward", "signal_scale")}
        self._form, self._reads_value = given.signal, given.signal_reward == "value"
        self._is_scaled = given.signal_scale == "quantile"
        self._scales: dict[str, QuantileScale] = {}
        self._standings: dict[str, Standing] = {}  # of bandits that nothing was picked from or taught since

    @abstractmethod
    def slots(self, n: int, step: int, environment: str | None, visited: Sequence[str]) -> list[Slot]:
        """Choose n slots of step number `step`, in a stage on `environment` after those visited."""

    def signal(self, values: Sequence[float], correct: Sequence[bool]) -> float | None:
        """The signal of a group; None: nothing to compare."""
        return mean_absolute_advantage(values if self._reads_value else correct, self._form)

    def rate(self, group: PlayedGroup) -> PlayedGroup:
        """Add the signal, the raw signal for the level above, and the mean score to a group."""
        read, signal = group.rewards(self._reads_value), self.signal(group.values, group.correct)
        raw = signal if self._form == "raw" else mean_absolute_advantage(read, "raw")
        return replace(group, signal=signal, raw_signal=raw, score=mean_of(read))

    def learn(self, groups: Sequence[PlayedGroup]) -> None:
        """Give every pick the mean signal and mean score of its groups.

        A group in which nothing could be compared, as none of its samples could be scored, taught nothing: its signal
        is 0 here. Were it no observation, an optimistic bandit would go on picking the arm whose verifier is broken.
        """
        feedback: dict[str, list[Feedback]] = {name: [] for name in self.bandits}
        for own in by_pick(self._scaled(groups)):
            slot, reward = own[0].slot, fmean(group.signal or 0.0 for group in own)
            feedback[slot.bandit].append(Feedback(slot.pick, reward, len(own), mean_of(group.score for group in own)))
        for name, bandit in self.bandits.items():
            bandit.learn(feedback[name])
            if feedback[name]:
                self._standings.pop(name, None)

    def set_aside(self, groups: Sequence[PlayedGroup], step: int) -> list[str]:
        """Pick no more what cannot be scored, and again what was set aside for long enough; say what changed."""
        said = self.quarantine.judge(groups, step)
        if said:
            self._offer_what_is_open()
        return said

    def do_without(self, missing: NoTasks, step: int) -> list[str]:
        """Pick what gives no tasks no more for a while; say so, nothing where the spec has no quarantine."""
        said = self.quarantine.put(missing, step)
        if said:
            self._offer_what_is_open()
        return said

    def take_back(self, slots: Sequence[Slot]) -> None:
        """Have bandits forget these slots' picks: they are not played."""
        for slot in slots:
            self.bandits[slot.bandit].take_back([slot.pick])
            self._standings.pop(slot.bandit, None)

    def arms(self) -> ArmStates:
        """The present state of every arm of every bandit, and of the scheduler's."""
        read = {name: self._standings.get(name) or bandit.standing() for name, bandit in self.bandits.items()}
        self._standings = dict(read)
        return ArmStates(read | ({EVERYTHING: self.scheduler.scheduler.standing()} if self.scheduler else {}))

    def _picks(self, bandit: str, n: int) -> list[Pick]:
        self._standings.pop(bandit, None)
        return self.bandits[bandit].pick(n)

    def next_environment(self) -> StageChoice:
        """Pick the next stage's environment; no pick in flat mode."""
        return self.scheduler.next_environment() if self.scheduler else StageChoice(None)

    def upcoming(self) -> list[str]:
        """Name the environment of the next stage, where a fixed order says it."""
        return self.scheduler.upcoming() if self.scheduler else []

    def look(self, at: Progress, cells: Sequence[CellRecord], items: Sequence[ItemRecord]) -> list[HoldoutQueryRecord]:
        """Let a rule of replay see what a boundary measured; give its looks, none where there is no such rule."""
        return []

    def why_replay(self, environment: str | None, visited: Sequence[str]) -> str:
        """Say from where a stage on an environment replays; empty where no rule decides."""
        return ""

    def forget(self, changed: Mapping[str, Collection[str]]) -> list[str]:
        """Drop what is known of held-out tasks that are others now, of these environments by pool.

        Returns what therefore begins anew: nothing where there is no scheduler.
        """
        return []

    def join(self, scores: Scores) -> None:
        """Take the held-out scores of environments that joined at a fork; ignored in flat mode."""
        if self.scheduler:
            self.scheduler.join(scores)

    def end_stage(self, at: Progress, scores: Scores) -> StageReward:
        """Reward the scheduler for the stage that ends; in flat mode there is none.

        `scores` are held-out scores of the `select` pool, empty unless the scheduler needs them.
        """
        return self.scheduler.end_stage(at, scores) if self.scheduler else StageReward(None)

    def state(self) -> dict[str, Any]:
        """All bandits' states and the scheduler's, as JSON."""
        return {
            "bandits": {name: bandit.state() for name, bandit in self.bandits.items()},
            "bandit": registry.type_of(self.config),
            "told": self._told,
            "scales": {name: scale.state() for name, scale in self._scales.items()},
            **(self.scheduler.state() if self.scheduler else {}),
            **({"quarantine": quarantine} if (quarantine := self.quarantine.state()) else {}),
        }

    def load_state(self, state: Mapping[str, Any]) -> list[str]:
        """Continue from a state; returns what begins anew because a fork changed its type, or what it is told.

        An environment that joined since keeps its fresh bandit. Where everything was in quarantine, which stopped the
        run, all of it is tried again: it may be mended by now.
        """
        self._standings.clear()
        saved = state.get("bandits", state)  # flat runs of 0.1 kept nothing else
        self.quarantine.load_state(state.get("quarantine", {}))
        if not self.quarantine.open_environments:
            self.quarantine.lift()
        anew = self.scheduler.load_state(state, self.quarantine.open_environments) if self.scheduler else []
        own_type = registry.type_of(self.config)
        is_other = state.get("bandit", own_type) != own_type
        if is_other or state.get("told", self._told) != self._told:
            self._offer_what_is_open()
            return ["the bandits" if is_other else RETOLD, *anew]
        for name, bandit in self.bandits.items():
            if name in saved:
                restore_bandit(bandit, saved[name], self._open_arms(name))
        for name, scale in state.get("scales", {}).items() if self._is_scaled else ():
            self._scales.setdefault(name, QuantileScale()).load_state(scale)
        return anew

    def _open_arms(self, bandit: str) -> Mapping[str, ArmInfo]:
        """What a bandit, given by name, may pick."""
        if self.quarantine.is_empty:
            return self._arms[bandit]
        is_flat = bandit == EVERYTHING
        return {
            f"{name}/{one}" if is_flat else one: about
            for name in (self.categories if is_flat else [bandit])
            for one, about in self.categories[name].items()
            if self.quarantine.is_open(name, one)
        }

    def _offer_what_is_open(self) -> None:
        """Have every bandit pick among what is not in quarantine; one of which all is there keeps what it had."""
        self._standings.clear()
        for name, bandit in self.bandits.items():
            offer(bandit, self._open_arms(name))
        if self.scheduler:
            offer(self.scheduler.scheduler, dict.fromkeys(self.quarantine.open_environments))

    def _scaled(self, groups: Sequence[PlayedGroup]) -> Sequence[PlayedGroup]:
        if not self._is_scaled:
            return groups
        scaled = list(groups)
        for name in sorted({group.slot.environment for group in groups}):
            scale = self._scales.setdefault(name, QuantileScale())
            own = {k: g.signal for k, g in enumerate(groups) if g.slot.environment == name}
            signals = {k: signal for k, signal in own.items() if signal is not None}
            scale.add(list(signals.values()))
            for k, signal in zip(signals, scale.scale(list(signals.values())).tolist(), strict=True):
                scaled[k] = replace(groups[k], signal=signal)
        return scaled


class Staged(Choice):
    """A scheduler picks a stage's environment, that environment's own bandit a category a slot.

    For a `replay` share of the slots the environment is drawn from others, whose bandits pick and learn: uniformly, or
    as a rule of replay says.
    """

    def __init__(self, section: CurriculumSection, categories: Arms, seed: int) -> None:
        steps = math.ceil(section.stages * section.stage.steps / len(categories))
        bandits = {name: _bandit(section, arms, seed, name, steps) for name, arms in categories.items()}
        assert section.scheduler is not None
        rng = random_streams.generator(seed, "schedulers", EVERYTHING)
        made = make_scheduler(section.scheduler, categories, rng, "curriculum.scheduler: ")
        scheduler = StageScheduler(section.scheduler, made, signals_of(section.bandit).signal_reward)
        super().__init__(section, categories, categories, bandits, scheduler)
        self.stage, self.seed = section.stage, seed
        window = replay.window if isinstance(replay := section.stage.replay, ReplaySection) else 1
        self.replay = Replay(section.stage.replay_rule, window, categories)

    @override
    def slots(self, n: int, step: int, environment: str | None, visited: Sequence[str]) -> list[Slot]:
        assert environment is not None
        others = self._others(environment, visited)
        num_replay = min(n - 1, round(self.stage.replay_share * n)) if others else 0  # leaves the stage one group
        rng = random_streams.generator(self.seed, "replay", str(step))
        chances: dict[str, float] = {}  # with which a rule draws them
        if self.replay.looks and num_replay:
            found = self.replay.chances(others)
            drawn, chances = (
                rng.choice(len(others), num_replay, p=found),
                dict(zip(others, found.tolist(), strict=True)),
            )
        else:
            drawn = rng.integers(len(others) or 1, size=num_replay)
        counts = {environment: n - num_replay}
        counts |= {other: int((drawn == k).sum()) for k, other in enumerate(others)}
        slots: list[Slot] = []
        for name, count in counts.items():
            role: Role = "main" if name == environment else "replay"
            for pick in self._picks(name, count) if count else ():
                slots.append(Slot(len(slots), name, pick.arm, role, "category", name, pick, chances.get(name)))
            if count and role == "replay":
                self.bandits[name].count_replay()
        return slots

    @override
    def look(self, at: Progress, cells: Sequence[CellRecord], items: Sequence[ItemRecord]) -> list[HoldoutQueryRecord]:
        return self.replay.observe(at.stage, cells, items)

    @override
    def why_replay(self, environment: str | None, visited: Sequence[str]) -> str:
        others = self._others(environment, visited)
        return self.replay.why(others) if self.replay.looks and others else ""

    @override
    def forget(self, changed: Mapping[str, Collection[str]]) -> list[str]:
        assert self.scheduler is not None
        scored, replayed = (
            self.scheduler.forget(changed.get("select", ())),
            self.replay.forget(changed.get("anchor", ())),
        )
        said = [f"the scheduler's held-out scores of {listed(scored)}, {OTHER_TASKS}"] if scored else []
        if replayed:
            said.append(f"what {self.replay.rule} replay knows of {listed(replayed)}, {OTHER_TASKS}")
        return said

    @override
    def state(self) -> dict[str, Any]:
        return {**super().state(), **({"replay": self.replay.state()} if self.replay.looks else {})}

    @override
    def load_state(self, state: Mapping[str, Any]) -> list[str]:
        anew = super().load_state(state)
        if self.replay.looks and "replay" not in state:
            return [*anew, f"what {self.replay.rule} replay knows of lost tasks"]
        if self.replay.looks:
            self.replay.load_state(state["replay"])
        return anew

    def _others(self, environment: str | None, visited: Sequence[str]) -> list[str]:
        eligible = self.bandits if self.stage.replay_from == "all" else visited
        others = sorted(set(eligible) - {environment})
        return [name for name in others if self.quarantine.is_open(name)]


class Flat(Choice):
    """One bandit over (environment, category) arms, named `environment/category`."""

    def __init__(self, section: CurriculumSection, categories: Arms, seed: int) -> None:
        arms = {f"{name}/{arm}": about for name, own in categories.items() for arm, about in own.items()}
        bandit = _bandit(section, arms, seed, EVERYTHING, section.stages * section.stage.steps)
        super().__init__(section, categories, {EVERYTHING: arms}, {EVERYTHING: bandit})

    @override
    def slots(self, n: int, step: int, environment: str | None, visited: Sequence[str]) -> list[Slot]:
        slots = []
        for index, pick in enumerate(self._picks(EVERYTHING, n)):
            name, _, category = pick.arm.partition("/")  # a category's name may hold a slash
            slots.append(Slot(index, name, category, "main", "flat", EVERYTHING, pick))
        return slots


def make_choice(section: CurriculumSection, categories: Arms, seed: int) -> Choice:
    """Make the choice of a spec, over the trainable categories of every environment."""
    return (Flat if section.mode == "flat" else Staged)(section, categories, seed)


def require_known_arms(section: CurriculumSection, categories: Arms) -> None:
    """Refuse options of the bandit that name an arm which no environment has to train on. Raises SpecError."""
    named = named_arms(section.bandit)
    if not named:  # there may be a million arms
        return
    arms = {f"{name}/{one}" if section.mode == "flat" else one for name, own in categories.items() for one in own}
    for option, wanted in named.items():
        if unknown := [arm for arm in wanted if arm not in arms]:
            flat = " In flat mode an arm is `environment/category`." if section.mode == "flat" else ""
            raise SpecError(
                f"curriculum.bandit.{option} names {listed(unknown)}, which no environment has to train on."
                f"{did_you_mean(unknown[0], sorted(arms))}{flat}"
            )


def named_arms(config: BaseModel) -> dict[str, list[str]]:
    """The arms that a bandit's options name, by option; of options that name none, nothing."""
    return {option: arms for option in signals_of(config).by_arm if (arms := [*getattr(config, option)])}


def _bandit(section: CurriculumSection, arms: Mapping[str, ArmInfo], seed: int, name: str, num_steps: int) -> Bandit:
    rng = random_streams.generator(seed, "bandits", name)
    return make_bandit(section.bandit, arms, rng, num_steps, "curriculum.bandit: ")


def make_bandit(
    config: BaseModel, about: Mapping[str, ArmInfo], rng: np.random.Generator, num_steps: int, where: str = ""
) -> Bandit:
    """Make a bandit over these arms and tell it what is known of them. Raises SpecError, beginning with `where`."""
    made = make_chooser("bandits", config, about, rng, where)
    try:
        made.introduce(about, num_steps)
    except ValueError as error:
        raise SpecError(f"{where}{error}") from error
    return made


def make_scheduler(config: BaseModel, environments: Iterable[str], rng: np.random.Generator, where: str = "") -> Bandit:
    """Make a scheduler, of two levels where it has clusters. Raises SpecError, beginning with `where`."""
    names = list(environments)
    clusters = config.clusters if isinstance(config, GuardConfig) else None
    if clusters is None:
        return make_chooser("schedulers", config, names, rng, where)
    try:
        cluster_of = clusters_of(clusters, names)
    except ValueError as error:
        raise SpecError(f"{where}{error}") from error

    def make(arms: Sequence[str], of: str) -> Bandit:
        return make_chooser("schedulers", config, arms, rng, f"{where}of {of}: ")

    return ClusteredScheduler(names, cluster_of, make, rng)


def make_chooser(
    kind: str, config: BaseModel, arms: Iterable[str], rng: np.random.Generator, where: str = ""
) -> Bandit:
    """Make a bandit or a scheduler. Raises SpecError, beginning with `where`."""
    try:
        made: Bandit = registry.create(kind, config, arms=list(arms), rng=rng)
    except ValueError as error:
        raise SpecError(f"{where}{error}") from error
    return made
