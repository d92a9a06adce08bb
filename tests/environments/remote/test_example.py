"""The example of the guide: its server, as a program of its own, checked and trained on with the guide's spec."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import io
import json
import tokenize
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from environments import EnvironmentSource
from environments.checker.findings import CheckLimits
from orchestrator.runs.api import run
from orchestrator.runs.catalog import opened
from tests.environments.checker.here import findings_here

ROOT = Path(__file__).parents[3]
FILE = ROOT / "examples" / "env_server.py"
NO_CODE = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


def code_lines(source: str) -> int:
    """Count the lines with code: not blank ones, comments and docstrings."""
    lines = set[int]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
            lines.difference_update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(lines)


def asked(url: str, method: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=20) as response:
        text = response.read()
    return json.loads(text) if text else None


def test_it_has_forty_lines_of_code_as_the_guides_say():
    assert code_lines(FILE.read_text()) == 40
    for guide in ("http_environments.md", "environments.md"):
        assert "40 lines" in (ROOT / "docs" / guide).read_text()


def test_a_turn_is_answered_again_the_same_and_a_closed_episode_is_gone(example_url):
    (task,) = asked(example_url, "GET", "/tasks?category=3&start=7&count=1")["tasks"]
    wrong = next(digit for digit in "123" if digit != task["answer"])
    begun = asked(example_url, "POST", "/episodes", {"category": "3", "index": 7})
    path = f"/episodes/{begun['episode']}"
    hint = "higher" if wrong < task["answer"] else "lower"
    for _ in range(2):
        first = asked(example_url, "POST", f"{path}/turns", {"turn": 0, "completion": wrong})
        assert first == {"done": False, "messages": [{"role": "user", "content": hint}]}
    for said in (task["answer"], wrong):  # the second is a repeat, whatever it says
        last = asked(example_url, "POST", f"{path}/turns", {"turn": 1, "completion": said})
        assert last == {"done": True, "score": {"value": 1.0}}
    asked(example_url, "DELETE", path)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        asked(example_url, "POST", f"{path}/turns", {"turn": 2, "completion": "1"})


class FromTheFront(dict[str, Any]):
    """Not gone through as a whole: in five minutes there are tens of thousands, and hundreds begin in a step."""

    def items(self):
        raise AssertionError("a beginning looked at every episode")


def test_an_episode_that_nobody_asked_for_during_the_lease_is_forgotten(monkeypatch):
    spec = importlib.util.spec_from_file_location("env_server", FILE)
    assert spec is not None
    server = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(server)
    now = 0.0
    monkeypatch.setattr(server, "time", SimpleNamespace(monotonic=lambda: now))

    async def body():
        return {"category": "3", "index": 0, "turn": 0, "completion": "?"}

    def call(handler, **where):
        return json.loads(asyncio.run(handler(SimpleNamespace(json=body, match_info=where))).text)

    idle, live = (call(server.begin)["episode"] for _ in range(2))
    now = server.LEASE_S - 1
    call(server.turn, episode=live)
    now = server.LEASE_S + 1
    monkeypatch.setattr(server, "episodes", FromTheFront(server.episodes))
    call(server.begin)
    assert idle not in server.episodes
    assert live in server.episodes


def test_the_checker_finds_nothing_in_the_example(example_url):
    source = EnvironmentSource("guess", "http", {"urls": [example_url]})
    assert [str(found) for found in findings_here(source, CheckLimits(tasks=8, budget_s=1.0))] == []


def test_the_spec_of_the_guide_trains_on_it(example_url, tmp_path):
    text = (ROOT / "docs" / "http_environments.md").read_text()
    spec = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert spec["environments"]["guess"]["urls"] == ["http://127.0.0.1:8400"]
    spec["environments"]["guess"]["urls"] = [example_url]
    spec["curriculum"]["stage"]["steps"] = 3
    spec["evaluate"] = {"items": 8, "samples": 4}
    spec["warm_start"]["environments"]["guess"]["batches"] = 20
    assert run(spec, home=tmp_path).status == "finished"
    with opened(tmp_path, "http") as (_, ledger):
        turns = [point.value for point in ledger.reading.series("http", "num_turns", "guess")]
    assert len(turns) == 6
    assert 1 < max(turns) <= 2
