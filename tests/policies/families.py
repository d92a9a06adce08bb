"""Architectures as people have them, made small."""

from __future__ import annotations

from typing import Any

from transformers import Gemma3TextConfig, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
FAMILIES: dict[str, Any] = {
    "llama": LlamaConfig,
    "qwen2": Qwen2Config,
    "qwen3": lambda **options: Qwen3Config(head_dim=8, **options),
    "mistral": lambda **options: MistralConfig(head_dim=8, sliding_window=16, **options),
    "gemma3": lambda **options: Gemma3TextConfig(head_dim=8, sliding_window=16, query_pre_attn_scalar=8, **options),
}
