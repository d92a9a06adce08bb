"""Merge adapters: what they learnt goes into the model that they stand beside, and fresh ones begin on it.

    W <- W + (alpha / rank) B A        A random, B 0; the optimiser and its warm-up begin anew

The policy stays what it was, to rounding in the model's `dtype`; what a later stage learns is a matrix of rank r of its
own, so that several stages together are not held to one. From then on a checkpoint holds the whole model too.
`policy.adapter.boundary: merge` does this at every boundary; this one has a condition.

Source: ReLoRA, arXiv 2307.05695, section 3, without its pruning of the moments: they are all forgotten.
"""

from __future__ import annotations

from typing import Literal

from policies.interventions.contracts import Change, Intervention, InterventionOptions, Subject

SOURCE = "arXiv 2307.05695"


class Config(InterventionOptions):
    type: Literal["merge_adapters"] = "merge_adapters"


class MergeAdapters(Intervention):
    def apply(self, subject: Subject) -> Change:
        num_updates = subject.optimizer.num_updates
        subject.policy.merge_adapters(subject.generator)
        subject.optimizer.take_base()
        subject.optimizer.reset()
        return Change(f"what {num_updates:,} updates taught the adapters is in the model", num_updates > 0)


def create(config: Config) -> MergeAdapters:
    return MergeAdapters()
