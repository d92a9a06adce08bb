"""A model whose weights are spread over ranks by torch's `fully_shard` (FSDP2): a layer is gathered when it is needed.

With several replicas N ranks are as many groups, each of which holds the whole model in shards: weights are gathered
within a group, and gradients then summed over groups too (hybrid sharding). Gradients are summed over ranks, not
averaged, since the learner's loss is a sum. Adapters are not spread: each rank has all of them, and their gradients are
added up once an update. Source: arXiv 2304.11277.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from policies import adapters
from policies.errors import PolicyError
from policies.layers import decoder_layers
from policies.micro_batches import SCORE, score_whole
from policies.optimizer import Optimizer, OptimizerState
from policies.ranks import Ranks, full_tensor


def shard(model: Any, device: torch.device, replicas: int = 1) -> None:
    """Spread a model's weights over the ranks of each replica, in place, to their devices: each layer, then the rest.

    Weights below float32 become float32 ones that are cast when they are gathered: they are their own masters, and
    gradients are added up in float32; those that are frozen beside adapters stay as they are. Raises PolicyError: an
    architecture whose layers are not found, replicas that ranks cannot be dealt to.
    """
    layers = decoder_layers(model)
    if not layers:
        raise PolicyError(f"a {type(model).__name__} cannot be sharded: its layers are not found")
    dtype, learnt = next(model.parameters()).dtype, set(adapters.adapter_weights(model).values())
    precision, mesh = MixedPrecisionPolicy(), _mesh(device, replicas)
    model.cpu()  # so that a device never holds more than a layer that is not spread yet
    for adapter in learnt:
        adapter.data = adapter.data.to(device)
    if torch.finfo(dtype).bits < 32 and not learnt:
        model.float()
        precision = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    for layer in layers.values():
        fully_shard(layer, mesh=mesh, mp_policy=precision, ignored_params=learnt)
    fully_shard(model, mesh=mesh, mp_policy=precision, ignored_params=learnt)
    # what the learner calls goes through the body and the head, and not through the model's own forward
    setattr(model, SCORE, MethodType(_score, model))
    register_fsdp_forward_method(model, SCORE)
    for module in model.modules():
        if isinstance(module, FSDPModule):  # of each: it does not hold for those inside
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def _mesh(device: torch.device, replicas: int) -> DeviceMesh:
    """Lay out the ranks, [shards] or [replicas, shards]: a replica's follow each other, so that a machine has it."""
    size = dist.get_world_size()
    if size % replicas:
        raise PolicyError(f"{size} ranks are not {replicas} replicas of equally many")
    if replicas == 1:
        return init_device_mesh(device.type, (size,))
    return init_device_mesh(device.type, (replicas, size // replicas), mesh_dim_names=("replica", "shard"))


def _score(model: Any, *given: Any) -> tuple[Tensor | None, ...]:
    """Do what `score_whole` does; not views, whose hooks an operation in place would drop."""
    return tuple(None if one is None else one.clone() for one in score_whole(model, *given))


class ShardedOptimizer(Optimizer):
    """The optimiser of a sharded model; its state is saved whole, as that of one process, so any layout reads it.

    Rank 0's tells the others to do the same. `source`: on rank 0, the policy that plays, whose adapters may have been
    changed since the last update; None: its weights are those of the updates.
    """

    def __init__(self, work: Ranks, is_short: bool, source: Any, model: Any, *options: Any) -> None:
        self.work, self.is_short, self._sends = work, is_short, False
        self.source: Any = source if adapters.adapter_weights(model) else None
        super().__init__(model, *options)
        self._sends = work.leads

    def reset(self) -> None:
        """Forget all moments and the updates before, on all ranks; take adapters as they are now."""
        fresh = {} if self.source is None else adapters.adapter_weights(self.source)
        self._send("reset", fresh)
        self.copy_adapters(fresh)
        super().reset()

    def copy_adapters(self, source: Mapping[str, Tensor]) -> None:
        """Set adapters, by name, to these values."""
        with torch.no_grad():
            for name, one in source.items():
                self.weights[name].copy_(one)

    def step(self, lr: float, refuses: Callable[[float], bool] = lambda norm: False) -> tuple[float, bool]:
        """Apply the gathered gradients as `Optimizer.step` does, those of adapters added up over the ranks first."""
        whole = [one.grad for one in self.masters.values() if one.grad is not None and not isinstance(one, DTensor)]
        if whole:
            total = self.work.total(torch.cat([one.flatten() for one in whole]))
            for own, summed in zip(whole, torch.split(total, [one.numel() for one in whole]), strict=True):
                own.copy_(summed.view_as(own))
        return super().step(lr, refuses)

    def state(self) -> OptimizerState:
        """All but the weights that an exact resume needs, gathered."""
        self._send("state")
        with self.work.naming_lost_rank():
            return super().state()

    def load(self, folder: Path) -> None:
        """Go on from a state that was saved; every rank reads the folder."""
        self._send("load", folder=str(folder))
        before, self._sends = self._sends, False  # of the `reset` inside
        try:
            with self.work.naming_lost_rank():
                super().load(folder)
        finally:
            self._sends = before

    def _send(self, command: str, tensors: Mapping[str, Tensor] | None = None, **data: str) -> None:
        if self._sends:
            with self.work.naming_lost_rank():
                self.work.send(command, data, **(tensors or {}))

    def copy_back(self) -> None:
        """Do nothing: shards are their own masters, in the model as well."""

    def _to_saved(self, own: Tensor) -> Tensor:
        gathered = full_tensor(own)
        return gathered.cpu() if self.work.leads else gathered.new_empty(0)  # only rank 0 writes

    def _from_saved(self, saved: Tensor, like: Tensor) -> Tensor:
        moved = saved.to(like.device)
        return distribute_tensor(moved, like.device_mesh, like.placements) if isinstance(like, DTensor) else moved

    def _short_names(self) -> list[str]:
        return list(self.weights) if self.is_short else []
