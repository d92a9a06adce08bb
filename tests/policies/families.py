"""Architectures as people have them, made small, each with the chat template and the special tokens of its family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from policies.layers import freeze_beside_text
from policies.models.tiny_tokenizer import VocabularySample, build_tokenizer
from tests.policies.templates import CHATML, GEMMA_3, LLAMA_3, MISTRAL, QWEN_3, SPECIAL

SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
EYES: dict[str, Any] = {
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "image_size": 28,
}
OF_GEMMA_3 = {"head_dim": 8, "sliding_window": 16, "query_pre_attn_scalar": 8}


def with_eyes(*, vocab_size: int, **options: Any) -> Gemma3Config:
    """As Gemma 3 has it from 4B on: a text model, and what reads images beside it."""
    text = {**OF_GEMMA_3, "vocab_size": vocab_size, **options}
    return Gemma3Config(text_config=text, vision_config=EYES, mm_tokens_per_image=4, image_token_index=vocab_size - 1)


@dataclass(frozen=True)
class Family:
    """How models of a family are made, and how they are talked to."""

    architecture: Callable[..., Any]
    template: str
    end: str  # of the tokenizer, `eos_token`
    begin: str | None = None  # `bos_token`
    pad: str | None = None


GEMMA = (GEMMA_3, "<eos>", "<bos>", "<pad>")
FAMILIES = {
    "llama": Family(LlamaConfig, LLAMA_3, "<|eot_id|>", "<|begin_of_text|>"),
    "qwen2": Family(Qwen2Config, CHATML, "<|im_end|>", None, "<|endoftext|>"),
    "qwen3": Family(lambda **options: Qwen3Config(head_dim=8, **options), QWEN_3, "<|im_end|>", None, "<|endoftext|>"),
    "mistral": Family(
        lambda **options: MistralConfig(head_dim=8, sliding_window=16, **options), MISTRAL, "</s>", "<s>"
    ),
    "gemma3": Family(lambda **options: Gemma3TextConfig(**OF_GEMMA_3, **options), *GEMMA),
    "gemma3 with images": Family(with_eyes, *GEMMA),
}


def made(family: str, vocabulary: int, seed: int, **options: Any) -> Any:
    """Make a model of random weights, in eval mode; no global random state is moved."""
    architecture = FAMILIES[family].architecture(vocab_size=vocabulary, **SHAPE, **options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(architecture).eval()
    freeze_beside_text(model)  # as `read_model` does
    return model


def saved(folder: Path, family: str, seed: int = 3) -> str:
    """Save a model of random weights with a tokenizer, as people have them."""
    known, tokenizer = FAMILIES[family], build_tokenizer(VocabularySample({}))
    tokenizer.chat_template = known.template
    own = [token for token in SPECIAL if token in known.template or token in (known.end, known.pad)]
    tokenizer.add_special_tokens({"additional_special_tokens": own})
    tokenizer.eos_token, tokenizer.bos_token, tokenizer.pad_token = known.end, known.begin, known.pad
    ends = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("eos", "bos", "pad")}
    made(family, len(tokenizer), seed, **ends).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
