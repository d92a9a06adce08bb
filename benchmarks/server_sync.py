"""How long weights take to a vLLM server, by each way they are handed over. A part of `scale` and of `gpu`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.gpu_work import Figures, Work
from benchmarks.one_server import MISSING, python, served
from policies.policy import Policy
from policies.samplers import vllm_server, weight_check
from policies.samplers.serving import supervisor
from policies.samplers.serving.weight_files import WeightFiles, require_valid

REPEATS = 5
NEVER = 1_000_000  # syncs from one proof of the weights to the next: the first alone, which is not counted
SHARE = "0.3"  # of the memory of the server's GPU


@dataclass(frozen=True)
class Sync:
    """Seconds of a sync, medians, and what went."""

    seconds: float  # the whole
    writing: float  # of it writing files
    prompt: float  # of it the learner's reading of the prompt by which a server may be asked for a proof
    num_bytes: int  # that go to each server
    news: Sequence[str] = ()  # what the sampler tells: a server left out, another way taken


@contextmanager
def spent_in(owner: Any, name: str) -> Iterator[list[float]]:
    """Note the seconds of every call of a function in the block."""
    call, seconds = getattr(owner, name), list[float]()

    def timed(*given: Any, **named: Any) -> Any:
        begun = perf_counter()
        try:
            return call(*given, **named)
        finally:
            seconds.append(perf_counter() - begun)

    setattr(owner, name, timed)
    try:
        yield seconds
    finally:
        setattr(owner, name, call)


def to_server(policy: Policy, url: str, how: str, repeats: int = REPEATS) -> Sync:
    """Time whole syncs to a server: handed over, loaded, cache emptied, labelled; but for the first without a proof."""
    config = vllm_server.Config.model_validate({"urls": [url], "hand_over": how, "probe_every": NEVER})
    with closing(vllm_server.create(config, policy)) as sampler:
        files = sampler._adapter_files if how == "adapter" else sampler._weight_files
        sampler.take_news()
        turns = list[float]()
        with spent_in(files, "put") as writes, spent_in(weight_check, "make_server_check") as prompts:
            for _ in range(repeats):
                begun = perf_counter()
                sampler.sync(policy.version)
                turns.append(perf_counter() - begun)
        news = sampler.take_news()
        whole = sum(one.numel() * one.element_size() for _, one in policy.plain_weights()) if how == "nccl" else 0
        num_bytes = whole or size_of(files._kept[-1])
    return Sync(
        statistics.median(turns), statistics.median(writes or [0.0]), statistics.median(prompts), num_bytes, news
    )


def size_of(folder: Path) -> int:
    """Count the bytes of tensors in a folder."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def through_files(policy: Policy, how: str, repeats: int = REPEATS) -> Sync:
    """Time the files of syncs, written as for a server and read by this process in its stead."""
    save = policy.save_adapters if how == "adapter" else _whole(policy)
    turns, writes, num_bytes = list[float](), list[float](), 0
    with closing(WeightFiles(None)) as files:
        for number in range(repeats + 1):
            begun = perf_counter()
            folder = files.put(save, str(number))
            writes.append(perf_counter() - begun)
            require_valid(folder)
            for file in folder.glob("*.safetensors"):
                load_file(file)
            turns.append(perf_counter() - begun)
            num_bytes = size_of(folder)
    return Sync(statistics.median(turns[1:]), statistics.median(writes[1:]), 0.0, num_bytes)


def _whole(policy: Policy) -> Callable[[Path], None]:
    return lambda folder: policy.save_merged(folder, tokenizer=False)


def to_a_server(work: Work, policy: Policy, shape: str, figures: Figures, section: str, *ways: str) -> None:
    """Note what a sync takes by each way, to a server on the second GPU, or where there is none on the policy's."""
    num_gpus = torch.cuda.device_count() if work.device.type == "cuda" else 0
    lacking = {how: _lacking(how, num_gpus) for how in ways}
    for how, what in lacking.items():
        if what is not None:
            figures.add(section, f"{shape}, to a server, {how}", ended=f"not run: {what}")
    if not (possible := [how for how, what in lacking.items() if what is None]):
        return
    device = torch.device("cuda", 1) if num_gpus > 1 else work.device
    more = ["--gpu-memory-utilization", SHARE] if num_gpus else []
    if "nccl" in possible:
        more += supervisor.RECEIVES
    with served(policy, device, work.context, *more, takes_adapters="adapter" in possible) as url:
        for how in possible:
            found = to_server(policy, url, how)
            rates = {"gb_s": found.num_bytes / found.seconds / 1e9, "megabytes": found.num_bytes / 1e6}
            told = {"ended": "; ".join(found.news)} if found.news else {}
            about = f"{shape}, to a server, {how}"
            figures.add(section, about, seconds=found.seconds, writing_s=found.writing, **rates, **told)


def _lacking(how: str, num_gpus: int) -> str | None:
    if python() is None:
        return MISSING
    if how == "nccl" and (num_gpus < 2 or find_spec("vllm") is None):
        return "takes two GPUs, the second for the server, and vLLM beside the learner too"
    return None
