"""What holds for the episodes of one environment: group size and budgets, in place of `step` and `sampler`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import Field, model_serializer, model_validator

from environments import Environment, Score
from policies.config import Options
from policies.samplers.contracts import CutOff, SamplerOptions
from store.sentences import short

KEY = "episodes"  # beside an environment's type and options


def score_cut_off(score: Score, rule: CutOff) -> Score:
    """Say what an episode is worth that a budget cut off, its environment having said so much until then."""
    return replace(score, value=0.0, correct=False) if rule == "zero" and score.reason is None else score


class EpisodeOptions(Options):
    """What an environment's episodes have of their own (docs/environment.md); null: what `step` and `sampler` say."""

    group_size: int | None = Field(default=None, ge=2, le=10_000)
    """Training episodes of a task; null: `step.group_size`."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Most tokens that the policy may write in an episode; null: the environment's own, or `sampler.max_tokens`."""
    turn_tokens: int | None = Field(default=None, ge=1)
    """Most of them in one turn; null: `sampler.turn_tokens`."""
    max_turns: int | None = Field(default=None, ge=1)
    """Most turns; null: `sampler.max_turns`, or the environment's own `turns` if they are more and that is left out."""
    cut_off: CutOff | None = None
    """What an episode is worth that a budget cut off; null: `sampler.cut_off`."""

    @model_validator(mode="before")
    @classmethod
    def _is_a_map(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping | cls):
            return raw
        raise ValueError(
            f"a map of what holds for its episodes is wanted, like {{group_size: 16}}, not {short(repr(raw))}; no "
            "option of a factory is called so"
        )

    @property
    def given(self) -> dict[str, Any]:
        """Those that are said."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}

    @property
    def budgets(self) -> dict[str, Any]:
        """The same without the size of groups: evaluation has these too."""
        return {name: value for name, value in self.given.items() if name != "group_size"}

    @model_serializer
    def _as_given(self) -> dict[str, Any]:
        return self.given


class EnvironmentsEpisodes(Options):
    """What stands beside the options of any environment."""

    episodes: EpisodeOptions | None = None
    """What its episodes have of their own, in place of `step` and `sampler`: group size and budgets."""


@dataclass(frozen=True)
class Budgets:
    """Tokens and turns of episodes: the sampler's, but for environments that have their own."""

    shared: SamplerOptions
    own: Mapping[str, EpisodeOptions] = field(default_factory=dict)  # by environment

    def options(self, environment: str) -> SamplerOptions:
        """Give what holds in an environment's episodes beside `tokens`."""
        own = self.own[environment].budgets if environment in self.own else {}
        return self.shared.model_copy(update=own) if own else self.shared

    def own_tokens(self, environment: Environment) -> int | None:
        """Say how many tokens an episode of this environment has, whatever the sampler says; None: as that says."""
        own = self.own.get(environment.name)
        return environment.max_tokens if own is None or own.max_tokens is None else own.max_tokens

    def tokens(self, environment: Environment) -> int:
        """Say how many tokens the policy may write in an episode of an environment."""
        return self.own_tokens(environment) or self.shared.max_tokens
