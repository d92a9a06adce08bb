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
        from policies import adapters  # loads torch, which a spec that is only read does without

        if adapters.are_fresh(subject.model) and not subject.optimizer.num_updates:
            return Change("the adapters have learnt nothing", is_any=False)
        subject.policy.merge_adapters(subject.generator)
        subject.optimizer.take_base()
        subject.optimizer.reset()
        return Change("what the adapters learnt is in the model")


def create(config: Config) -> MergeAdapters:
    return MergeAdapters()
