"""NeMo Gym's resources servers (NVIDIA-NeMo/Gym): `/seed_session`, a route a tool, `/verify`; sessions are cookies.

Tasks are rows of the user's file, as NeMo Gym's own data sets are: `responses_create_params` and what the verifier
reads. Here the policy takes the place of NeMo Gym's agent and model server: tools are told in a system message, a call
is `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, and the whole is verified as a response of OpenAI's
Responses API. There is no place for tools over MCP, sandboxes, contents that are no text, agents, model servers and
what is played by `/reset` and `/step`. Read from its source (`base_resources_server.py`, `simple_agent/app.py`), and
tried with servers of its own (0.4.0, 0.7.0).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from environments.contracts import (
    Category,
    EnvironmentFault,
    EpisodeLost,
    Message,
    RemoteEpisode,
    RemoteFault,
    Score,
    ServersAway,
    Task,
    Turn,
)
from environments.options import Options
from environments.remote.client import BAD_REPLY, BadReply, Client, Reply, Said, TimedOut, TokenRefused, Unanswered
from environments.remote.contracts import Description, Protocol, TaskText
from environments.remote.episode import ServedEpisode
from environments.remote.rewards import Range, score_of
from environments.tools import CLOSE, OPEN

LEASE_S = 300.0  # its servers say none
TOOL = re.compile(r"[A-Za-z_]\w{0,99}")
MOST_CALLS = 16  # of one turn
OWN_ROUTES = frozenset({"verify", "seed_session", "close_session", "sandbox_access", "aggregate_metrics", "mcp"})
HOW = (
    "You may call functions, whose signatures stand in <tools>, a JSON object a line. For each call write a JSON object"
    ' with the function\'s name and its arguments: <tool_call>{"name": NAME, "arguments": {...}}</tool_call>.'
)


class NemoGymOptions(Options):
    """What NeMo Gym's servers do not say of themselves."""

    tasks: str
    """File of rows, JSON a line, relative to the spec's folder: NeMo Gym's own data."""
    category: str | None = None
    """Field of a row that names its category; null: one category, `all`."""
    worth: Range = (0.0, 1.0)
    """Rewards that are worth 0 and 1; what lies outside is unscorable."""

    @model_validator(mode="after")
    def _has_a_range(self) -> NemoGymOptions:
        if not self.worth[0] < self.worth[1]:
            raise ValueError("`worth` is [what is worth 0, what is worth 1], the lower first")
        return self


class _Verified(Reply):
    reward: float
    reward_components: dict[str, float] = Field(default_factory=dict)
    mask_sample: bool = False
    failure_kind: Said | None = None


class _OpenApi(Reply):
    paths: dict[str, Any]


