"""Methods as tools, in the form that chat templates know: described in the system message, called by `<tool_call>`.

The form is Hermes's, as Qwen's templates write it for `tools=`: a JSON schema a line between `<tools>` tags, and calls
as `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`. Sources: the chat templates of Qwen2.5 and Hermes 2 Pro.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

OPEN, CLOSE = "<tool_call>", "</tool_call>"
RESPONSE = ("<tool_response>\n", "\n</tool_response>")
SECTION = re.compile(r"^\s*(Args|Arguments|Parameters|Returns|Return|Raises|Yields|Examples?|Notes?):\s*$")
ARGUMENT = re.compile(r"^\s*\**(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$")

# What the templates say around the schemas, word for word: models were trained to call tools behind this text.
DESCRIBED = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function"
    " signatures within <tools></tools> XML tags:\n<tools>\n{tools}\n</tools>\n\nFor each function call, return a json"
    " object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{{"name": <function-name>, "arguments": <args-json-object>}}\n</tool_call>'
)


@dataclass(frozen=True)
class ToolCall:
    """A call as a policy wrote it; `fault` says why it cannot be made."""

    name: str = ""
    arguments: Mapping[str, Any] | None = None
    fault: str | None = None


def described(schemas: list[dict[str, Any]]) -> str:
    """Write what the system message says of tools."""
    return DESCRIBED.format(tools="\n".join(json.dumps(schema, ensure_ascii=False) for schema in schemas))


def schema_of(method: Callable[..., Any]) -> dict[str, Any]:
    """Describe a method by its docstring and type hints; ValueError where they do not say enough."""
    name = method.__name__
    text, arguments = _docstring(inspect.getdoc(method) or "")
    if not text:
        raise ValueError(f"the tool {name} has no docstring, which tells the policy what it does")
    if inspect.iscoroutinefunction(method):
        raise ValueError(f"the tool {name} is async; make it a plain method")
    hints, properties, required = get_type_hints(method), dict[str, Any](), list[str]()
    for key, one in inspect.signature(method).parameters.items():
        if key == "self":
            continue
        if one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL, one.POSITIONAL_ONLY):
            raise ValueError(f"the tool {name} takes {one}; give every argument a name")
        if key not in hints:
            raise ValueError(f"the tool {name} has no type hint for its argument {key!r}")
        try:
            schema = TypeAdapter(hints[key]).json_schema()
        except (PydanticSchemaGenerationError, PydanticUserError) as error:
            raise ValueError(f"the tool {name} has an argument {key!r} of a type that JSON has not: {error}") from error
        schema.pop("title", None)
        properties[key] = {**schema, **({"description": arguments[key]} if key in arguments else {})}
        if one.default is one.empty:
            required.append(key)
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "description": text, "parameters": parameters}}


def read_calls(completion: str) -> Iterator[ToolCall]:
    """Read the calls in a completion, behind its reasoning; one that is not closed is none. Linear in the text."""
    for piece in completion.rpartition("</think>")[2].split(OPEN)[1:]:
        written, mark, _ = piece.partition(CLOSE)
        if mark:
            yield _read(written)


def _read(written: str) -> ToolCall:
    try:
        found = json.loads(written)
    except (ValueError, RecursionError):
        return ToolCall(fault="the call is no JSON")
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        return ToolCall(fault='a call is {"name": ..., "arguments": {...}}')
    arguments = found.get("arguments") or {}
    if not isinstance(arguments, dict):
        return ToolCall(found["name"], fault="`arguments` is no JSON object")
    return ToolCall(found["name"], arguments)


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """Split a docstring of Google's style: what stands before the first section, and what it says of each argument."""
    before, arguments, section, last = list[str](), dict[str, str](), "", ""
    for line in text.splitlines():
        if (match := SECTION.match(line)) is not None:
            section, last = match[1], ""
        elif not section:
            before.append(line)
        elif section in ("Args", "Arguments", "Parameters"):
            if (named := ARGUMENT.match(line)) is not None:
                last, arguments[named[1]] = named[1], named[2].strip()
            elif last and line.strip():
                arguments[last] = f"{arguments[last]} {line.strip()}".strip()
    return "\n".join(before).strip(), arguments
