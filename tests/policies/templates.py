"""Chat templates in the shape of the well-known families, on a tokenizer of bytes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Literal

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from policies.policy import Policy

CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_3 = (
    "<|begin_of_text|>{% for message in messages %}"
    "<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n{{ message['content'] | trim }}<|eot_id|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
PHI_3 = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}<|endoftext|>{% endif %}"
)
QWEN_3 = (  # the reasoning of an answer goes once another question follows; that of the last one is made up if need be
    "{% set ns = namespace(last=0) %}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}"
    "{% if loop.index0 > ns.last and '</think>' not in message['content'] %}<think>\n\n</think>\n\n{% endif %}"
    "{% if loop.index0 > ns.last %}{{ message['content'] }}{% else %}"
    "{{ message['content'].split('</think>')[-1].lstrip('\n') }}{% endif %}"
    "{% else %}{{ message['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DEEPSEEK_R1 = (  # the reasoning of every answer goes, also that of the last
    "<|bos|>{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "<|assistant|>{{ message['content'].split('</think>')[-1] }}<|eos|>"
    "{% else %}<|user|>{{ message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)
TIDY = (  # white space goes from every turn but the last
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] if loop.last else message['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ALTERNATING = (
    "{% for message in messages %}"
    "{% if message['role'] not in ['user', 'assistant'] %}{{ raise_exception('only user and assistant') }}{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CALM = (  # texts alone, and none that shouts
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is not string %}{{ raise_exception('only text') }}"
    "{%- elif '!' in message['content'] %}{{ raise_exception('no shouting') }}{% endif %}"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ENDLESS = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
SPECIAL = (
    *(
        "<|im_start|>",
        "<|im_end|>",
        "<|begin_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
    ),
    *("<|end|>", "<|endoftext|>", "<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>"),
)


def tokenizer_of(template: str | None, merges: tuple[tuple[str, str], ...] = ()) -> Any:
    """Make a tokenizer of bytes, with some merges, that has a template and all special tokens."""
    words = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges), *SPECIAL]
    backend = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, list(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL),
        chat_template=template,
        clean_up_tokenization_spaces=False,
    )


def policy_of(
    template: str | None, kind: Literal["chat", "none"] = "chat", merges: tuple[tuple[str, str], ...] = ()
) -> Policy:
    """Make a policy that has a tokenizer and no model."""
    architecture = SimpleNamespace(get_text_config=lambda: SimpleNamespace(vocab_size=None))
    model = SimpleNamespace(generation_config=None, config=architecture)
    return Policy(model, tokenizer_of(template, merges), "family/model", kind)
