"""Tools in prompts: given to the chat template as it knows them, told in words where it knows none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from environments import Category, Environment, Task
from environments.tools import told
from orchestrator.runs.first_prompts import require_readable
from policies.encoder import Encoder
from policies.errors import PolicyError
from policies.models.tiny_tokenizer import VocabularySample, build_tokenizer, prompt_text
from policies.tool_prompts import PROBED

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "What is moss?"}
TEMPLATE = """
{%- if tools %}<s>{{ tools | map("tojson") | join(";") }}{% endif -%}
{%- for one in messages %}<{{ one.role }}>
{%- if one.tool_calls %}CALLS{% else %}{{ one.content }}{% endif %}</s>{% endfor -%}
{%- if add_generation_prompt %}<assistant>{% endif -%}
"""
CALL = "{% for call in one.tool_calls %}{% set f = call.function %}"
FORMS = {
    "hermes": CALL
    + '<tool_call>{"name": "{{ f.name }}", "arguments": {{ f.arguments | tojson }}}</tool_call>{% endfor %}',
    "llama": CALL + '<|python_tag|>{"name": "{{ f.name }}", "parameters": {{ f.arguments | tojson }}}{% endfor %}',
    "mistral": '[TOOL_CALLS] [{%- for call in one.tool_calls %}{"name": "{{ call.function.name }}", "arguments": '
    '{{ call.function.arguments | tojson }}, "id": "{{ call.id }}"}{% endfor %}]',
}
XML = CALL + "<tool_call><function={{ f.name }}></function></tool_call>{% endfor %}"


class Asking(Environment):
    """A task with a tool."""

    name, version = "asking", "1"
    categories = (Category("all"),)

    def size(self, category: str) -> int:
        return 2

    def task(self, category: str, index: int) -> Task:
        return Task(self.name, category, index, (told([PROBED]), USER))


def encoder_of(calls: str | None, template: Any = "chat") -> Encoder:
    tokenizer = build_tokenizer(VocabularySample({}))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<s>", "</s>", "[TOOL_CALLS]", "<|python_tag|>"]})
    if calls is not None:
        tokenizer.chat_template = TEMPLATE.replace("CALLS", calls)
    return Encoder(tokenizer, template)


@pytest.mark.parametrize("form", FORMS)
def test_a_template_that_knows_tools_writes_them_itself_and_its_calls_are_read(form: str) -> None:
    encoder = encoder_of(FORMS[form])
    written = encoder.tokenizer.decode(encoder.encode([told([PROBED]), SYSTEM, USER]))
    begin, system, *_ = written.removeprefix("<s>").split("<system>")
    assert json.loads(begin) == PROBED
    assert system.startswith("Be brief.</s><user>What is moss?")
    require_readable({"asking": Asking()}, encoder)


def test_calls_in_a_form_that_is_not_read_are_refused_by_it() -> None:
    with pytest.raises(PolicyError, match=r"asking: .*not read here, '.*<function=look_up>.*say `template: none`"):
        require_readable({"asking": Asking()}, encoder_of(XML))
    require_readable({"asking": Asking()}, encoder_of(XML, "none"))


@pytest.mark.parametrize("template", ["chat", "none"])
def test_without_a_form_of_its_own_tools_are_told_in_the_system_message(template: str) -> None:
    encoder = encoder_of(None, template)
    assert encoder.probed_call() is None
    for said in ([USER], [SYSTEM, USER]):
        ids = encoder.encode([told([PROBED]), *said])
        written = encoder.tokenizer.decode(ids)
        (schema,) = written.partition("<tools>\n")[2].partition("\n</tools>")[0].splitlines()
        assert json.loads(schema) == PROBED
        assert '{"name": <function-name>, "arguments": <args-json-object>}' in written
        assert written.startswith("Be brief.\n\n# Tools" if len(said) == 2 else "# Tools")
        if template == "chat":
            assert prompt_text([told([PROBED]), *said]) == written.removesuffix("<|answer|>")
    require_readable({"asking": Asking()}, encoder)


def test_no_tools_change_nothing() -> None:
    encoder = encoder_of(FORMS["hermes"])
    assert encoder.encode([told([]), USER]) == encoder.encode([USER])
