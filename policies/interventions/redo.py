"""ReDo: units of the MLPs that hardly ever act are born again.

A unit's score is s_i = E|h_i| / mean_k E|h_k| inside its layer, h the input of the layer's way out (of a gated MLP
act(gate) * up), over the tokens that the policy predicts on `rows` training tasks, played anew. Of units with
s_i <= tau the incoming weights are drawn again from the law that the architecture starts with, and the outgoing ones
become 0, so the function only loses what the unit contributed. Their moments become 0, and so does the count of
updates of the tensors that they lie in: Adam counts by tensor, as in the code of arXiv 2302.12902, and without that
the units die again.

On models with smooth gates, such as SiLU, hardly any unit is silent and this finds nothing to do (plasticity.md 3.3).

Source: The Dormant Neuron Phenomenon in Deep Reinforcement Learning, arXiv 2302.12902; timoklein/redo.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from policies.errors import PolicyError
from policies.interventions.contracts import Change, Intervention, InterventionOptions, Row, Subject

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from policies.layers import Mlp

SOURCE = "arXiv 2302.12902"


class Config(InterventionOptions):
    type: Literal["redo"] = "redo"
    tau: float = Field(0.025, ge=0, lt=1)
    """A unit is dormant whose mean activation is at most this share of its layer's mean."""
    rows: int = Field(64, ge=1)
    """Training tasks that activations are read on, an episode each."""


class Redo(Intervention):
    def __init__(self, config: Config) -> None:
        self.config = config

    def require_suited(self, model: Any) -> None:
        mlps_of(model)

    def apply(self, subject: Subject) -> Change:
        mlps = mlps_of(subject.model)
        activity = mean_activity(subject.model, mlps, subject.rows(self.config.rows))
        dormant = [dormant_units(activity_U, self.config.tau) for activity_U in activity]
        num_units, num_reborn = sum(mlp.num_units for mlp in mlps), sum(map(len, dormant))
        if num_reborn:
            with subject.optimizer.whole_weights() as weights:
                for mlp, units in zip(mlps, dormant, strict=True):
                    if len(units):
                        revive(subject, weights, mlp, units)
        said = "is" if num_reborn == 1 else "are"
        found = f"{num_reborn:,} of {num_units:,} units {said} {self.config.tau:g}-dormant"
        return Change(f"{found}, and born again" if num_reborn else found, num_reborn > 0)


def dormant_units(activity_U: Tensor, tau: float) -> Tensor:
    """Places of a layer's tau-dormant units, from the mean |activation| of each; all, in a layer that is silent."""
    from policies.plasticity.dormant import scores  # loads torch, which a spec that is only read does without

    return (scores(activity_U) <= tau).nonzero()[:, 0]


def mlps_of(model: Any) -> list[Mlp]:
    """Find the MLPs that text goes through. Raises PolicyError where we know none, or there are mixtures of experts."""
    from policies.layers import WAYS, find_mlps, has_experts  # loads torch and transformers

    if has_experts(model):
        raise PolicyError("redo does not know the units of mixtures of experts: leave it out, or take shrink_perturb")
    if not (found := find_mlps(model)):
        known = ", ".join(" + ".join((*into, out)) for into, out in WAYS)
        raise PolicyError(
            f"redo finds no MLP that it knows in {type(model).__name__} ({known}): leave it out, or take shrink_perturb"
        )
    return found


def mean_activity(model: Any, mlps: Sequence[Mlp], rows: Sequence[Row]) -> list[Tensor]:
    """Mean |activation| of every unit, an MLP each, over the tokens that the policy predicts; float64, on the CPU."""
    import torch

    sums = [torch.zeros(mlp.num_units, dtype=torch.float64) for mlp in mlps]
    num_tokens = 0
    device = next(model.parameters()).device
    with _watching(model, mlps) as seen:
        for row in rows:
            places = torch.from_numpy(row.mask_T.nonzero()[0] - 1).to(device)  # a token is predicted one before it
            if len(places) == 0:
                continue
            seen.clear()
            model.base_model(input_ids=torch.from_numpy(row.ids_T[None, :-1]).to(device), use_cache=False)
            for own, h_1TU in zip(sums, (seen[mlp.outgoing] for mlp in mlps), strict=True):
                h_TU = h_1TU.flatten(0, -2).index_select(0, places)
                own += h_TU.abs().sum(0, dtype=torch.float64).cpu()
            num_tokens += len(places)
    if not num_tokens:
        raise PolicyError("redo has no token to read activations on: no training task could be played")
    return [own / num_tokens for own in sums]


@contextmanager
def _watching(model: Any, mlps: Sequence[Mlp]) -> Iterator[dict[str, Tensor]]:
    """Keep what goes into the way out of every MLP, by its name, for as long as the block lasts."""
    seen: dict[str, Tensor] = {}
    hooks = []
    for mlp in mlps:

        def keep(module: Any, given: tuple[Tensor, ...], name: str = mlp.outgoing) -> None:
            seen[name] = given[0].detach()

        hooks.append(model.get_submodule(mlp.outgoing).register_forward_pre_hook(keep))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def revive(subject: Subject, weights: Mapping[str, Tensor], mlp: Mlp, units: Tensor) -> None:
    """Draw the incoming weights of some units again, let nothing go out of them, forget what Adam knew of both."""
    import torch

    optimizer = subject.optimizer
    std = getattr(subject.model.config.get_text_config(), "initializer_range", None) or 0.02
    for layer in mlp.incoming:
        weight = weights[f"{layer}.weight"]
        width = weight.shape[mlp.incoming_dim]
        places = torch.cat([units + first for first in range(0, width, mlp.num_units)])
        size = [len(places), weight.shape[1 - mlp.incoming_dim]]
        fresh = std * torch.randn(size, generator=subject.generator)
        weight.index_copy_(mlp.incoming_dim, places.to(weight.device), _along(fresh, mlp.incoming_dim).to(weight))
        optimizer.forget(f"{layer}.weight", mlp.incoming_dim, places)
        if (bias := weights.get(f"{layer}.bias")) is not None:
            bias.index_fill_(0, places.to(bias.device), 0.0)
            optimizer.forget(f"{layer}.bias", 0, places)
    name = f"{mlp.outgoing}.weight"
    weights[name].index_fill_(mlp.outgoing_dim, units.to(weights[name].device), 0.0)
    optimizer.forget(name, mlp.outgoing_dim, units)


def _along(fresh: torch.Tensor, dim: int) -> Tensor:
    return fresh if dim == 0 else fresh.T


def create(config: Config) -> Redo:
    return Redo(config)
