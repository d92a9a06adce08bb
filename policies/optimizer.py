"""AdamW on float32 copies: gradients gathered over micro-batches, clipped, applied or refused as a whole.

Weights shorter than float32 have a float32 master copy that the optimiser moves; at a learning rate of 1e-6 a
bfloat16 weight rounds almost every update away. float32 weights are their own master, unless all of this is to be on
the host, where there is room for 16 bytes a weight that a GPU has not. Source of AdamW: arXiv 1711.05101.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from policies.errors import CheckpointError
from policies.host_copies import HostCopies
from policies.ranks import full_tensor, local_tensor
from policies.tensor_files import Piece, SavedTensors, write

STATE_FILES, COUNTERS_FILE = "optimizer*.safetensors", "optimizer.json"
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Part:
    """Which of the files of a state is one process's; one of one is the whole."""

    number: int = 1
    num: int = 1

    @property
    def file(self) -> str:
        """Its name."""
        return f"optimizer-{self.number:05}-of-{self.num:05}.safetensors" if self.num > 1 else "optimizer.safetensors"


@dataclass(frozen=True)
class OptimizerState:
    """What AdamW knows of the weights, by name, and short weights' masters; how many updates it counts."""

    tensors: Mapping[str, Tensor]
    counters: Mapping[str, Any]
    part: Part | None = Part()  # None: others have all that is here
    pieces: Mapping[str, Piece] = field(default_factory=dict)  # where tensors lie that are parts of larger ones

    def save(self, folder: Path) -> dict[str, str]:
        """Write it into a folder, a tensor at a time; no pickle, no time, no path. Gives sha256 of large files."""
        if self.part is None:
            return {}
        folder.mkdir(parents=True, exist_ok=True)
        sha256 = write(folder / self.part.file, self.tensors, self.pieces)
        if self.part.number == 1:
            (folder / COUNTERS_FILE).write_text(json.dumps(self.counters) + "\n")
        return {self.part.file: sha256}


