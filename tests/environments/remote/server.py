"""A server of the protocol in a thread of its own, which misbehaves on demand; and servers of other packages."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
from aiohttp import web

ROOT = Path(__file__).parents[3]
Trouble = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Thirty tasks of `short` and endless `long`: say anything twice, hear the echo, be scored by the third.

    It has `room` for so many episodes that go on. `troubles` are answers in place of the next ones of a kind:
    "environment", "tasks", "episodes", "turns", "close".
    """

    def __init__(self, app: Callable[[Server], web.Application] | None = None) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.version, self.protocol, self.token, self.lease_s, self.page = "7", 1, None, 60.0, 1000
        self.version_of_tasks = True  # whether it says one with them
        self.room, self.most = 1_000_000, 0  # episodes at once: that there is room for, that there were
        self.episodes: dict[str, dict[str, Any]] = {}
        self.troubles: dict[str, deque[Trouble]] = {}
        self.log: list[str] = []  # kinds of requests
        self._num_begun, self._make_app = 0, app or Server._app

    def count(self, kind: str) -> int:
        return self.log.count(kind)

    def next(self, kind: str, *troubles: Trouble) -> None:
        self.troubles.setdefault(kind, deque()).extend(troubles)

    def always(self, kind: str, trouble: Trouble) -> None:
        self.next(kind, *[trouble] * 1000)

    def _app(self) -> web.Application:
        app = web.Application()
        for method, path, kind, handler in (
            ("GET", "/environment", "environment", self._environment),
            ("GET", "/tasks", "tasks", self._tasks),
            ("POST", "/episodes", "episodes", self._begin),
            ("POST", "/episodes/{episode}/turns", "turns", self._turn),
            ("DELETE", "/episodes/{episode}", "close", self._close),
        ):
            app.router.add_route(method, path, self._watched(kind, handler))
        return app

    def _watched(self, kind: str, handler: Trouble) -> Trouble:
        async def watched(request: web.Request) -> web.StreamResponse:
            self.log.append(kind)
            if self.troubles.get(kind):
                return await self.troubles[kind].popleft()(request)
            if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
                return web.json_response({"error": "who are you?"}, status=401)
            return await handler(request)

        return watched

    async def _environment(self, request: web.Request) -> web.StreamResponse:
        categories = [{"name": "short", "size": 30}, {"name": "long", "size": None, "trainable": False}]
        said = {"protocol": self.protocol, "version": self.version, "lease_s": self.lease_s, "categories": categories}
        return web.json_response({**said, "max_tokens": 64, "symbols": ["ok"], "more": "is ignored"})

    async def _tasks(self, request: web.Request) -> web.StreamResponse:
        category, start = request.query["category"], int(request.query["start"])
        found = [
            {"messages": [{"role": "user", "content": f"{category} {index}"}], "answer": f"{category} {index}"}
            for index in range(start, start + min(self.page, int(request.query["count"])))
        ]
        said = {"version": self.version} if self.version_of_tasks else {}
        return web.json_response({**said, "tasks": found})

    async def _begin(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        num = sum(not (one["said"] and one["said"][-1]["done"]) for one in self.episodes.values())
        if num >= self.room:
            return web.json_response({"error": "full"}, status=429)
        self._num_begun, self.most = self._num_begun + 1, max(self.most, num + 1)
        name = f"e{self._num_begun}"
        self.episodes[name] = {"answer": f"{asked['category']} {asked['index']}", "heard": [], "said": []}
        return web.json_response({"episode": name, "version": self.version})

    async def _turn(self, request: web.Request) -> web.StreamResponse:
        episode, asked = self.episodes.get(request.match_info["episode"]), await request.json()
        if episode is None:
            return web.json_response({"error": "no such episode"}, status=404)
        number = asked["turn"]
        if number == len(episode["heard"]):
            episode["heard"].append(asked["completion"])
            episode["said"].append(self._say(episode))
        assert episode["heard"][number] == asked["completion"]
        return web.json_response(episode["said"][number])

    def _say(self, episode: dict[str, Any]) -> dict[str, Any]:
        heard = episode["heard"]
        if len(heard) < 3:
            return {"done": False, "messages": [{"role": "user", "content": f"{len(heard)}: {heard[-1][:20]}"}]}
        value = float(heard[-1] == episode["answer"])
        return {"done": True, "score": {"value": value, "components": {"turns": 3.0}}}

    async def _close(self, request: web.Request) -> web.StreamResponse:
        self.episodes.pop(request.match_info["episode"], None)
        return web.Response(status=204)

    # --- its life ----------------------------------------------------------------------------------------

    def start(self) -> None:
        ready = threading.Event()
        self._loop = asyncio.new_event_loop()

        async def serve() -> None:
            self._over = asyncio.Event()
            runner = web.AppRunner(self._make_app(self), shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True).start()
            ready.set()
            await self._over.wait()
            await runner.cleanup()

        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(serve(),), daemon=True)
        self._thread.start()
        assert ready.wait(10)

    def stop(self) -> None:
        if self._loop.is_closed():  # by a test that ended between the two
            return
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)
        self._loop.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def wait_until(fact: Callable[[], bool]) -> None:
    until = time.monotonic() + 5
    while not fact():
        assert time.monotonic() < until, "it does not come true"
        time.sleep(0.01)


def says(status: int, body: Any = None, **headers: str) -> Trouble:
    async def trouble(request: web.Request) -> web.StreamResponse:
        return web.json_response(
            body or {}, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )

    return trouble


def writes(body: bytes) -> Trouble:
    async def trouble(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json")

    return trouble


async def hangs_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def sleeps(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


@contextmanager
def foreign_server(package: str, script: str, *words: str) -> Iterator[str]:
    """Start a server of another package in the environment that `make PACKAGE` makes of it; its URL."""
    variable, made = f"EVERGREEN_{package.upper().replace('-', '_')}_PYTHON", ROOT / f".venv-{package}/bin/python"
    python = Path(os.environ.get(variable, made))
    if not python.exists():
        pytest.fail(f"there is no {python}: `make {package}` makes it, or name one with {variable}")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with subprocess.Popen([python, Path(__file__).with_name(script), *words, str(port)]) as server:
        try:
            until = time.monotonic() + 240
            while socket.socket().connect_ex(("127.0.0.1", port)):
                assert server.poll() is None
                assert time.monotonic() < until, "it does not start"
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def short_run(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """A spec of two steps in an environment of `type: http`."""
    return {
        "name": name, "policy": {"model": "tiny", "layers": 1, "hidden": 16, "mlp": 16},
        "environments": {name: {"type": "http", **options}},
        "curriculum": {"stages": 1, "stage": {"steps": 2}}, "step": {"groups": 4, "group_size": 4},
        "sampler": {"type": "transformers", "max_tokens": 8, "turn_tokens": 4},
        "evaluate": {"items": 4, "samples": 4}, "tracker": "none",
    }  # fmt: skip
