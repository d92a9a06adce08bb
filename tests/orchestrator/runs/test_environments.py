"""Categories are looked at where a run begins, wherever their names come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from environments.slices.slice_file import SliceRow, Slices
from orchestrator.errors import UserError
from orchestrator.runs.environments import build_environments
from orchestrator.spec import Spec, load_spec
from tests.environments.remote.server import Server
from tests.orchestrator.specs import alone

PRINTABLE = "its name must be a printable string with something in it, found {}; mend it where the category comes from"
FAULTS = [
    ("two\nlines", PRINTABLE.format(r"'two\\nlines'")),
    ("\x1b[2J", PRINTABLE.format(r"'\\x1b\[2J'")),
    (" ", PRINTABLE.format("' '")),
    ("x" * 180, "its name is longer than 100 characters; mend it where"),
]


def spec_of(**options: Any) -> Spec:
    return load_spec({**alone(), "environments": {"one": options}})


@pytest.mark.parametrize(("name", "said"), FAULTS)
def test_a_name_that_a_server_gives_is_refused_unless_a_run_began_with_it(name: str, said: str) -> None:
    with Server() as server:

        async def describe(request: web.Request) -> web.Response:
            return web.json_response({"protocol": 1, "version": "1", "categories": [{"name": name, "size": 5}]})

        server.always("environment", describe)
        spec = spec_of(type="http", urls=[server.url])
        with pytest.raises(UserError, match=f"^environment one: category .*: {said}"):
            build_environments(spec)
        _, made = build_environments(spec, begun=["one"])
    assert [category.name for category in made["one"].categories] == [name]


@pytest.mark.parametrize(("name", "said"), FAULTS)
def test_a_name_in_a_file_of_slices_is_refused(tmp_path: Path, name: str, said: str) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"say {k}", "answer": "1"}) + "\n" for k in range(40)))
    options = {"type": "rows", "train": str(rows), "reward": "exact"}
    _, made = build_environments(spec_of(**options))
    key = made["one"].task("all", 0).key
    slices = tmp_path / "slices.jsonl"
    slices.write_text(Slices("one", "1", "mine", (name,), [SliceRow(key, name, "all", 0, "train")]).text())
    with pytest.raises(UserError, match=f"^environment one: category .*: {said}"):
        build_environments(spec_of(**options, slices=str(slices)))
