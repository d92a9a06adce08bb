"""Gradients between environments: cosines of their policy gradients at the same weights.

Of every environment the first `prompts` tasks of the evaluation, from its categories in turn, with all answers that the
evaluation has just played: the policy's own, at temperature 1. The gradient is that of REINFORCE with the leave-one-out
advantage (RLOO) of the reward that training reads, averaged over tokens, over all trainable weights; nothing of the
run's objective beside the reward, and no optimiser, is in it (plasticity.md 3.6).

    of an environment
      cosine_<another>           below 0: conflict; above 0: transfer is likely
      gradient_norm              near 0: nothing to learn there
      gradient_split_half        cosine of two halves of its own tasks,
                                 each with every category
      gradient_noise             noise scale of four such parts
    of all
      gradient_diversity_erank   1: one direction; their number: all unrelated
      gradient_environments      that number: those with a gradient here

Read a cosine against the split-half ones of its two environments: noise alone keeps it below those. Gradients are
compared through a random projection onto 2^16 dimensions, which is off by about .004. An environment none of whose
tasks has answers of different worth has no gradient, and its numbers are missing. The cost is a forward and a
backward pass of every sample in a group with spread; and of E environments a boundary records E (E - 1) cosines,
each in the cells of both: 9,900 of 100. `evaluate.share` keeps that down, since only what is evaluated is compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.measurements.reading_options import GradientOptions, gradient_passes

if TYPE_CHECKING:
    from orchestrator.measurements.contracts import Measurement
    from orchestrator.measurements.surroundings import Surroundings

SOURCE = "plasticity reference, section 3.6"

Config = GradientOptions
passes = gradient_passes


def create(config: GradientOptions, around: Surroundings) -> Measurement:
    """Make the measurement."""
    from orchestrator.measurements.gradient_reading import Gradients  # here: reading a spec does not load torch

    return Gradients(config, around)
