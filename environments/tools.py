"""Methods as tools: their JSON schemas, which the policy's chat template writes out, and calls as models write them.

A conversation with tools begins with a message of the role `tools`, a list of schemas as JSON, which the policy's
encoder gives to its chat template. Calls are read in three forms, as a model was taught one of them by its template:
Hermes's and Qwen's, `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, several of them among other text;
Llama's, a reply that is nothing but `{"name": ..., "parameters": {...}}`; and Mistral's, a reply that is nothing but
`[{"name": ..., "arguments": {...}}, ...]`. Tokens that open them (`<|python_tag|>`, `[TOOL_CALLS]`) may stand before
the latter two. Sources: the chat templates of Qwen2.5, Hermes 2 Pro, Llama 3.1 and Mistral 7B v0.3.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, get_type_hints

import numpy as np
from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from environments.contracts import TOOLS, Message

OPEN, CLOSE = "<tool_call>", "</tool_call>"
THINK, THOUGHT = "<think>", "</think>"
RESPONSE = ("<tool_response>\n", "\n</tool_response>")
WHOLE = ("<|python_tag|>", "[TOOL_CALLS]")  # before a reply that is nothing but calls, unless they were left out of it
CALL_KEYS = {"name", "arguments", "parameters", "id", "type"}
SECTION = re.compile(r"^\s*(Args|Arguments|Parameters|Returns|Return|Raises|Yields|Examples?|Notes?):\s*$")
ARGUMENT = re.compile(r"^\s*\**(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$")


@dataclass(frozen=True)
class ToolCall:
    """A call as a policy wrote it; `fault` says why it cannot be made."""

    name: str = ""
    arguments: Mapping[str, Any] | None = None
    fault: str | None = None


def told(schemas: list[dict[str, Any]]) -> Message:
    """Write the first message of a prompt, by which the policy's chat template gets tools."""
    return {"role": TOOLS, "content": json.dumps(schemas, ensure_ascii=False)}


def schema_of(method: Callable[..., Any]) -> dict[str, Any]:
    """Describe a method by its docstring and type hints as Transformers does for `tools=`.

    Raises ValueError where they do not say enough.
    """
    name = method.__name__
    text, arguments, returns = _docstring(inspect.getdoc(method) or "")
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
            schema = _type_schema(hints[key])
        except (PydanticSchemaGenerationError, PydanticUserError) as error:
            raise ValueError(f"the tool {name} has an argument {key!r} of a type that JSON has not: {error}") from error
        properties[key] = {**schema, **({"description": arguments[key]} if key in arguments else {})}
        if one.default is one.empty:
            required.append(key)
    parameters = {"type": "object", "properties": properties, **({"required": required} if required else {})}
    described = {"name": name, "description": text, "parameters": parameters}
    with suppress(PydanticSchemaGenerationError, PydanticUserError):  # JSON has no such type
        if "return" in hints:
            described["return"] = {**_type_schema(hints["return"]), **({"description": returns} if returns else {})}
    return {"type": "function", "function": described}


def _type_schema(hint: Any) -> dict[str, Any]:
    return _as_transformers_does(TypeAdapter(hint).json_schema())


def _as_transformers_does(schema: dict[str, Any]) -> dict[str, Any]:
    """Write a schema of pydantic's as Transformers would: the type first, a choice of types as one, without titles."""
    inner = {key: value for key, value in schema.items() if key not in ("title", "type")}
    for key in ("properties", "$defs"):
        if key in inner:
            inner[key] = {name: _as_transformers_does(one) for name, one in inner[key].items()}
    for key in ("anyOf", "prefixItems"):
        if key in inner:
            inner[key] = [_as_transformers_does(one) for one in inner[key]]
    for key in ("items", "additionalProperties"):
        if inner.get(key) in ({}, True):
            del inner[key]
        elif isinstance(inner.get(key), dict):
            inner[key] = _as_transformers_does(inner[key])
    if "type" in schema:
        return {"type": schema["type"], **inner}
    some = [one for one in inner.get("anyOf", ()) if one != {"type": "null"}]
    if not some or set(inner) != {"anyOf"}:
        return inner
    nullable = {"nullable": True} if len(some) < len(inner["anyOf"]) else {}
    if len(some) == 1:
        return {**some[0], **nullable}
    if all(set(one) == {"type"} for one in some):
        return {"type": sorted(one["type"] for one in some), **nullable}
    return {"anyOf": some, **nullable}


def read_calls(completion: str) -> Iterator[ToolCall]:
    """Read the calls in a completion, outside its reasoning; one that is not closed is none. Linear in the text."""
    said = _split(completion)[1]
    if OPEN not in said:
        yield from _read_whole(said)
        return
    for piece in said.split(OPEN)[1:]:
        written, mark, _ = piece.partition(CLOSE)
        if mark:
            yield _read(written)


