"""How new weights reach a vLLM engine in this process: its transfer protocol, by plain references.

vLLM hands the engine's model to a registered transfer engine and drives it through start, update and finish, so that
the version of the weights lives inside vLLM and comes back with every answer. The class is written against the
protocol of vLLM 0.32 and does not inherit from `WeightTransferEngine`, so that this file can be read without vLLM.
"""

from __future__ import annotations

from typing import Any

import torch

BACKEND = "same_process"


class SameProcess:
    """Loads the learner's own tensors into the engine's model; nothing is sent anywhere.

    Only for weights that vLLM keeps as they are in a checkpoint: quantised ones and adapters need its reloading.
    """

    supports_draft_weight_update = False
    defers_processing = False

    def __init__(self, config: Any, vllm_config: Any, device: torch.device, model: Any) -> None:
        self.device, self.model = device, model

    def parse_init_info(self, init_info: dict[str, Any]) -> dict[str, Any]:
        """Take the init request as it is; there is nothing to say."""
        return init_info

    def init_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Connect to nothing."""

    def start_weight_update(self) -> None:
        """Prepare nothing: matrices are not packed (see `vllm_engine.prepare`)."""

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Load `tensors`, pairs of the library's name and a tensor; names that vLLM fuses are fused here.

        With tied embeddings the head is absent and shares its parameter with them.
        """
        self.model.load_weights(iter(update_info["tensors"]))
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)

    def finish_weight_update(self) -> None:
        """Finish nothing."""

    def reset_weight_update_target(self) -> None:
        """Keep the one model there is."""

    def drain_pending(self) -> None:
        """Wait for nothing: an update is done when it returns."""

    def shutdown(self) -> None:
        """Let go of nothing."""


def register() -> None:
    """Make the engine known to vLLM under `BACKEND`, once a process."""
    from vllm.distributed.weight_transfer import WeightTransferEngineFactory

    if BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(BACKEND, SameProcess)


def replace_weights(llm: Any, model: Any, version: int) -> None:
    """Give an engine all weights of a model, under their version, and clear what it kept of the old ones.

    Not while it generates.
    """
    tensors = [(name, parameter.detach()) for name, parameter in model.named_parameters()]
    llm.start_weight_update()
    llm.update_weights({"update_info": {"tensors": tensors}})
    llm.finish_weight_update(str(version))
