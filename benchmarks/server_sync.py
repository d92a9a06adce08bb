"""How long weights take to a vLLM server on a second GPU, as files and over NCCL. A part of `benchmarks.gpu`.

**Not run**: no host with two GPUs was at hand.
"""

from __future__ import annotations

import socket
import tempfile
from contextlib import closing
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks.gpu_work import Figures, Work, timed
from policies.policy import Policy

SHARE = "0.5"  # of the second GPU's memory


def to_a_server(work: Work, policy: Policy, shape: str, figures: Figures) -> None:
    """Time a whole sync by either way: handed over, labelled, cache emptied; where that can be run."""
    for how in ("files", "nccl"):
        if lacking := _lacking(work):
            figures.add("sync", f"{shape}, to a server, {how}", ended=f"not run: {lacking}")
    if not _lacking(work):
        _measure(work, policy, shape, figures)


def _lacking(work: Work) -> str | None:
    if work.device.type != "cuda" or torch.cuda.device_count() < 2:
        return "takes two GPUs, the second for the server"
    return None if find_spec("vllm") else "vLLM is not installed here"


def _measure(work: Work, policy: Policy, shape: str, figures: Figures) -> None:
    from policies.samplers import vllm_server
    from policies.samplers.serving import supervisor

    num_bytes = sum(one.numel() * one.element_size() for one in policy.model.parameters())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    dtype = str(work.dtype).removeprefix("torch.")
    more = ["--max-model-len", str(work.prompt + work.new), "--gpu-memory-utilization", SHARE, *supervisor.RECEIVES]
    with tempfile.TemporaryDirectory() as folder:
        policy.save(Path(folder) / "policy")
        command = supervisor.vllm_command(Path(folder) / "policy", url, dtype, more)
        launch = supervisor.Launch(url, command, Path(folder) / "log", {"CUDA_VISIBLE_DEVICES": "1"})
        with supervisor.running([launch]) as (server,):
            server.wait_until_ready()
            for how in ("files", "nccl"):
                config = vllm_server.Config.model_validate({"urls": [url], "hand_over": how, "probe_every": 1000})
                with closing(vllm_server.create(config, policy)) as sampler:
                    seconds = timed(work, partial(sampler.sync, policy.version), 3)
                    news = sampler.take_news()
                went = {"ended": "; ".join(news)} if any("by files" in one for one in news) else {}
                about = f"{shape}, to a server, {how}"
                figures.add("sync", about, seconds=seconds, gb_s=num_bytes / seconds / 1e9, **went)
