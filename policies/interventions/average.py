"""Average: weights become the mean of themselves and of those of the boundary before.

theta <- share * theta + (1 - share) * theta_then, with theta_then the weights of the boundary before, or of the base.
Averages of weights along a run lie in flatter places; what a stage forgot is in part given back.

Source: Stochastic Weight Averaging, arXiv 1803.05407; of two stages of fine-tuning as in WiSE-FT, arXiv 2109.01903.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from policies.interventions.contracts import Change, Intervention, InterventionOptions, Subject

if TYPE_CHECKING:
    from policies.interventions.contracts import Origin

SOURCE = "arXiv 1803.05407"


class Config(InterventionOptions):
    type: Literal["average"] = "average"
    of: Literal["previous", "base"] = "previous"
    """With which weights: those of the boundary before, or those before any training."""
    share: float = Field(0.5, ge=0, le=1)
    """Share of the weights as they are."""


class Average(Intervention):
    def __init__(self, config: Config) -> None:
        self.config = config
        self.reads: frozenset[Origin] = frozenset({config.of})

    def apply(self, subject: Subject) -> Change:
        from policies.interventions.weight_mixture import mix

        share, origin = self.config.share, self.config.of
        if share < 1:
            with subject.optimizer.whole_weights() as weights:
                mix(weights, share, subject.weights_of(origin))
        whose = {"previous": "the boundary before", "base": "the base"}[origin]
        return Change(f"{share:g} of the weights, {1 - share:g} of those of {whose}", share < 1)


def create(config: Config) -> Average:
    return Average(config)
