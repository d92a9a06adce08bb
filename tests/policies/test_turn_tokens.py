from __future__ import annotations

import json
from typing import Literal

import pytest
import torch

from policies.config import PolicyConfig
from policies.errors import PolicyError, UnreadablePrompt, VocabularyError
from policies.models.loader import load_policy
from policies.models.tiny_tokenizer import VocabularySample
from policies.policy import Policy
from policies.tool_prompts import PROBED
from tests.policies import templates as t

QUESTION = {"role": "user", "content": "6 * 7?"}
REPLY = {"role": "user", "content": "more"}
SYSTEM = {"role": "system", "content": "Be kind."}
TOOLS = {"role": "tools", "content": json.dumps([PROBED])}

BRIDGES = {
    "chatml": (t.CHATML, "\n<|im_start|>user\nmore<|im_end|>\n<|im_start|>assistant\n"),
    "llama 3": (
        t.LLAMA_3,
        "<|start_header_id|>user<|end_header_id|>\n\nmore<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "gemma 2": (t.GEMMA_2, "\n<start_of_turn>user\nmore<end_of_turn>\n<start_of_turn>model\n"),
    "gemma 3": (t.GEMMA_3, "\n<start_of_turn>user\nmore<end_of_turn>\n<start_of_turn>model\n"),
    "mistral": (t.MISTRAL, "[INST] more[/INST]"),
    "phi 3": (t.PHI_3, "\n<|user|>\nmore<|end|>\n<|assistant|>\n"),
    "alternating": (t.ALTERNATING, "\n<|im_start|>user\nmore<|im_end|>\n<|im_start|>assistant\n"),
}


@pytest.mark.parametrize("family", BRIDGES)
def test_a_bridge_is_what_the_template_puts_between_two_answers(family: str) -> None:
    template, expected = BRIDGES[family]
    policy = t.policy_of(template)
    assert policy.tokenizer.decode(policy.bridge([REPLY], [QUESTION])) == expected


ALTERNATE = {"gemma 2", "gemma 3", "mistral"}  # no two replies in a row


@pytest.mark.parametrize("family", [*BRIDGES, "tiny"])
@pytest.mark.parametrize("replies", [[REPLY], [REPLY, {"role": "user", "content": "a\n b "}]], ids=["one", "two"])
@pytest.mark.parametrize("asked", [[QUESTION], [SYSTEM, QUESTION]], ids=["plain", "system"])
def test_prompt_answer_and_bridge_are_the_whole_conversation(
    family: str, replies: list[dict[str, str]], asked: list[dict[str, str]]
) -> None:
    policy = t.policy_of(BRIDGES[family][0]) if family != "tiny" else tiny()
    if len(asked) > 1 and family in {"gemma 2", "alternating"}:
        with pytest.raises(UnreadablePrompt, match=r"refuses a conversation of system, user: .*`system: \"\"`"):
            policy.encode(asked)
        return
    if (len(replies) > 1 and family in ALTERNATE) or (len(asked) > 1 and family == "mistral"):
        with pytest.raises(PolicyError, match=r"user, assistant, user, user \(roles must alternate\)|not append-only"):
            policy.bridge(replies, asked)
        return
    for answer in ("42", "<think>\n6, 12, ...\n</think>\n\n42"):
        conversation = [*asked, {"role": "assistant", "content": answer}, *replies]
        written = f" {answer}" if family == "mistral" else answer  # its template puts a space before every answer
        grown = policy.encode(asked) + policy.encode_answer(written) + policy.bridge(replies, asked)
        assert grown == policy.encode(conversation)


def test_what_moves_to_the_last_question_is_refused_where_the_prompt_has_it() -> None:
    policy = t.policy_of(t.MISTRAL)
    policy.bridge([REPLY], [QUESTION])
    for asked in ([SYSTEM, QUESTION], [TOOLS, QUESTION]):
        policy.encode(asked)  # as good as any for episodes of one turn
        with pytest.raises(PolicyError, match=r"not append-only: .*moves the system message.*`template: none`"):
            policy.bridge([REPLY], asked)
    with pytest.raises(PolicyError, match=r'Leave the system message out \(`system: ""`\)'):
        policy.bridge([REPLY], [SYSTEM, QUESTION])
    for template in (t.GEMMA_3, t.CHATML):
        t.policy_of(template).bridge([REPLY], [TOOLS, SYSTEM, QUESTION])


def test_tools_that_a_template_can_be_told_in_no_way_are_refused_with_the_remedy() -> None:
    with pytest.raises(UnreadablePrompt, match=r"of system, user: System role .*take a model whose chat"):
        t.policy_of(t.GEMMA_2).encode([TOOLS, QUESTION])


def tiny(vocabulary: Literal["open", "closed"] = "open") -> Policy:
    config = PolicyConfig(layers=1, hidden=4, mlp=4, heads=1, kv_heads=1, vocabulary=vocabulary)
    sample = VocabularySample({"sums": [QUESTION["content"]]}, ["42"])
    return load_policy(config, torch.device("cpu"), seed=0, sample=sample)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (t.QWEN_3, "not append-only"),
        (t.DEEPSEEK_R1, "not append-only"),
        (t.TIDY, "not append-only"),
        (t.ENDLESS, "puts no token behind an answer"),
    ],
    ids=["qwen 3", "deepseek r1", "tidy", "endless"],
)
def test_a_template_that_changes_earlier_turns_is_refused_by_name(template: str, why: str) -> None:
    policy = t.policy_of(template)
    policy.encode([QUESTION])  # as good as any for episodes of one turn
    with pytest.raises(PolicyError, match=rf"^family/model: its chat template .*{why}.*Qwen2\.5.*`template: none`"):
        policy.bridge([REPLY], [QUESTION])


