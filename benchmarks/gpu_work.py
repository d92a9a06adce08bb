"""What `benchmarks.gpu` gives a device to do, how it counts it, and how it takes times and memory."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from policies.models.memory import ModelMemory
from policies.objectives.contracts import Trajectory
from policies.policy import Policy
from policies.samplers.contracts import Generation, Request
from policies.samplers.random_numbers import sample_seed
from policies.samplers.weight_check import NUM_PROMPT

QWEN = {
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
    "max_position_embeddings": 32_768,
    "tie_word_embeddings": True,
}
SHAPES: dict[str, dict[str, Any]] = {
    "0.5B": QWEN
    | {
        "hidden_size": 896,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "intermediate_size": 4864,
    },
    "3B": QWEN
    | {
        "hidden_size": 2048,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "intermediate_size": 11_008,
    },
}
TOY: dict[str, Any] = QWEN | {
    "vocab_size": 199,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
GROUP_SIZE = 8
LETTERS = 128  # tokens that prompts and made-up answers are of


@dataclass(frozen=True)
class Settings:
    """Of one update: what a run may choose, and whether the rows of a group have their prompt in common."""

    micro_tokens: int
    recomputes: bool = False  # layers redo their forward in the backward pass
    shares: bool = True  # else every row has a prompt of its own
    deterministic: bool = True  # else kernels may be taken that add in another order each time

    def __str__(self) -> str:
        words = [f"micro_tokens {self.micro_tokens}"]
        words += ["layers recomputed"] * self.recomputes + ["no shared prompts"] * (not self.shares)
        words += ["nondeterministic kernels"] * (not self.deterministic)
        return ", ".join(words)


@dataclass(frozen=True)
class Work:
    """How much of everything, and where."""

    device: torch.device
    dtype: torch.dtype
    groups: int = 64
    prompt: int = 128
    new: int = 512
    widths: tuple[int, ...] = (4096, 8192, 16_384)  # of the square matrices
    rows: tuple[int, ...] = (256, 512)  # most rows that the sampler plays at once
    updates: tuple[Settings, ...] = (
        Settings(16_384),
        Settings(16_384, recomputes=True),
        Settings(16_384, deterministic=False),
        Settings(16_384, recomputes=True, deterministic=False),
        Settings(16_384, shares=False),
        Settings(16_384, shares=False, deterministic=False),
        Settings(65_536, recomputes=True),
        Settings(65_536),
    )
    update_groups: int = 16  # of the update by itself, which is as fast a token as that of all groups
    curriculum_steps: int = 300  # of each of four stages
    openings: tuple[tuple[int, int, int], ...] = (  # tokens of a prompt and of an answer, groups
        (128, 512, 8),
        (512, 512, 5),
        (1024, 256, 4),
        (2048, 128, 2),
        (512, 64, 8),
    )

    @classmethod
    def small(cls, device: torch.device) -> Work:
        """A toy that takes seconds on a CPU."""
        updates = (Settings(256), Settings(256, recomputes=True), Settings(256, shares=False))
        return cls(device, torch.float32, 4, 8, 8, (64,), (32,), updates, 2, curriculum_steps=2, openings=((8, 8, 2),))

    @property
    def num_rows(self) -> int:
        return self.groups * GROUP_SIZE

    @property
    def context(self) -> int:
        """Most tokens of a server's rows: of those played, and of the prompt by which its weights are proven."""
        return max(self.prompt + self.new, NUM_PROMPT + 1)

    @property
    def trained_tokens(self) -> int:
        return self.num_rows * self.new


def requests(work: Work) -> list[Request]:
    """Ask for a group of each of the random prompts."""
    rng = np.random.default_rng(0)
    prompts = [tuple(rng.integers(1, LETTERS, work.prompt).tolist()) for _ in range(work.groups)]
    return [
        Request(prompt, sample_seed(0, "gpu", "random", 0, group, sample), work.new)
        for group, prompt in enumerate(prompts)
        for sample in range(GROUP_SIZE)
    ]


def made_up(work: Work) -> list[Generation]:
    """Make answers of random letters."""
    rng = np.random.default_rng(1)
    logprobs = np.full(work.new, -np.log(LETTERS), np.float32)
    return [
        Generation(tuple(rng.integers(1, LETTERS, work.new).tolist()), logprobs, -logprobs, "length", ())
        for _ in range(work.num_rows)
    ]


