"""A server of an environment of several turns: guess a number, hear where it lies, guess again.

    python examples/env_server.py 8400

`type: http` with `urls: [http://127.0.0.1:8400]` trains on it; docs/http_environments.md has the spec and the protocol.
"""

from __future__ import annotations

import random
import sys
import time

from aiohttp import web

VERSION, TRIES, LEASE_S = "1", 2, 300
episodes: dict[str, dict] = {}  # that live


def secret(category: str, index: int) -> int:
    """The same for the same arguments, always: a lost episode is begun anew and played again."""
    return random.Random(f"{category} {index}").randint(1, int(category))


async def environment(request: web.Request) -> web.Response:
    """Say what this is."""
    categories = [{"name": name, "size": None} for name in ("3", "4", "5")]
    symbols = ["higher", "lower"]
    return web.json_response(
        {"protocol": 1, "version": VERSION, "lease_s": LEASE_S, "categories": categories, "symbols": symbols}
    )


async def tasks(request: web.Request) -> web.Response:
    """Give a page of tasks."""
    category, start, count = request.query["category"], int(request.query["start"]), int(request.query["count"])
    found = []
    for index in range(start, start + count):
        question = {"role": "user", "content": f"Game {index}: guess a number from 1 to {category}."}
        found.append({"messages": [question], "answer": str(secret(category, index))})
    return web.json_response({"tasks": found})


async def begin(request: web.Request) -> web.Response:
    """Begin an episode, and forget those that nobody asked for during the lease."""
    for old in [name for name, episode in episodes.items() if time.monotonic() - episode["at"] > LEASE_S]:
        del episodes[old]
    asked = await request.json()
    name = f"{random.getrandbits(64):x}"
    episodes[name] = {"secret": secret(asked["category"], asked["index"]), "turns": [], "at": time.monotonic()}
    return web.json_response({"episode": name, "version": VERSION})


async def turn(request: web.Request) -> web.Response:
    """Answer a completion; one that was answered already, as the answer was lost on its way, the same again."""
    episode, asked = episodes.get(request.match_info["episode"]), await request.json()
    if episode is None:
        return web.json_response({"error": "no such episode"}, status=404)
    turns, episode["at"] = episode["turns"], time.monotonic()
    if asked["turn"] == len(turns):
        said = asked["completion"]
        guess = int(said) if said.isdecimal() and len(said) < 4 else 0
        if guess == episode["secret"] or len(turns) + 1 == TRIES:
            turns.append({"done": True, "score": {"value": float(guess == episode["secret"])}})
        else:
            hint = "a number!" if not guess else "higher" if guess < episode["secret"] else "lower"
            turns.append({"done": False, "messages": [{"role": "user", "content": hint}]})
    return web.json_response(turns[asked["turn"]])


async def close(request: web.Request) -> web.Response:
    """Forget an episode that is cut off."""
    episodes.pop(request.match_info["episode"], None)
    return web.Response(status=204)


def application() -> web.Application:
    """Put it together."""
    app = web.Application()
    app.router.add_get("/environment", environment)
    app.router.add_get("/tasks", tasks)
    app.router.add_post("/episodes", begin)
    app.router.add_post("/episodes/{episode}/turns", turn)
    app.router.add_delete("/episodes/{episode}", close)
    return app


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8400
    web.run_app(application(), host="127.0.0.1", port=port, print=lambda line: print(line, flush=True))
