"""A game in a server of OpenEnv's own, for the interpreter of an environment in which `openenv-core` is installed.

.venv-openenv/bin/python tests/environments/remote/openenv_game.py PORT
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from openenv.core.env_server.http_server import create_fastapi_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State


class Said(Action):  # type: ignore[misc]
    text: str


class Seen(Observation):  # type: ignore[misc]
    prompt: str


class Parity(Environment):  # type: ignore[misc]
    """Say whether the number that the seed makes is even or odd; two tries."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self.number = self.num_said = 0

    def reset(self, seed: int | None = None, episode_id: str | None = None, **options: Any) -> Seen:
        self.number, self.num_said = (seed or 0) * 7 + int(options.get("start", 0)), 0
        return Seen(prompt=f"Is {self.number} even or odd?", reward=None, done=False)

    def step(self, action: Said, timeout_s: float | None = None, **options: Any) -> Seen:
        self.num_said += 1
        is_right = action.text.strip() == ("odd" if self.number % 2 else "even")
        return Seen(prompt="No. Again?", reward=float(is_right), done=is_right or self.num_said == 2)

    @property
    def state(self) -> State:
        return State(step_count=self.num_said)


if __name__ == "__main__":
    app = create_fastapi_app(Parity, Said, Seen, max_concurrent_envs=64)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