class Optimizer:
    """The trainable weights of a model and what AdamW knows about each of them.

    `on_host`: masters, gradients and moments are on the CPU, which takes the step; weights are copied back.
    """

    def __init__(
        self, model: Any, betas: tuple[float, float], weight_decay: float, clip_norm: float, on_host: bool = False
    ) -> None:
        self.on_host = on_host
        self.weights: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.betas, self.weight_decay, self.clip_norm = betas, weight_decay, clip_norm
        self.masters: dict[str, Tensor] = {}
        self.num_changes = 0  # how often weights were lent to be changed, or taken as somebody else had changed them
        self.reset()

    def reset(self) -> None:
        """Forget all moments and the updates before, with their warm-up; take the weights as they are now.

        A master stays that rounds to its weight: what was learnt and is less than a shorter type tells is in it.
        """
        self.masters = {name: self._master(w, self.masters.get(name)) for name, w in self.weights.items()}
        self.adam = torch.optim.AdamW(
            list(self.masters.values()), betas=self.betas, weight_decay=self.weight_decay, fused=True
        )
        self.num_updates = 0
        self.num_changes += 1
        self.clear_gradients()

    def clear_gradients(self) -> None:
        """Set all gradients to zero, so that a weight that gets none still counts as having one."""
        for name, master in self.masters.items():
            master.grad = torch.zeros_like(master) if master.grad is None else master.grad.zero_()
            if self.weights[name] is not master:
                self.weights[name].grad = None

    def gather_gradients(self) -> None:
        """After each backward pass: add the gradients of weights to those of their masters, where these are apart."""
        for name, master in self.masters.items():
            weight = self.weights[name]
            if weight is not master and weight.grad is not None:
                assert master.grad is not None
                local_tensor(master.grad).add_(local_tensor(weight.grad).to(master.device))
                weight.grad = None

    def step(self, lr: float, refuses: Callable[[float], bool] = lambda norm: False) -> tuple[float, bool]:
        """Apply the gathered gradients, if all are finite, and clear them; give their norm and whether it was done.

        `refuses` is asked by their norm before clipping.
        """
        norm = float(full_tensor(torch.nn.utils.clip_grad_norm_(self.masters.values(), self.clip_norm)))
        is_applied = norm < float("inf") and not refuses(norm)  # false for nan too
        if is_applied:
            self.adam.param_groups[0]["lr"] = lr
            self.adam.step()
            self.copy_back()
            self.num_updates += 1
        self.clear_gradients()
        return norm, is_applied

    @contextmanager
    def whole_weights(self) -> Iterator[Mapping[str, Tensor]]:
        """Lend what learns by name, at least float32, to be changed in place; the model follows when the block ends."""
        self.num_changes += 1
        yield self.masters
        self.copy_back()

    def take_base(self) -> None:
        """Let what is frozen beside adapters follow the policy's; in one process it is the policy's own."""

    def forget(self, name: str, dim: int, places: Tensor) -> None:
        """Clear the moments of some slices of a weight along a dimension, and the count of its updates.

        Adam counts by tensor: the slices that stay are corrected for a bias that they do not have, for a while.
        """
        if (state := self.adam.state.get(self.masters[name])) is not None:
            for moment in MOMENTS:
                self._clear(state[moment], dim, places)
            state["step"].zero_()

    def snapshot(self, aside: Path, copies: HostCopies | None = None) -> Callable[[Path], Mapping[str, str]]:
        """Take all but the weights that an exact resume needs; what is given writes it, and gives sha256 by file.

        With `copies` it may do so while updates go on. `aside`: an own folder for several processes that do it
        together, beside the one that is written.
        """
        return self.state(copies).save

    def state(self, copies: HostCopies | None = None) -> OptimizerState:
        """All but the weights that an exact resume needs; the tensors are those that move, unless they are copied."""
        tensors = {
            f"{name}.{moment}": self.adam.state[master][moment]
            for name, master in self.masters.items()
            for moment in MOMENTS
            if self.num_updates
        }
        tensors |= {f"{name}.master": self.masters[name].detach() for name in self._short_names()}
        counters: dict[str, Any] = {"num_updates": self.num_updates}
        if self.num_updates and (others := self._other_steps()):
            counters["steps"] = others
        state = self._own(OptimizerState(tensors, counters))
        return state if copies is None else replace(state, tensors=copies.of("optimizer", state.tensors))

    def load(self, folder: Path) -> None:
        """Go on from a state that was saved, bit for bit, once the weights are loaded; names and shapes must agree."""
        counters = json.loads((folder / COUNTERS_FILE).read_text())
        moments = MOMENTS if counters["num_updates"] else ()
        expected = {f"{name}.{moment}": tuple(w.shape) for name, w in self.weights.items() for moment in moments}
        expected |= {f"{name}.master": tuple(self.weights[name].shape) for name in self._short_names()}
        with ExitStack() as stack:
            saved = SavedTensors(sorted(folder.glob(STATE_FILES)), stack)
            if wrong := sorted({name for name, _ in expected.items() ^ saved.shapes.items()}):
                raise CheckpointError(
                    f"the optimiser state in {folder} does not fit this policy: {wrong[0]} is "
                    f"{saved.shapes.get(wrong[0], 'absent')} there and should be {expected.get(wrong[0], 'absent')} "
                    f"({len(wrong)} tensors differ). Resume with the spec it was saved with"
                )
            self.reset()
            self.num_updates = counters["num_updates"]
            self._take(saved, counters.get("steps", {}))

    def _take(self, saved: SavedTensors, steps: Mapping[str, int]) -> None:
        with torch.no_grad():
            for name in self._short_names():
                self.masters[name].copy_(self._read(saved, f"{name}.master", self.masters[name]))
        self.copy_back()
        if self.num_updates:
            for name, master in self.masters.items():
                state = {moment: self._read(saved, f"{name}.{moment}", master) for moment in MOMENTS}
                step = torch.tensor(float(steps.get(name, self.num_updates)), device=master.device)
                self.adam.state[master] = {"step": step, **state}

    def copy_back(self) -> None:
        """Let the weights follow what was changed in their masters."""
        with torch.no_grad():
            for name, master in self.masters.items():
                if self.weights[name] is not master:
                    local_tensor(self.weights[name]).copy_(local_tensor(master))

    def _clear(self, moment: Tensor, dim: int, places: Tensor) -> None:
        moment.index_fill_(dim, places.to(moment.device), 0.0)

    def _master(self, weight: Tensor, before: Tensor | None) -> Tensor:
        """Give what a weight is learnt in: itself, the master from before while that rounds to it, or a copy."""
        if not self.on_host and torch.finfo(weight.dtype).bits >= 32:
            return weight
        if before is not None:
            own = local_tensor(before).detach()
            if torch.equal(own.to(weight.dtype), local_tensor(weight).detach().to(own.device)):
                return before
        return self._copied(weight)

    def _copied(self, weight: Tensor) -> Tensor:
        """Make a weight's master: at least float32."""
        dtype = torch.promote_types(weight.dtype, torch.float32)
        device = torch.device("cpu") if self.on_host else weight.device
        return weight.detach().to(device, dtype, copy=True).requires_grad_()

    def _own(self, state: OptimizerState) -> OptimizerState:
        """Make a state one that this process saves."""
        return state

    def _read(self, saved: SavedTensors, name: str, like: Tensor) -> Tensor:
        """Make a saved tensor one of the optimiser, where another lies."""
        return saved.read(name).to(like.device)

    def _other_steps(self) -> dict[str, int]:
        """How many updates Adam counts for the weights of which some were forgotten since."""
        counted = {name: int(self.adam.state[master]["step"]) for name, master in self.masters.items()}
        return {name: steps for name, steps in counted.items() if steps != self.num_updates}

    def _short_names(self) -> list[str]:
        """Names of the weights that are shorter than float32, whose masters are saved beside them."""
        return [name for name, weight in self.weights.items() if torch.finfo(weight.dtype).bits < 32]