def test_reasoning_that_a_tool_s_reply_leaves_alone_is_no_reason_to_refuse() -> None:
    policy = t.policy_of(t.QWEN_3)
    policy.bridge([{"role": "tool", "content": "42"}], [QUESTION])
    with pytest.raises(PolicyError, match="not append-only"):
        policy.bridge([REPLY], [QUESTION])


def test_a_reply_that_the_template_does_not_take_is_refused_with_its_role() -> None:
    policy = t.policy_of(t.ALTERNATING)
    with pytest.raises(PolicyError, match=r"of these roles: user, assistant, tool \(only user and assistant\)"):
        policy.bridge([{"role": "tool", "content": "42"}], [QUESTION])


def test_a_template_may_tell_the_date() -> None:
    policy, today = t.policy_of("{{ today }}" + t.CHATML), "Monday"
    render = policy.tokenizer.apply_chat_template
    policy.tokenizer.apply_chat_template = lambda *a, **options: render(*a, today=today, **options)
    policy.bridge([REPLY], [QUESTION])
    today = "Tuesday"
    bridge = policy.tokenizer.decode(policy.bridge([{**REPLY, "content": "less"}], [QUESTION]))
    assert bridge == "\n<|im_start|>user\nless<|im_end|>\n<|im_start|>assistant\n"


def test_without_a_template_a_blank_line_goes_before_every_reply() -> None:
    policy = t.policy_of(None, "none")
    assert policy.tokenizer.decode(policy.encode([QUESTION, REPLY])) == "6 * 7?\n\nmore"
    assert policy.tokenizer.decode(policy.bridge([REPLY, REPLY], [QUESTION])) == "\n\nmore\n\nmore"


def test_a_closed_vocabulary_says_what_it_cannot_spell() -> None:
    with pytest.raises(VocabularyError, match="no token for 'm'"):
        tiny("closed").bridge([REPLY], [QUESTION])


def test_a_template_is_asked_about_contents_where_it_raises_by_them() -> None:
    careful = {name for name, text in vars(t).items() if isinstance(text, str) and "{%" in text and _is_careful(text)}
    assert careful == {"CALM"}
    kinds = t.CALM.replace("elif '!' in message['content']", "elif message.content is mapping")
    assert not _is_careful(kinds)
    body, begin, end = "{{ m['content'] }}", "{% for m in messages %}", "{% endfor %}"
    inline = "{{ raise_exception('loud') if '!' in m.content else m.content }}"
    by_name = "{% set text = m['content'] | trim %}{% if not text %}{{ raise_exception('empty') }}{% endif %}"
    commented = "{# {% if m.content %} #}{{ raise_exception('a role') if m.role == 'tool' }}"
    marked = (
        "{% generation %}{% if m.content | length > 9 %}{{ raise_exception('long') }}{% endif %}{% endgeneration %}"
    )
    by_parts = (
        "{% for part in m.content %}{% if not part %}{{ raise_exception('nothing') }}{% break %}{% endif %}{% endfor %}"
    )
    found = {text: _is_careful(begin + text + body + end) for text in (inline, by_name, commented, marked, by_parts)}
    assert found == {inline: True, by_name: True, commented: False, marked: True, by_parts: True}
    assert not t.policy_of(t.CALM, "none").encoder.may_refuse_content()


def _is_careful(template: str) -> bool:
    return t.policy_of(template).encoder.may_refuse_content()
