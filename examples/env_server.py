"""A server of an environment of several turns: guess a number, hear where it lies, guess again.

    python examples/env_server.py 8400

`type: http` with `urls: [http://127.0.0.1:8400]` trains on it; docs/http_environments.md has the spec and the protocol.
"""

import random
import sys
import time

from aiohttp import web

VERSION, TRIES, LEASE_S = "1", 2, 300
episodes: dict[str, dict] = {}  # that live


# The game. Numbers have one digit, so that as texts they are in order too.


def task(category: str, index: int) -> dict:
    """The same for the same arguments, always: a lost episode is begun anew and played again."""
    number = random.Random(f"{category} {index}").randint(1, int(category))
    question = {"role": "user", "content": f"Game {index}: guess a number from 1 to {category}."}
    return {"messages": [question], "answer": str(number)}


def reply(number: str, guess: str, is_last: bool) -> dict:
    """End with a score, or say where the number lies."""
    if guess == number or is_last:
        return {"done": True, "score": {"value": float(guess == number)}}
    return {"done": False, "messages": [{"role": "user", "content": "higher" if guess < number else "lower"}]}


# The protocol.


async def environment(request: web.Request) -> web.Response:
    """Say what this is."""
    about = {"protocol": 1, "version": VERSION, "lease_s": LEASE_S, "symbols": ["higher", "lower"]}
    return web.json_response({**about, "categories": [{"name": name, "size": None} for name in ("3", "4", "5")]})


async def tasks(request: web.Request) -> web.Response:
    """Give a page of tasks."""
    category, start, count = request.query["category"], int(request.query["start"]), int(request.query["count"])
    return web.json_response({"version": VERSION, "tasks": [task(category, start + n) for n in range(count)]})


async def begin(request: web.Request) -> web.Response:
    """Begin an episode, and forget the oldest ones while nobody asked for them during the lease."""
    while episodes and time.monotonic() - next(iter(episodes.values()))["at"] > LEASE_S:
        del episodes[next(iter(episodes))]
    asked, name = await request.json(), f"{random.getrandbits(64):x}"
    episodes[name] = {"number": task(asked["category"], asked["index"])["answer"], "turns": [], "at": time.monotonic()}
    return web.json_response({"episode": name, "version": VERSION})


async def turn(request: web.Request) -> web.Response:
    """Answer a completion; one that was answered already, as the answer was lost on its way, the same again."""
    if (episode := episodes.get(request.match_info["episode"])) is None:
        return web.json_response({"error": "no such episode"}, status=404)
    asked, turns, episode["at"] = await request.json(), episode["turns"], time.monotonic()
    if asked["turn"] == len(turns):
        turns.append(reply(episode["number"], asked["completion"], is_last=len(turns) + 1 == TRIES))
    return web.json_response(turns[asked["turn"]])


async def close(request: web.Request) -> web.Response:
    """Forget an episode that is cut off."""
    return web.Response(status=204 if episodes.pop(request.match_info["episode"], None) else 404)


if __name__ == "__main__":
    app = web.Application()
    app.add_routes([web.get("/environment", environment), web.get("/tasks", tasks), web.post("/episodes", begin)])
    app.add_routes([web.post("/episodes/{episode}/turns", turn), web.delete("/episodes/{episode}", close)])
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]) if sys.argv[1:] else 8400)