def drawn_call(schemas: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> str:
    """Draw a call of one of the tools, with arguments of its types, as Hermes and Qwen write it."""
    tool = schemas[int(rng.integers(len(schemas)))]["function"]
    schema = tool["parameters"]
    wanted = [name for name in schema["properties"] if name in schema.get("required", ()) or rng.integers(2)]
    arguments = {name: _drawn(schema["properties"][name], rng) for name in wanted}
    return f"{OPEN}\n{json.dumps({'name': tool['name'], 'arguments': arguments})}\n{CLOSE}"


def _drawn(schema: Mapping[str, Any], rng: np.random.Generator) -> Any:
    """Draw a value of a schema as `schema_of` writes it; of one that refers to another, an empty object."""
    for key in ("enum", "anyOf", "type"):
        if isinstance(some := schema.get(key), list) and some:
            one = some[int(rng.integers(len(some)))]
            return one if key == "enum" else _drawn(one if key == "anyOf" else {**schema, "type": one}, rng)
    match schema.get("type"):
        case "boolean":
            return bool(rng.integers(2))
        case "integer":
            return int(rng.integers(10))
        case "number":
            return round(float(rng.normal()), 2)
        case "string":
            return str(schema.get("const", rng.integers(1000)))
        case "array":
            return [_drawn(schema.get("items", {"type": "integer"}), rng) for _ in range(rng.integers(4))]
        case "null":
            return None
    return {}


def message_of(completion: str, calls: Sequence[ToolCall]) -> dict[str, Any]:
    """Write a reply as TRL hands it to reward functions: its text, its reasoning and its calls apart from each other.

    Of several texts among calls TRL keeps the last. Text in which a call cannot be read stays whole.
    """
    function_calls = [
        {"type": "function", "function": {"name": call.name, "arguments": dict(call.arguments or {})}} for call in calls
    ]
    made = {"tool_calls": function_calls} if calls else {}
    reasoning, said = _split(completion)
    first, *pieces = said.split(OPEN)
    if not all(call.name for call in calls) or not all(CLOSE in piece for piece in pieces):
        return {"role": "assistant", "content": completion, **made}
    texts = [first, *(piece.partition(CLOSE)[2] for piece in pieces)] if pieces or not calls else []
    content = next((text.strip() for text in reversed(texts) if text.strip()), "")
    return {"role": "assistant", **({"reasoning_content": reasoning} if reasoning else {}), "content": content, **made}


def _split(completion: str) -> tuple[str, str]:
    """Split a completion into reasoning, whose opening tag a template may have written, and what is said beside it."""
    before, _, said = completion.rpartition(THOUGHT)
    if THINK in said:  # reasoning that was cut off
        said, _, before = said.partition(THINK)
    return before.rpartition(THINK)[2].strip(), said.strip()


def _read_whole(said: str) -> Iterator[ToolCall]:
    """Read a reply that is nothing but a call or a list of calls; any other JSON is an answer."""
    for mark in WHOLE:
        said = said.removeprefix(mark).strip()
    if not said.startswith(("{", "[")):
        return
    try:
        found = json.loads(said)
    except (ValueError, RecursionError):
        return
    calls = found if isinstance(found, list) else [found]
    if all(_is_call(one) for one in calls):
        for one in calls:
            yield _call(one, "arguments" if "arguments" in one else "parameters")


def _is_call(found: Any) -> bool:
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        return False
    return set(found) <= CALL_KEYS and len(found.keys() & {"arguments", "parameters"}) == 1


def _read(written: str) -> ToolCall:
    try:
        found = json.loads(written)
    except (ValueError, RecursionError):
        return ToolCall(fault="the call is no JSON")
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        return ToolCall(fault='a call is {"name": ..., "arguments": {...}}')
    return _call(found, "arguments")


def _call(found: Mapping[str, Any], key: str) -> ToolCall:
    arguments = found.get(key) or {}
    if not isinstance(arguments, dict):
        return ToolCall(found["name"], fault=f"`{key}` is no JSON object")
    return ToolCall(found["name"], arguments)


def _docstring(text: str) -> tuple[str, dict[str, str], str]:
    """Split a docstring of Google's style: what stands before the first section, of each argument, of what returns."""
    before, arguments, returns, section, last = list[str](), dict[str, str](), list[str](), "", ""
    for line in text.splitlines():
        if (match := SECTION.match(line)) is not None:
            section, last = match[1], ""
        elif not section:
            before.append(line)
        elif section in ("Returns", "Return"):
            returns.append(line.strip())
        elif section in ("Args", "Arguments", "Parameters"):
            if (named := ARGUMENT.match(line)) is not None:
                last, arguments[named[1]] = named[1], named[2].strip()
            elif last and line.strip():
                arguments[last] = f"{arguments[last]} {line.strip()}".strip()
    return "\n".join(before).strip(), arguments, " ".join(returns).strip()
