"""Tools in prompts: a first message of the role `tools` lists their JSON schemas, and a chat template writes them out.

What has no form of its own for them (`template: none`, a template that knows no `tools`) gets them told in the system
message, in the words of Hermes 2 Pro and Qwen2.5.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

Message = Mapping[str, str]

ROLE = "tools"
TOLD = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function"
    " signatures within <tools></tools> XML tags:\n<tools>\n{tools}\n</tools>\n\nFor each function call, return a json"
    " object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{{"name": <function-name>, "arguments": <args-json-object>}}\n</tool_call>'
)
# A call by which is found how a template writes calls. Mistral's wants ids of nine characters.
PROBE = {"name": "look_up", "arguments": {"word": "moss"}}
PROBED = {
    "type": "function",
    "function": {
        "name": PROBE["name"],
        "description": "Look up a word.",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
    },
}
CALLING = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"id": "callnum01", "type": "function", "function": PROBE}],
}


def split(messages: Sequence[Message]) -> tuple[list[dict[str, Any]], Sequence[Message]]:
    """Part the schemas of tools, where there are some, from the conversation."""
    if not messages or messages[0]["role"] != ROLE:
        return [], messages
    return list(_schemas(messages[0]["content"])), messages[1:]


def told(messages: Sequence[Message]) -> Sequence[Message]:
    """Write tools, where there are some, into the system message."""
    schemas, (*said,) = split(messages)
    if not schemas:
        return said
    text = TOLD.format(tools="\n".join(json.dumps(schema, ensure_ascii=False) for schema in schemas))
    if said and said[0]["role"] == "system":
        return [{"role": "system", "content": f"{said[0]['content']}\n\n{text}"}, *said[1:]]
    return [{"role": "system", "content": text}, *said]


@lru_cache(64)
def _schemas(content: str) -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(content))
