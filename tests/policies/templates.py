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
GEMMA_2 = (  # no system messages; user and model take turns
    "<bos>{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}"
    "{% endif %}<start_of_turn>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
GEMMA_3 = (  # a system message stands in the first question
    "<bos>{% set ns = namespace(prefix='', turns=messages) %}{% if messages[0]['role'] == 'system' %}"
    "{% set ns.prefix = messages[0]['content'] + '\n\n' %}{% set ns.turns = messages[1:] %}{% endif %}"
    "{% for message in ns.turns %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}"
    "{% endif %}<start_of_turn>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{% if loop.first %}{{ ns.prefix }}{% endif %}{% if message['content'] is string %}{{ message['content'] | trim }}"
    "{% else %}{{ raise_exception('Invalid content type') }}{% endif %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (  # v0.3: system message and tools stand in the last question, wherever that is
    "<s>{% set ns = namespace(turns=messages, number=0, last=0) %}{% if messages[0]['role'] == 'system' %}"
    "{% set ns.turns = messages[1:] %}{% endif %}{% for message in ns.turns %}"
    "{% if message['role'] == 'user' %}{% set ns.last = loop.index0 %}{% endif %}"
    "{% if message['role'] != 'tool' and not message.tool_calls %}"
    "{% if (message['role'] == 'user') != (ns.number % 2 == 0) %}{{ raise_exception('roles must alternate') }}"
    "{% endif %}{% set ns.number = ns.number + 1 %}{% endif %}{% endfor %}"
    "{% for message in ns.turns %}{% if message['role'] == 'user' %}"
    "{% if tools and loop.index0 == ns.last %}[AVAILABLE_TOOLS] {{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}"
    "[INST] {% if loop.last and messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}\n\n{% endif %}"
    "{{ message['content'] }}[/INST]{% elif message['role'] == 'tool' %}"
    "{% if message.tool_call_id is not defined %}{{ raise_exception('no id of a call') }}{% endif %}"
    "[TOOL_RESULTS] {{ message['content'] }}[/TOOL_RESULTS]"
    "{% else %} {{ message['content'] | trim }}</s>{% endif %}{% endfor %}"
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
    *("<bos>", "<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>"),
    *(
        "<s>",
        "</s>",
        "[INST]",
        "[/INST]",
        "[AVAILABLE_TOOLS]",
        "[/AVAILABLE_TOOLS]",
        "[TOOL_RESULTS]",
        "[/TOOL_RESULTS]",
    ),
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
