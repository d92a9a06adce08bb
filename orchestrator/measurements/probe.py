"""Trains a copy of the policy for a few steps on something new and throws it away: can it still learn?

What is compared is how much the copy gains, with the same probe of the policy before training (boundary 0): a gain
ratio of 1 is as trainable as the start, less is loss. The level it begins at is told with it, since who begins lower
gains more. Four kinds, of which a list may have several:

supervised: the next-token loss on a made-up language, with no environment and nothing to generate. Cheap.

rl: plain RLOO on an environment, by the run's scorer: 32 tasks of 8 samples a step, looked at on held-out tasks. It
needs an environment that the curriculum leaves out (`sequence` says by its `order` what is trained), where a sample of
the base is correct with a probability of .1 to .6. It is played by the transformers library on the copy, whatever
engine the run has.

random_labels: how well arbitrary labels are learnt by heart.

linear: what a linear classifier reads off the hidden states; nothing is trained but the classifier.

The copy has an optimiser of its own with fresh moments, a warm-up of a tenth of the steps, then a constant learning
rate, and no KL. It takes as much memory again as the weights, and their training. What it is given depends on the
protocol (all options but `seeds`) and the number of the probe's seed alone, so it is the same at every boundary and in
every run, whatever the run's seed; the run itself is not moved by it, bit for bit. docs/plasticity.md has the formulas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.measurements.probe_options import ProbeOptions, probe_passes

if TYPE_CHECKING:
    from orchestrator.measurements.contracts import Measurement
    from orchestrator.measurements.surroundings import Surroundings

SOURCE = "arXiv 2606.24752, 2303.01486, 2603.11682"

Config = ProbeOptions
passes = probe_passes


def create(config: ProbeOptions, around: Surroundings) -> Measurement:
    """Make the measurement."""
    from orchestrator.measurements.trainability import Probe  # here, so that reading a spec does not load torch

    return Probe(config, around)
