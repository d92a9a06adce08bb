"""Base-anchored fusion: weights are mixed with those before any training, a pull to the start.

theta <- alpha * theta + (1 - alpha) * theta_0. It restores how well a model trains by RL after too long a supervised
training, and lowers the score that it starts from; so look at both. One step of the gradient of an L2 penalty to the
start (regenerative regularisation, arXiv 2308.11958), lambda * |theta - theta_0|^2, at learning rate eta is the same
with alpha = 1 - 2 * eta * lambda.

Source: arXiv 2606.09932, through a summary; its constants are not verified.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from policies.interventions.contracts import Change, Intervention, InterventionOptions, Subject

if TYPE_CHECKING:
    from policies.interventions.contracts import Origin

SOURCE = "arXiv 2606.09932"


class Config(InterventionOptions):
    type: Literal["base_fusion"] = "base_fusion"
    alpha: float = Field(0.5, ge=0, le=1)
    """Share of the weights as they are; the rest is the base."""


class BaseFusion(Intervention):
    reads: frozenset[Origin] = frozenset({"base"})

    def __init__(self, config: Config) -> None:
        self.config = config

    def apply(self, subject: Subject) -> Change:
        from policies.interventions.weight_mixture import mix

        alpha = self.config.alpha
        if alpha < 1:
            with subject.optimizer.whole_weights() as weights:
                mix(weights, alpha, subject.weights_of("base"))
        return Change(f"{alpha:g} of the weights, {1 - alpha:g} of the base", alpha < 1)


def create(config: Config) -> BaseFusion:
    return BaseFusion(config)
