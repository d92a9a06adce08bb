"""`python -m benchmarks.memory`: what policies of usual shapes take of a GPU, by the arithmetic of `validate --plan`.

Two tables in Markdown, those of docs/scale.md: the parts, and which layouts fit a GPU of 80 GB. Nothing is measured:
the model behind it is checked in tests/policies/models/test_memory.py.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from transformers import Qwen2Config

from orchestrator.runs.gpu_memory import GPUS, Case, GpuMemory
from orchestrator.spec import load_spec
from policies.config import AdapterConfig, PolicyConfig
from policies.models.memory import ModelMemory, describe_memory

MICRO_TOKENS = 16_384
# Qwen2.5: hidden, MLP, layers, heads, key-value heads, vocabulary, whether the head is the embedding
SHAPES = {
    "0.5B": (896, 4864, 24, 14, 2, 151_936, True),
    "1.5B": (1536, 8960, 28, 12, 2, 151_936, True),
    "3B": (2048, 11_008, 36, 16, 2, 151_936, True),
    "7B": (3584, 18_944, 28, 28, 4, 152_064, False),
    "32B": (5120, 27_648, 64, 40, 8, 152_064, False),
}
HEAD = (
    "| shape | weights | GB, weights | training | + activations | layers kept | + logits | cache a token, kB | LoRA |",
    "|---|---|---|---|---|---|---|---|---|",
)
ON_SERVERS, ON_HOST = {"sampler": "vllm_server"}, {"offload": "optimizer"}
LAYOUTS: dict[str, dict[str, Any]] = {
    "vLLM beside it": {"sampler": "vllm"},
    "servers play": ON_SERVERS,
    "optimiser on the host": {**ON_SERVERS, "resources": ON_HOST},
    "4 ranks": {**ON_SERVERS, "resources": {"ranks": 4}},
    "8 ranks": {**ON_SERVERS, "resources": {"ranks": 8}},
    "8 ranks, host": {**ON_SERVERS, "resources": {"ranks": 8, **ON_HOST}},
    "adapters": {**ON_SERVERS, "adapter": 32},
    "adapters, 4,096 tokens": {**ON_SERVERS, "adapter": 32, "micro_tokens": 4096},
}
ANSWER_TOKENS = 1024


def architecture(name: str) -> Qwen2Config:
    """Give the configuration of a shape."""
    hidden, mlp, layers, heads, key_value, vocabulary, is_tied = SHAPES[name]
    return Qwen2Config(
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value,
        vocab_size=vocabulary,
        tie_word_embeddings=is_tied,
    )


@contextmanager
def saved(name: str) -> Iterator[str]:
    """Write the configuration of a shape into a folder."""
    with tempfile.TemporaryDirectory() as folder:
        architecture(name).save_pretrained(folder)
        yield folder


def policy(folder: str, adapter: int | None = None) -> PolicyConfig:
    """Give the policy of a folder, in bfloat16."""
    return PolicyConfig(
        model=folder, dtype="bfloat16", adapter=None if adapter is None else AdapterConfig(rank=adapter)
    )


def table() -> list[str]:
    """Give the lines of the parts, GB of 1e9 bytes."""
    lines = [*HEAD]
    for name in SHAPES:
        with saved(name) as folder:
            told, adapted = describe_memory(policy(folder)), describe_memory(policy(folder, 32))
        state = told.weights + told.optimizer + told.short_gradients
        again, whole = (told.activations(MICRO_TOKENS, recomputes=way) for way in (True, False))
        sizes = (told.weights, state, again, whole, told.logits(MICRO_TOKENS))
        cells = [name, f"{told.num_parameters / 1e9:.2f}e9", *(f"{size / 1e9:.1f}" for size in sizes)]
        cells += [f"{told.cache_bytes / 1e3:.1f}", f"{(adapted.weights + adapted.optimizer) / 1e9:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def layout_table() -> list[str]:
    """Give the lines of the layouts on one 80-GB GPU: the most GB at any time, in brackets where they do not fit."""
    lines = [f"| shape | {' | '.join(LAYOUTS)} |", f"|---{'|---' * len(LAYOUTS)}|"]
    for name in SHAPES:
        with saved(name) as folder:
            described = cache(describe_memory)
            held = [layout(folder, described, **options) for options in LAYOUTS.values()]
        cells = [f"{one.peak / 1e9:.0f}" if one.fits else f"({one.peak / 1e9:.0f})" for one in held]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def layout(
    folder: str,
    described: Any,
    *,
    sampler: str,
    resources: dict[str, Any] | None = None,
    adapter: int | None = None,
    micro_tokens: int = MICRO_TOKENS,
) -> GpuMemory:
    """Count what an H100 holds, the first one of several, for answers of 1,024 tokens."""
    spec = load_spec(
        {
            "policy": policy(folder, adapter).model_dump(mode="json"),
            "environments": {"book": {"type": "codebook", "categories": {"2": 2}}},
            "learner": {"micro_tokens": micro_tokens, "activation_checkpointing": True},
            "sampler": {"type": sampler, "max_tokens": ANSWER_TOKENS},
            "resources": resources or {},
        }
    )
    memory: ModelMemory = described(spec.policy)
    return GpuMemory.of(Case(spec, memory, GPUS["h100"], ANSWER_TOKENS, {"book": ANSWER_TOKENS}))


if __name__ == "__main__":
    print("\n".join([*table(), "", *layout_table()]))
