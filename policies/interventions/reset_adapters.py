"""Reset adapters: what they learnt is forgotten, and fresh ones begin on the model as it is.

The strongest reset there is: the next stage begins where the first did, or where adapters were last merged; what is
carried over is what the curriculum knows. The optimiser and its warm-up begin anew.
`policy.adapter.boundary: reset` does this at every boundary; this one has a condition.

Source: plasticity.md 4: the control that carries nothing over in the weights.
"""

from __future__ import annotations

from typing import Literal

from policies.interventions.contracts import Change, Intervention, InterventionOptions, Subject

SOURCE = "baseline"


class Config(InterventionOptions):
    type: Literal["reset_adapters"] = "reset_adapters"


class ResetAdapters(Intervention):
    def apply(self, subject: Subject) -> Change:
        from policies import adapters  # loads torch, which a spec that is only read does without

        if adapters.are_fresh(subject.model) and not subject.optimizer.num_updates:
            return Change("the adapters have learnt nothing", is_any=False)
        adapters.reset(subject.model, subject.generator)
        subject.optimizer.reset()
        return Change("what the adapters learnt is forgotten")


def create(config: Config) -> ResetAdapters:
    return ResetAdapters()