class NemoGymProtocol(Protocol):
    """Resources servers of NeMo Gym."""

    def __init__(self, client: Client, options: NemoGymOptions, file: Path) -> None:
        self._client, self._options, self._file = client, options, file

    async def describe(self) -> Description:
        """Read the rows, and ask a server for its routes."""
        rows, client = self._rows, self._client
        try:
            url, said = await client.call_any(_OpenApi, "GET", "/openapi.json")
        except TokenRefused as refused:
            raise refused.fault(client.name, "a server") from None
        except RemoteFault as fault:
            raise ServersAway(f"environment {client.name}: no resources server answers ({fault})") from None
        if missing := [route for route in ("/seed_session", "/verify") if route not in said.paths]:
            raise EnvironmentFault(
                f"environment {client.name}: {url} has no route {missing[0]}: is it a resources server of NeMo Gym, and"
                " not an agent, a model server or one of its Gymnasium servers (`/reset`, `/step`)?"
            )
        digest = hashlib.sha256(self._file.read_bytes() + self._options.model_dump_json().encode()).hexdigest()[:12]
        categories = tuple(Category(name) for name in rows)
        return Description(f"nemo_gym+{digest}", categories, tuple(map(len, rows.values())), LEASE_S)

    async def tasks(self, category: str, start: int, num: int) -> Sequence[TaskText]:
        """Give rows as tasks; no server is asked."""
        return [TaskText(_conversation(row), None, {"row": row}) for row in self._rows[category][start : start + num]]

    async def begin(self, task: Task) -> RemoteEpisode:
        """Seed a session with the row; its cookies are the episode."""
        row = task.data["row"]

        async def seed(url: str) -> RemoteEpisode:
            _, cookies = await self._client.exchange("POST", url, "/seed_session", row)
            if not cookies:
                raise BadReply(f"{BAD_REPLY}: no cookie, which would be the session")
            return NemoGymEpisode(self._client, url, cookies, row, self._options.worth)

        _, episode = await self._client.begin(seed)
        return episode

    @cached_property
    def _rows(self) -> dict[str, list[dict[str, Any]]]:
        """Read the file; raises EnvironmentFault where a row cannot be played."""
        found: dict[str, list[dict[str, Any]]] = {}
        place, field = f"environment {self._client.name}: {self._file}", self._options.category
        try:
            lines = self._file.read_text("utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise EnvironmentFault(f"{place} cannot be read ({error})") from error
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                _conversation(row)
                category = "all" if field is None else row[field]
                if not isinstance(category, str) or not category:
                    raise ValueError(f"its field {field} is no text")
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                said = f"has no {error}" if isinstance(error, KeyError) else str(error)
                raise EnvironmentFault(f"{place}, line {number}, cannot be played: {said}") from None
            found.setdefault(category, []).append(row)
        if not found:
            raise EnvironmentFault(f"{place} has no rows")
        return found


def _conversation(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """Read what a row asks, its tools told first; raises ValueError, KeyError or TypeError where it is not in form."""
    asked = row["responses_create_params"]
    given = asked["input"]
    messages = [{"role": "user", "content": given}] if isinstance(given, str) else [_message(one) for one in given]
    if not messages:
        raise ValueError("its `input` is empty")
    if not _tools(row):
        return tuple(messages)
    signatures = "\n".join(json.dumps(tool, ensure_ascii=False, sort_keys=True) for tool in asked["tools"])
    told = f"{HOW}\n<tools>\n{signatures}\n</tools>"
    if messages[0]["role"] == "system":
        first = {"role": "system", "content": f"{messages[0]['content']}\n\n{told}"}
        return (first, *messages[1:])
    return ({"role": "system", "content": told}, *messages)


def _message(item: Mapping[str, Any]) -> dict[str, str]:
    role = {"developer": "system"}.get(item["role"], item["role"])
    content = item["content"]
    is_list = isinstance(content, list) and all(isinstance(part, dict) for part in content)
    if is_list and all(part.get("type") == "input_text" for part in content):
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str) or role not in ("system", "user", "assistant"):
        raise ValueError("its `input` holds what is no message of text")
    return {"role": role, "content": content}


def _tools(row: Mapping[str, Any]) -> frozenset[str]:
    """Name a row's tools; raises ValueError where one is no function, or named as a route of the server's own."""
    tools = row["responses_create_params"].get("tools") or []
    for tool in tools:
        if not isinstance(tool, dict):
            raise ValueError(f"its tool {tool!r} is no function that can be called")
        if tool.get("type") != "function" or not TOOL.fullmatch(str(tool.get("name"))) or tool["name"] in OWN_ROUTES:
            raise ValueError(f"its tool {tool.get('name')!r} is no function that can be called")
    return frozenset(tool["name"] for tool in tools)


def split_calls(completion: str) -> tuple[list[str], str]:
    """Split a completion into what stands inside its calls and the text around them, in linear time."""
    calls, around = list[str](), list[str]()
    *closed, rest = completion.split(CLOSE)
    for piece in closed:
        before, mark, written = piece.partition(OPEN)
        around.append(before if mark else piece + CLOSE)
        if mark:
            calls.append(written.strip())
    return calls, "".join([*around, rest])


class NemoGymEpisode(ServedEpisode):
    """A session: the cookies that its server sets, who has no route to close it.

    No call of it is made twice, as tools change its state.
    """

    def __init__(self, client: Client, url: str, cookies: dict[str, str], row: Mapping[str, Any], worth: Range) -> None:
        super().__init__(client, url, json.dumps(cookies, sort_keys=True))
        self._cookies, self._row, self._worth = cookies, row, worth
        self._tools, self._output = _tools(row), list[dict[str, Any]]()

    async def _answer(self, completion: str) -> Turn:
        """Make the calls in a completion; one without calls is the answer, which is verified."""
        calls, text = split_calls(completion) if self._tools else ([], completion)
        if text.strip() or not calls:
            self._output.append(_text_item(text, len(self._output)))
        if not calls:
            return Turn((), await self._verify(), done=True)
        said = [{"role": "tool", "content": await self._use(call)} for call in calls[:MOST_CALLS]]
        return Turn(tuple(said), None, done=False)

    async def _use(self, call: str) -> str:
        try:
            asked = json.loads(call)
            name, arguments = asked["name"], asked["arguments"]
            if name not in self._tools or not isinstance(arguments, dict):
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError):
            return json.dumps(
                {"error": f"a call is a JSON object: name is one of {sorted(self._tools)}, and arguments"}
            )
        number = f"call_{len(self._output)}"
        data = await self._ask(f"/{name}", arguments, reads_errors=True)  # what a tool says of a mistake is read too
        said = self._client.read_text(data)
        item = {"type": "function_call", "name": name, "arguments": json.dumps(arguments), "call_id": number}
        self._output += [item, {"type": "function_call_output", "call_id": number, "output": said}]
        return said

    async def _verify(self) -> Score:
        asked = self._row["responses_create_params"]
        response = {
            "id": "resp_0", "created_at": 0.0, "model": "policy", "object": "response", "output": self._output,
            "parallel_tool_calls": False, "tool_choice": "auto", "tools": asked.get("tools") or [],
        }  # fmt: skip
        data = await self._ask("/verify", {**self._row, "response": response})
        found = self._client.read(_Verified, data)
        if found.mask_sample:
            return Score.unscorable(f"masked: {found.failure_kind or 'no reason given'}")
        return score_of(found.reward, self._worth, found.reward_components)

    async def _ask(self, path: str, body: Any, *, reads_errors: bool = False) -> bytes:
        try:
            data, cookies = await self._client.exchange(
                "POST", self._url, path, body, cookies=self._cookies, reads_errors=reads_errors
            )
        except TimedOut:
            raise
        except Unanswered as unanswered:
            raise EpisodeLost(str(unanswered)) from None
        self._cookies |= cookies
        return data


def _text_item(text: str, number: int) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    item = {"id": f"msg_{number}", "type": "message", "role": "assistant", "status": "completed"}
    return {**item, "content": content}
