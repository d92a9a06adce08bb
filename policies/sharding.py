"""A model whose weights are spread over ranks by torch's `fully_shard` (FSDP2): a layer is gathered when it is needed.

With several replicas N ranks are as many groups, each of which holds the whole model in shards: weights are gathered
within a group, and gradients then summed over groups too (hybrid sharding). Gradients are summed over ranks, not
averaged, since the learner's loss is a sum. Adapters are not spread: each rank has all of them, and their gradients are
added up once an update. Source: arXiv 2304.11277.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from policies import adapters, joint_saving
from policies.errors import PolicyError
from policies.host_copies import HostCopies
from policies.layers import decoder_layers
from policies.micro_batches import SCORE, score_whole
from policies.optimizer import Optimizer, OptimizerState, Part
from policies.ranks import Ranks, full_tensor, local_tensor
from policies.tensor_files import Piece, SavedTensors, Sizes


def shard(model: Any, device: torch.device, replicas: int = 1, *, has_masters: bool = False) -> None:
    """Spread a model's weights over the ranks of each replica, in place, to their devices: each layer, then the rest.

    Weights below float32 become float32 ones that are cast when they are gathered: they are their own masters, and
    gradients are added up in float32. Those stay as they are that are frozen beside adapters or have masters elsewhere.
    Raises PolicyError: an architecture whose layers are not found, replicas that ranks cannot be dealt to.
    """
    layers = decoder_layers(model)
    if not layers:
        raise PolicyError(f"a {type(model).__name__} cannot be sharded: its layers are not found")
    dtype, learnt = next(model.parameters()).dtype, set(adapters.adapter_weights(model).values())
    precision, mesh = MixedPrecisionPolicy(), _mesh(device, replicas)
    model.cpu()  # so that a device never holds more than a layer that is not spread yet
    for adapter in learnt:
        adapter.data = adapter.data.to(device)
    is_short = torch.finfo(dtype).bits < 32 and not learnt
    if is_short:
        precision = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    for module in (*layers.values(), model):
        if is_short and not has_masters:
            module.float()  # one after the other: the host never holds all of them in float32
        fully_shard(module, mesh=mesh, mp_policy=precision, ignored_params=learnt)
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
    """The optimiser of a sharded model; each rank saves its shards, and any number of ranks reads them.

    Rank 0's tells the others to do the same, and they `follow`. `source`: on rank 0 the model that plays, which may be
    changed between updates; on the others the sharded one itself.
    """

    def __init__(self, work: Ranks, is_short: bool, source: Any, model: Any, *options: Any) -> None:
        self.work, self.is_short, self.source, self.model, self._sends = work, is_short, source, model, False
        self._copies, self._saving = HostCopies(), Thread()
        self._host_mesh: DeviceMesh | None = None
        super().__init__(model, *options)
        self._sends = work.leads

    def follow(self, command: str, data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """As another rank: do what rank 0's does. Raises PolicyError: a command that is not known."""
        if command == "save":
            self._save_share(Path(data["folder"]), data["is_copied"])
        elif command == "load":
            self.load(Path(data["folder"]))
        elif command == "reset":
            self._copy_adapters(tensors)
            self.reset()
        elif command == "forget":
            self.forget(data["name"], data["dim"], tensors["places"])
        elif command == "gather":
            self._gather()
        elif command == "spread":
            self._spread({})
        elif command == "base":
            self._spread_base()
        else:
            raise PolicyError(f"rank 0 tells {command!r}, which is not known here: do all ranks run the same version?")

    def reset(self) -> None:
        """Forget all moments and the updates before, on all ranks; take adapters as they are now."""
        fresh = adapters.adapter_weights(self.source)
        self._send("reset", fresh)
        self._copy_adapters(fresh)
        super().reset()

    def _copy_adapters(self, source: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, one in source.items():
                self.weights[name].copy_(one)

    @contextmanager
    def whole_weights(self) -> Iterator[Mapping[str, Tensor]]:
        """As rank 0: lend what learns as `Optimizer` does, gathered on the host; every rank then takes its share."""
        self.num_changes += 1
        with self.work.together():
            self._send("gather")
            whole = self._gather()
        yield whole
        with self.work.together():
            self._send("spread")
            self._spread(whole)
        own = dict(self.source.named_parameters())
        with torch.no_grad():
            for name, one in whole.items():
                own[name].copy_(one)

    def _gather(self) -> dict[str, Tensor]:
        """Gather all weights, a tensor at a time; rank 0 keeps them."""
        whole = {}
        for name, master in self.masters.items():
            one = full_tensor(master.detach())
            if self.work.leads:
                whole[name] = one.to("cpu", copy=True)
        return whole

    def _spread(self, whole: Mapping[str, Tensor]) -> None:
        """Take this rank's share of all weights, which rank 0 has."""
        for name, master in self.masters.items():
            self._take_share(master, whole.get(name))
        self.copy_back()

    def take_base(self) -> None:
        """As rank 0: have what is frozen beside adapters, on all ranks, follow the model that plays."""
        with self.work.together():
            self._send("base")
            self._spread_base()

    def _spread_base(self) -> None:
        whole = dict(self.source.named_parameters()) if self.work.leads else {}
        for name, weight in self.model.named_parameters():
            if adapters.stands_beside(name):
                self._take_share(weight, whole.get(name))

    @torch.no_grad()
    def _take_share(self, own: Tensor, whole: Tensor | None) -> None:
        """Fill a tensor, of a sharded one this rank's rows, from rank 0's whole one; None: on the others."""
        here = local_tensor(own)
        sent = torch.empty(own.shape, dtype=own.dtype, device=here.device)
        if whole is not None:
            sent.copy_(whole)
        self.work.broadcast(sent)
        if isinstance(own, DTensor):
            for dim, (size, first) in enumerate(zip(*place_of(own), strict=True)):
                sent = sent.narrow(dim, min(first, sent.shape[dim]), size)
        here.copy_(sent)

    def forget(self, name: str, dim: int, places: Tensor) -> None:
        """Clear some slices' moments as `Optimizer` does, on every rank those that it has."""
        self._send("forget", {"places": places}, name=name, dim=dim)
        super().forget(name, dim, places)

    def _clear(self, moment: Tensor, dim: int, places: Tensor) -> None:
        if isinstance(moment, DTensor):
            shape, offset = place_of(moment)
            is_here = (places >= offset[dim]) & (places < offset[dim] + shape[dim])
            moment, places = moment.to_local(), places[is_here] - offset[dim]
        super()._clear(moment, dim, places)

    def step(self, lr: float, refuses: Callable[[float], bool] = lambda norm: False) -> tuple[float, bool]:
        """Apply the gathered gradients as `Optimizer.step` does, those of adapters added up over the ranks first."""
        whole = [one.grad for one in self.masters.values() if one.grad is not None and not isinstance(one, DTensor)]
        if whole:
            total = self.work.total(torch.cat([one.flatten() for one in whole]))
            for own, summed in zip(whole, torch.split(total, [one.numel() for one in whole]), strict=True):
                own.copy_(summed.view_as(own))
        return super().step(lr, refuses)

    def snapshot(self, aside: Path, copies: HostCopies | None = None) -> joint_saving.Save:
        """As rank 0: have all ranks take their shares, and the others begin to write theirs, into the folder aside."""
        joint_saving.begin(aside)
        self._send("save", folder=str(aside.absolute()), is_copied=copies is not None)
        own = self.state(copies)

        def save(folder: Path) -> dict[str, str]:
            return own.save(folder) | joint_saving.collect(aside, folder, self.work.size, self.work.lost)

        return save

    def _save_share(self, aside: Path, is_copied: bool) -> None:
        """Write this rank's share in a thread; unless it is copied, rank 0 waits before it goes on."""
        if not aside.is_dir():
            raise PolicyError(f"rank {self.work.rank} does not see {aside}: have the home where all machines see it")
        if self._saving.ident is not None:
            self._saving.join()
        save = self.state(self._copies if is_copied else None).save
        given = (save, aside, self.work.rank)
        self._saving = Thread(target=joint_saving.write_share, args=given, name="checkpoint", daemon=True)
        self._saving.start()

    def load(self, folder: Path) -> None:
        """Go on from a state that was saved; every rank reads the folder."""
        with self.work.together():
            self._send("load", folder=str(folder))
            before, self._sends = self._sends, False  # of the `reset` inside
            try:
                super().load(folder)
            finally:
                self._sends = before

    def _send(self, command: str, tensors: Mapping[str, Tensor] | None = None, **data: Any) -> None:
        if self._sends:
            with self.work.together():
                self.work.send(command, data, **(tensors or {}))

    def _copied(self, weight: Tensor) -> Tensor:
        """Make a weight's master on the host; of a sharded one, a tensor that is sharded alike."""
        if not isinstance(weight, DTensor):
            return super()._copied(weight)
        if self._host_mesh is None:
            mesh = weight.device_mesh
            self._host_mesh = init_device_mesh("cpu", tuple(mesh.shape), mesh_dim_names=mesh.mesh_dim_names)
        own = super()._copied(weight.to_local()).detach()
        return _like(weight, own, self._host_mesh).requires_grad_()

    def _own(self, state: OptimizerState) -> OptimizerState:
        """Give this rank's share: its shards, and what is whole on each rank to the first."""
        shards = {name: one for name, one in state.tensors.items() if isinstance(one, DTensor)}
        part = part_of(next(iter(shards.values()))) if shards else Part() if self.work.rank == 0 else None
        if part is None:
            return replace(state, tensors={}, part=None)
        whole = {name: one for name, one in state.tensors.items() if name not in shards and part.number == 1}
        pieces = {name: Piece(tuple(one.shape), place_of(one)[1]) for name, one in shards.items()}
        tensors = {name: one.to_local() for name, one in shards.items()} | whole
        return replace(state, tensors=tensors, part=part, pieces=pieces)

    def _read(self, saved: SavedTensors, name: str, like: Tensor) -> Tensor:
        if not isinstance(like, DTensor):
            return super()._read(saved, name, like)
        shape, offset = place_of(like)
        return _like(like, saved.read(name, offset, shape).to(like.device), like.device_mesh)

    def _short_names(self) -> list[str]:
        return list(self.weights) if self.is_short else []


def _like(tensor: DTensor, own: Tensor, mesh: DeviceMesh) -> DTensor:
    """Make a tensor that is sharded as this one is, of this rank's part."""
    shape, stride = tensor.shape, tensor.stride()
    return DTensor.from_local(own, mesh, tensor.placements, run_check=False, shape=shape, stride=stride)


def place_of(tensor: DTensor) -> tuple[Sizes, Sizes]:
    """Give the shape of this rank's shard, and where it begins in the whole; the last ones may be empty."""
    return compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)


def part_of(tensor: DTensor) -> Part | None:
    """Say which file this rank's shard goes into, by its place in the mesh; None: another rank has a copy of it."""
    at = tensor.device_mesh.get_coordinate()
    assert at is not None
    number, num = 0, 1
    for own, size, placement in zip(at, tensor.device_mesh.shape, tensor.placements, strict=True):
        if not placement.is_replicate():
            number, num = number * size + own, num * size
        elif own:
            return None
    return Part(number + 1, num)
