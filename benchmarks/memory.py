"""`python -m benchmarks.memory`: what policies of usual shapes take of a GPU, by the arithmetic of `validate --plan`.

A table in Markdown, that of docs/scale.md. Nothing is measured: the model behind it is checked in
tests/policies/models/test_memory.py.
"""

from __future__ import annotations

import tempfile

from transformers import Qwen2Config

from policies.config import AdapterConfig, PolicyConfig
from policies.models.memory import describe_memory

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


def table() -> list[str]:
    """Give the table's lines, GB of 1e9 bytes."""
    lines = [*HEAD]
    for name in SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            architecture(name).save_pretrained(folder)
            told = describe_memory(PolicyConfig(model=folder, dtype="bfloat16"))
            adapted = describe_memory(PolicyConfig(model=folder, dtype="bfloat16", adapter=AdapterConfig()))
        state = told.weights + told.optimizer + told.short_gradients
        again, whole = (told.activations(MICRO_TOKENS, recomputes=way) for way in (True, False))
        sizes = (told.weights, state, again, whole, told.logits(MICRO_TOKENS))
        cells = [name, f"{told.num_parameters / 1e9:.2f}e9", *(f"{size / 1e9:.1f}" for size in sizes)]
        cells += [f"{told.cache_bytes / 1e3:.1f}", f"{(adapted.weights + adapted.optimizer) / 1e9:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    print("\n".join(table()))
