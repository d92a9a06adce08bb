"""Random Qwen2 models and a tokenizer of letters, made on the spot: nothing is downloaded."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

PAD, END = "<pad>", "<end>"


def random_qwen2(
    *,
    seed: int,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    std: float = 0.02,
    **shape: Any,
) -> Any:
    """Draw a model of a shape (fields of `Qwen2Config`): matrices from a normal law, norms 1, biases 0.

    Made where it will stay: 3 billion weights take minutes on a CPU. No global random state is moved.
    """
    config = Qwen2Config(**shape, bos_token_id=None, eos_token_id=None)
    place = torch.device(device)
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []), place:
        model = Qwen2ForCausalLM._from_config(config, dtype=dtype)  # no float32 copy ever takes memory
        generator = torch.Generator(place).manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.normal_(std=std, generator=generator)
            else:
                weight.fill_(0.0 if name.endswith("bias") else 1.0)
    return model.eval()


def letters_tokenizer(num_tokens: int, end_id: int) -> Any:
    """Make a tokenizer of characters, a token each: 0 pads, `end_id` ends, also if no model knows it."""
    words = {PAD: 0} | {chr(0x4E00 + i): i for i in range(1, num_tokens)}
    if end_id < num_tokens:
        del words[chr(0x4E00 + end_id)]
    backend = Tokenizer(models.WordLevel({**words, END: end_id}, unk_token=PAD))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=PAD, eos_token=END, clean_up_tokenization_spaces=False
    )


def letters(ids: list[int]) -> str:
    """Write token ids as that tokenizer reads them."""
    return "".join(chr(0x4E00 + i) for i in ids)
