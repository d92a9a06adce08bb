"""The learner's end of a group of NCCL, against the weight transfer of vLLM 0.32. **Not run on a GPU.**

vLLM's own trainer engine gives every server the same first rank, so it takes one server; what it is made of takes any
number, and is used here. A call that waits for a rank that is gone ends when the communicator is aborted; one that
waits for all ranks to enter NCCL cannot be ended, and its thread is left behind.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import torch

from policies.errors import PolicyError
from policies.samplers.serving.weight_group import BUFFER_BYTES, JOIN_S, NUM_BUFFERS, NamedTensors
from policies.samplers.vllm_engine import ENVIRONMENT

KEY = "sampler.hand_over: nccl"


class NcclEnd:
    """Sends from a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._communicator: Any = None
        self._is_left = False

    def join(self, address: str, port: int, size: int) -> None:
        """See `GroupEnd`. An error of torch's or NCCL's: not all ranks came."""
        from vllm.distributed.device_communicators.pynccl import PyNcclCommunicator
        from vllm.distributed.utils import StatelessProcessGroup
        from vllm.utils.nccl import unpinned_nccl_env

        meeting = StatelessProcessGroup.create(address, port, 0, size, store_timeout=int(JOIN_S))
        with torch.cuda.device(self._device), unpinned_nccl_env():
            communicator = PyNcclCommunicator(meeting, device=torch.device("cuda", torch.cuda.current_device()))
        if communicator.disabled:  # without a word: sending would do nothing
            raise RuntimeError("vLLM does not find NCCL here, or VLLM_DISABLE_PYNCCL is set")
        self._communicator = communicator
        if self._is_left:  # nobody waits for it any more
            self.leave()

    def send(self, tensors: NamedTensors) -> None:
        """See `GroupEnd`."""
        from vllm.distributed.weight_transfer.packed_tensor import packed_nccl_broadcast_producer

        with torch.cuda.device(self._device), torch.no_grad():
            torch.cuda.synchronize()  # it sends on streams of its own, which do not wait for the update
            packed_nccl_broadcast_producer(
                iter(tensors), self._communicator, 0, _tensor, buffer_size_bytes=BUFFER_BYTES, num_buffers=NUM_BUFFERS
            )

    def leave(self) -> None:
        """See `GroupEnd`."""
        self._is_left = True
        communicator, self._communicator = self._communicator, None
        if communicator is not None:
            communicator.destroy()  # it aborts, and waits five seconds for that


def _tensor(item: tuple[str, torch.Tensor]) -> torch.Tensor:
    return item[1]


def require_possible(device: torch.device) -> None:
    """Refuse where no weights can be sent over NCCL from here; imports vLLM without its changes to the process."""
    files = "or say `hand_over: files`"
    if not torch.cuda.is_available():
        raise PolicyError(f"{KEY}: torch finds no CUDA device here, and NCCL is between GPUs: take one, {files}")
    if device.type != "cuda":
        raise PolicyError(f"{KEY}: the policy is on {device.type}: say `resources: {{device: cuda}}`, {files}")
    if find_spec("vllm") is None:
        raise PolicyError(
            f"{KEY}: vLLM, whose NCCL it uses, is not installed beside the learner: pip install 'evergreen-rl[vllm]', "
            f"{files}"
        )
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import vllm.distributed.device_communicators.pynccl
        import vllm.distributed.weight_transfer.packed_tensor  # noqa: F401
    except ImportError as error:
        raise PolicyError(
            f"{KEY}: the vLLM that is installed here has no weight transfer as 0.32 has it ({error}): install that, "
            f"{files}"
        ) from error
