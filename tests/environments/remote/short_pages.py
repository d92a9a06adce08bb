"""The server of the example, giving a task at a time, and none while a file is there.

python tests/environments/remote/short_pages.py PORT FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

from aiohttp import web

sys.path.insert(0, str(Path(__file__).parents[3] / "examples"))

import env_server

given = env_server.tasks


async def tasks(request: web.Request) -> web.Response:
    """Give one task of a page, or say that there is none."""
    if Path(sys.argv[2]).exists():
        return web.json_response({"error": "no tasks today"}, status=404)
    return await given(request.clone(rel_url=request.rel_url.update_query(count="1")))


if __name__ == "__main__":
    env_server.tasks = tasks
    web.run_app(env_server.application(), host="127.0.0.1", port=int(sys.argv[1]), print=None)
