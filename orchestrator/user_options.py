"""The options of a user's own method: any, and typed those that a run reads itself, such as a bandit's signal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_serializer

from environments import EnvironmentSource
from environments.user_code import is_user_code
from orchestrator.bandits.contracts import BanditConfig
from orchestrator.episode_options import KEY, EpisodeOptions
from orchestrator.schedulers.rewards import StageRewardConfig
from orchestrator.selections.contracts import SelectionConfig
from policies.interventions.contracts import InterventionOptions
from policies.samplers.contracts import SamplerOptions

TURNS = "turns"  # option by which types of ours end episodes


class UserOptions(BaseModel):
    """A `package.module:factory` or `./file.py:factory` and its options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    type: str
    _given: dict[str, Any] = PrivateAttr(default_factory=dict)
    _folder: str | None = PrivateAttr(default=None)

    def model_post_init(self, context: Any) -> None:
        """Note which options were given: those are the factory's. Paths are relative to the spec's folder."""
        values = {name: getattr(self, name) for name in type(self).model_fields} | (self.model_extra or {})
        self._given = {name: value for name, value in values.items() if name in self.model_fields_set - {"type"}}
        self._folder = context.get("search_path") if isinstance(context, dict) else None

    @property
    def options(self) -> dict[str, Any]:
        """What the factory is called with beside the arguments of its kind."""
        return dict(self._given)

    @property
    def folder(self) -> str | None:
        """Where a file is relative to; None: the current folder."""
        return self._folder

    @model_serializer
    def _as_given(self) -> dict[str, Any]:
        return {"type": self.type, **self._given}


class EnvironmentOptions(UserOptions):
    """A `package.module:factory` or `./file.py:factory` and its options, and what its episodes have of their own."""

    # of all types: the options of ours are checked by their own `Config` first

    episodes: EpisodeOptions = Field(default_factory=EpisodeOptions)

    @property
    def options(self) -> dict[str, Any]:
        """What the type or factory is given."""
        return {name: value for name, value in self._given.items() if name != KEY}

    @property
    def measured(self) -> dict[str, Any]:
        """All that numbers of held-out tasks depend on: the options and the budgets, and not the size of groups."""
        budgets = self.episodes.budgets
        return {**self.options, **({KEY: budgets} if budgets else {})}

    @property
    def own_turns(self) -> int:
        """After how many replies a type of ours ends an episode, by its option `turns`; 0: it has no such option."""
        turns = None if is_user_code(self.type) else self._given.get(TURNS)
        return turns if isinstance(turns, int) else 0

    def with_max_turns(self, max_turns: int) -> EnvironmentOptions:
        """Give the same with so many turns for its episodes."""
        given = {**self._given, KEY: {**self.episodes.given, "max_turns": max_turns}}
        return EnvironmentOptions.model_validate({"type": self.type, **given}, context={"search_path": self._folder})

    def source(self, name: str, search_path: str | None, kept_slices: str | None = None) -> EnvironmentSource:
        """Say where the environment comes from, by its name in the spec."""
        return EnvironmentSource(name, self.type, self.options, search_path, kept_slices, self.episodes.given)

    def is_measured_as(self, other: EnvironmentOptions) -> bool:
        """Whether numbers of both are of one environment."""
        return (self.type, self.folder, self.measured) == (other.type, other.folder, other.measured)


class _UserBandit(UserOptions, BanditConfig, extra="allow"): ...


class _UserIntervention(UserOptions, InterventionOptions, extra="allow"):
    @property
    def options(self) -> dict[str, Any]:
        """What the factory is called with: when, is not its business."""
        return {name: value for name, value in self._given.items() if name != "when"}


class _UserScheduler(UserOptions, StageRewardConfig, extra="allow"): ...


class _UserSampler(UserOptions, SamplerOptions, extra="allow"): ...


class _UserSelection(UserOptions, SelectionConfig, extra="allow"):
    @property
    def fields(self) -> Mapping[str, str]:
        """Which numbers of a task's data the factory wants: its option `fields` says so."""
        return dict(self._given.get("fields", {}))


_TYPED: Mapping[str, type[UserOptions]] = {
    "bandits": _UserBandit,
    "environments": EnvironmentOptions,
    "interventions": _UserIntervention,
    "schedulers": _UserScheduler,
    "samplers": _UserSampler,
    "selections": _UserSelection,
}


def options_class(kind: str) -> type[UserOptions]:
    """Give the class of the options of a kind."""
    return _TYPED.get(kind, UserOptions)
