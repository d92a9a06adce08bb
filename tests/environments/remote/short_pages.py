"""The server of the example, giving a task at a time, and none while a file is there.

python tests/environments/remote/short_pages.py PORT FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

from aiohttp import web

sys.path.insert(0, str(Path(__file__).parents[3] / "examples"))

import env_server


async def tasks(request: web.Request) -> web.Response:
    """Give one task of a page, or say that there is none."""
    if Path(sys.argv[2]).exists():
        return web.json_response({"error": "no tasks today"}, status=404)
    return await env_server.tasks(request.clone(rel_url=request.rel_url.update_query(count="1")))


if __name__ == "__main__":
    app, episode = web.Application(), "/episodes/{episode}"
    app.add_routes([web.get("/environment", env_server.environment), web.get("/tasks", tasks)])
    app.add_routes([web.post("/episodes", env_server.begin), web.delete(episode, env_server.close)])
    app.add_routes([web.post(f"{episode}/turns", env_server.turn)])
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