def trajectories(work: Work, generations: Sequence[Generation], *, shares: bool = True) -> list[Trajectory]:
    """Reward every second sample, so that every group has spread and no row is left out."""
    rng, found = np.random.default_rng(2), []
    for row, (request, played) in enumerate(zip(requests(work), generations, strict=True)):
        prompt = request.ids if shares else rng.integers(1, LETTERS, work.prompt).tolist()
        ids = np.array([*prompt, *played.ids], np.int64)
        values = np.zeros((2, len(ids)), np.float32)
        values[0, work.prompt :], values[1, work.prompt :] = played.logprobs, played.entropies
        mask = np.arange(len(ids)) >= work.prompt
        found.append(Trajectory(ids, mask, values[0], values[1], float(row % 2), row // GROUP_SIZE))
    return found


def update_flops(work: Work, policy: Policy, *, shares: bool = True) -> float:
    """Count what an update must compute, forward (a third of it) and backward, without what is recomputed.

    6 x (weights of the layers) for each token that they must read, a shared prompt once; 6 x hidden x vocabulary for
    each token that is trained on; 6 x layers x hidden x (squares of lengths) for causal attention: two products of 2
    FLOPs, half of the square, three times.
    """
    config = policy.model.config
    head = config.hidden_size * config.vocab_size
    num_prompts = work.groups if shares else work.num_rows
    read = num_prompts * work.prompt + work.trained_tokens
    squares = num_prompts * work.prompt**2 + work.num_rows * ((work.prompt + work.new) ** 2 - work.prompt**2)
    attention = 6.0 * config.num_hidden_layers * config.hidden_size * squares
    return float(6.0 * (policy.num_parameters - head) * read + 6.0 * head * work.trained_tokens + attention)


def memory_of(policy: Policy) -> ModelMemory:
    """What `validate --plan` counts with, for a policy that is there."""
    own = [one.numel() for name, one in policy.model.named_parameters() if "lora_" in name]
    return ModelMemory.of(policy.model.config, policy.num_parameters - sum(own), policy.dtype, sum(own) or None)


def planned_update(policy: Policy, settings: Settings, *, is_rank: bool = False) -> float:
    """GiB that `validate --plan` counts for an update, without what CUDA itself takes."""
    memory, num = memory_of(policy), settings.micro_tokens
    state = memory.weights + (memory.sharded(1) + memory.gathered if is_rank else memory.optimizer)
    gradients = 0 if is_rank else memory.short_gradients
    passing = memory.activations(num, recomputes=settings.recomputes) + memory.logits(num)
    return (state + gradients + passing) / 2**30


def planned_play(policy: Policy, rows: int, cache_tokens: int, prefill_tokens: int) -> float:
    """GiB that `validate --plan` counts for playing, without the learner's and what CUDA itself takes."""
    memory = memory_of(policy)
    passing = memory.reading(prefill_tokens) + memory.drawing(rows)
    return (memory.weights + memory.cache(cache_tokens) + passing) / 2**30


class Figures:
    """Prints every figure, and keeps it."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.folder = os.environ.get("OUT")

    def add(self, section: str, about: str, **values: float | str) -> None:
        """Note what was measured, units in the names."""
        words = [f"{name} {one if isinstance(one, str) else f'{one:.4g}'}" for name, one in values.items()]
        print(f"{section:11} {about}: {', '.join(words)}", flush=True)
        self.rows.append({"section": section, "about": about, **values})
        if self.folder:
            (Path(self.folder) / "gpu.json").write_text(json.dumps(self.rows, indent=1) + "\n")

    def best(self, section: str, name: str) -> dict[str, Any] | None:
        """Give the row with the largest value so far."""
        rows = [row for row in self.rows if row["section"] == section and name in row]
        return max(rows, key=lambda row: row[name], default=None)


def timed(work: Work, call: Callable[[], Any], repeats: int) -> float:
    """Seconds of a call, mean of some."""
    start = now(work)
    for _ in range(repeats):
        call()
    return (now(work) - start) / repeats


def now(work: Work) -> float:
    """The time when everything that was asked of the device is done."""
    if work.device.type == "cuda":
        torch.cuda.synchronize(work.device)
    return time.perf_counter()


@contextmanager
def peak(work: Work) -> Iterator[Callable[[], float]]:
    """Give what tells the most memory that tensors took on the device in the block, GiB; 0 on a CPU."""
    if work.device.type != "cuda":
        yield lambda: 0.0
        return
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(work.device)
    yield lambda: torch.cuda.max_memory_allocated(work.device) / 2**30


def free_gib(work: Work) -> float:
    """Memory that nobody has taken of the device, whichever process; 0 on a CPU."""
    return torch.cuda.mem_get_info(work.device)[0] / 2**30 if work.device.type == "cuda" else 0.0
