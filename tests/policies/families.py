"""Architectures as people have them, made small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from policies.models.tiny_tokenizer import VocabularySample, build_tokenizer
from tests.policies.templates import CALM

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


def saved(folder: Path, family: str, seed: int = 3) -> str:
    """Save a model of random weights with a tokenizer, as people have them."""
    tokenizer = build_tokenizer(VocabularySample({}))
    tokenizer.chat_template = CALM
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    architecture = FAMILIES[family](vocab_size=len(tokenizer), **SHAPE, **special)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        AutoModelForCausalLM.from_config(architecture).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
