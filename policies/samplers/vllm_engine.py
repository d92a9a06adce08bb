"""A vLLM engine in this process, on a CPU or a GPU, that disturbs nothing around it.

vLLM wants the process to itself: it seeds the global generators, on a CPU it replaces `torch.set_num_threads` by a
function that does nothing, and it puts libraries into `LD_PRELOAD` that every later subprocess would load. All of it
is put back here. Signal handlers it leaves alone in this process.

New weights come by plain references: vLLM drives a registered transfer engine through start, update and finish, so that
the version of the weights lives inside vLLM and comes back with every answer. Written against the protocol of vLLM 0.32
without inheriting from `WeightTransferEngine`, so that this file can be read without vLLM.
"""

from __future__ import annotations

import logging
import os
import random
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from policies.errors import PolicyError
from policies.policy import Policy

BACKEND = "same_process"
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in this process, or weights would cross a border
    "VLLM_CONFIGURE_LOGGING": "0",  # its set-up closes the log handlers of everyone else
    "VLLM_NO_USAGE_STATS": "1",  # sends nothing home
}


def prepare() -> None:
    """Import vLLM with the settings that an engine in this process needs. Call it before any engine is built."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("vllm").setLevel(os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"))
    leave_unpacked()
    from vllm.distributed.weight_transfer import WeightTransferEngineFactory

    if BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(BACKEND, SameProcess)


def leave_unpacked() -> None:
    """Keep vLLM on a CPU from multiplying with packed copies of its matrices.

    A head tied to the embeddings has a copy of its own, which no reload rebuilds: new layers under an old head, and no
    error. It costs a fifth of vLLM's speed on a CPU; on a GPU nothing is packed.
    """
    import vllm._custom_ops

    vllm._custom_ops._supports_onednn = False


def is_cpu() -> bool:
    """Whether the vLLM that is installed plays on the CPU."""
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def build(policy: Policy, **options: Any) -> Any:
    """Build the engine of a policy, with options of `vllm.LLM`. Raises `PolicyError` where vLLM refuses either."""
    with untouched(), warnings.catch_warnings(action="ignore", category=FutureWarning):
        prepare()
        require_head_size(policy)
        from vllm import LLM
        from vllm.config import WeightTransferConfig

        given = {
            "dtype": str(policy.dtype).removeprefix("torch."),  # "auto" may be another
            "skip_tokenizer_init": True,  # token ids in, token ids out
            "generation_config": "vllm",  # nothing from the model's own
            "use_tqdm_on_load": False,
            "seed": 0,  # of rows without a seed; there are none
            "weight_transfer_config": WeightTransferConfig(backend=BACKEND),
            **{name: value for name, value in options.items() if value is not None},
        }
        with tempfile.TemporaryDirectory(prefix="evergreen-vllm-") as folder:
            try:
                policy.save_merged(Path(folder))
            except (OSError, SafetensorError) as failed:  # the second says a full disk in words only
                raise PolicyError(
                    f"the weights cannot be written for vLLM: {failed}. They are in {folder} while it starts; TMPDIR "
                    "names another place, which needs room for a copy of the policy"
                ) from failed
            try:
                llm = LLM(folder, **given)
            except ValueError as error:
                raise PolicyError(f"vLLM refuses to play {policy.name}: {error}") from error
        llm.init_weight_transfer_engine({"init_info": {}})
        llm.update_weight_version(str(policy.version))
    return llm


@contextmanager
def untouched() -> Iterator[None]:
    """Put generators, torch's threads and the loader's variables back to what they were before the block."""
    num_threads, set_num_threads = torch.get_num_threads(), torch.set_num_threads
    python, numpy = random.getstate(), np.random.get_state()
    loader = {name: os.environ.get(name) for name in ("LD_PRELOAD", "LD_LIBRARY_PATH")}
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            torch.set_num_threads = set_num_threads
            if torch.get_num_threads() != num_threads:
                torch.set_num_threads(num_threads)
            for name, value in loader.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def require_head_size(policy: Policy) -> None:
    """Refuse a policy whose attention heads the CPU kernels were not made for. GPUs take any multiple of 8."""
    if not is_cpu():
        return
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    config, sizes = policy.model.config.get_text_config(), CPUAttentionBackend.get_supported_head_sizes()
    found = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if found not in sizes:
        is_tiny = policy.name == "tiny"
        remedy = "say `policy: {model: tiny, hidden: 128}`" if is_tiny else "take another policy"
        raise PolicyError(
            f"vLLM on a CPU plays attention heads of {', '.join(map(str, sizes))} numbers, those of {policy.name} have "
            f"{found} (hidden {config.hidden_size} over {config.num_attention_heads} heads): {remedy}, or "
            "`sampler: transformers`"
        )


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

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Load `tensors`, pairs of a name as in files and a tensor; vLLM fuses some. A tied head is absent."""
        self.model.load_weights(iter(update_info["tensors"]))
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)

    def init_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Connect to nothing."""

    def _do_nothing(self) -> None:
        """Matrices are not packed (see `prepare`), there is one model, and an update is done when it returns."""

    start_weight_update = finish_weight_update = reset_weight_update_target = _do_nothing
    drain_pending = shutdown = _do_nothing


def replace_weights(llm: Any, policy: Policy, version: int) -> None:
    """Give an engine, not while it generates, all weights of a policy under their version; nothing old stays."""
    llm.start_weight_update()
    llm.update_weights({"update_info": {"tensors": policy.plain_weights()}})
    llm.finish_weight_update(str(version))


def shut_down(llm: Any) -> None:
    """End an engine, and the process group of one that vLLM made with it."""
    from vllm.distributed import cleanup_dist_env_and_memory

    llm.llm_engine.engine_core.shutdown()
    cleanup_dist_env_and_memory()
