"""Shrink and perturb: weights go a part of the way back to the base, and get noise if asked.

theta <- s * theta + (1 - s) * theta_0 + sigma * noise, with s `keep`, sigma `noise`, theta_0 the weights before any
training. With `towards: zero` it is the paper's own, s * theta + sigma * noise, made for networks that were trained
from scratch: from a random draw or towards zero it destroys a pretrained model. Moments stay; add `reset_optimizer`.

Source: On Warm-Starting Neural Network Training, arXiv 1910.08475; towards theta_0 as plasticity.md 4 has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from policies.interventions.contracts import Change, Intervention, InterventionOptions, Subject

if TYPE_CHECKING:
    from policies.interventions.contracts import Origin

SOURCE = "arXiv 1910.08475"


class Config(InterventionOptions):
    type: Literal["shrink_perturb"] = "shrink_perturb"
    keep: float = Field(0.9, ge=0, le=1)
    """Share s of the weights as they are; .9 for a pretrained model, .8 for one from scratch."""
    towards: Literal["base", "zero"] = "base"
    """Where the rest comes from: the weights before any training, or nowhere."""
    noise: float = Field(0.0, ge=0)
    """Standard deviation sigma of what is added to every weight."""


class ShrinkPerturb(Intervention):
    def __init__(self, config: Config) -> None:
        self.config = config
        needs_base = config.towards == "base" and config.keep < 1
        self.reads: frozenset[Origin] = frozenset({"base"}) if needs_base else frozenset()

    def apply(self, subject: Subject) -> Change:
        from policies.interventions.weight_mixture import mix, perturb

        keep, sigma, towards = self.config.keep, self.config.noise, self.config.towards
        with subject.optimizer.whole_weights() as weights:
            mix(weights, keep, subject.weights_of("base") if self.reads else None)
            perturb(weights, sigma, subject.generator)
        added = f", plus noise of {sigma:g}" if sigma else ""
        return Change(f"{keep:g} of the weights, {1 - keep:g} of the {towards}{added}", keep < 1 or sigma > 0)


def create(config: Config) -> ShrinkPerturb:
    return ShrinkPerturb(config)
