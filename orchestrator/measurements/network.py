"""The network itself, read on frozen rows: fixed-text entropy, drift, dormant units, ranks, weights.

The rows are taken once, where it is first measured: of every environment the first `prompts` tasks of the evaluation,
from its categories in turn, each with the first `responses` answers that the policy gave there. An environment that
joins later adds its own then. From boundary to boundary they are the same token ids, resumed or forked, so what differs
is the policy. One pass without gradient serves all of this (plasticity.md):

    of an environment
      entropy_fixed          token entropy on the frozen answers, T = 1 (1.3)
      kl_base, kl_prev       KL(first policy || this one), KL(last one || this)
      flip_base, flip_prev   tokens where another one became the likeliest (3.8)
    of the network
      dormant_<tau>          hidden units of the MLPs that are nearly silent,
      dormant_functional_    or read by nobody (3.3)
      log_activation_q05     quantiles of how active they are
      erank, stable_rank,    ranks of the prompts' features, also _centred,
      srank, ...             and how many prompts those are: rank_rows (3.4)
      weight_norm,           and distances to the weights at the start and at
      weight_dist_base, ...  the boundary measured last; no pass at all (3.5)

A number that cannot be told is missing, and an event says once why: MLPs that are not found, fewer prompts than twice
the width of the features, weights of a boundary that is in no checkpoint of this run. The cost is one forward pass of
every row; nothing is generated. A share of dormant units of 0 is no evidence that the policy can still learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.measurements.reading_options import NetworkOptions, network_passes

if TYPE_CHECKING:
    from orchestrator.measurements.contracts import Measurement
    from orchestrator.measurements.surroundings import Surroundings

SOURCE = "plasticity reference, sections 1.3, 3.3 to 3.5, 3.8"

Config = NetworkOptions
passes = network_passes


def create(config: NetworkOptions, around: Surroundings) -> Measurement:
    """Make the measurement."""
    from orchestrator.measurements.network_reading import Memory, Network  # here: reading a spec does not load torch

    return Network(config, around, Memory())
