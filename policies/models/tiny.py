"""`tiny`: a Llama-architecture policy from a random start, small enough to learn on one CPU core, and its tokenizer.

With the default shape and vocabulary it has about 0.36M weights, embeddings tied to the head. It is a real model
of the transformers library: what works on it works on large ones, and a saved one loads as any other. It is no Qwen2
because `AutoTokenizer` gives every folder of type `qwen2` Qwen's own way of cutting text (transformers 5), so that an
exported policy would read other tokens than it was trained on. Both learn alike here.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from policies.config import PolicyConfig
from policies.models.tiny_tokenizer import CONTEXT, VocabularySample, build_tokenizer, read_tokenizer, require_known
from policies.policy import Policy


def make_tiny(
    config: PolicyConfig, sample: VocabularySample, seed: int, device: torch.device, saved: Path | None = None
) -> Policy:
    """Make the policy; the same arguments give the same weights, on every device.

    With a folder of a saved one, it gets that one's vocabulary, which then has to spell the sample.
    """
    closed = config.vocabulary == "closed"
    tokenizer = build_tokenizer(sample, closed) if saved is None else read_tokenizer(saved)
    architecture = tiny_architecture(config, len(tokenizer))
    # The library's own initialisation uses the global generator, hence the fork; it is then overwritten: matrices from
    # a normal law of the usual width, norms of 1.
    with torch.random.fork_rng(devices=[]):
        model = LlamaForCausalLM(architecture)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=config.initial_std, generator=generator)
        else:
            torch.nn.init.ones_(parameter)
    model.generation_config.update(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model = model.to(device=device, dtype=getattr(torch, config.dtype)).eval()
    check = partial(require_known, tokenizer) if closed else None
    if check and saved:
        for text in sample.texts:
            check(text)
    return Policy(model, tokenizer, name="tiny", template=config.template, check_text=check)


def tiny_architecture(config: PolicyConfig, vocabulary_size: int) -> LlamaConfig:
    """Give the library's configuration of `tiny`."""
    return LlamaConfig(
        vocab_size=vocabulary_size,
        num_hidden_layers=config.layers,
        hidden_size=config.hidden,
        intermediate_size=config.mlp,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=config.initial_std,
        bos_token_id=None,
        eos_token_id=None,
    )
