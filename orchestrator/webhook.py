"""Incidents posted to a URL while a run goes on: what a person should know, and how the run ended.

    {"run": "demo", "step": 120, "kind": "event" or "end", "status": null or "finished", ..., "text": "..."}

At least once: a step that is done again after a kill is posted again. What cannot be delivered is told and forgotten;
nothing about it costs the run. Which URL, an environment variable says; it is written nowhere.
"""

from __future__ import annotations

import json
import os
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from typing_extensions import override

from orchestrator.callbacks import Callback
from orchestrator.errors import UserError
from orchestrator.progress import Progress
from store.records import StepRecord

TIMEOUT_S, WAITS_S = 10.0, (1.0, 4.0)  # of a try; before the second and the third
LONGEST = 2000  # characters of a text
MOST_WAITING = 100  # posts; while the URL does not answer, later ones are dropped and counted
LAST_WAIT_S = 30.0  # at the end of the run


def url_from(variable: str) -> str:
    """Read the URL. Raises UserError without one."""
    url = os.environ.get(variable, "").strip()
    if not url.startswith(("http://", "https://")):
        held = "holds no http URL" if url else "is not set"
        raise UserError(f"guards.webhook: the environment variable {variable} {held}: set it, or remove the key")
    return url


class Webhook(Callback):
    """Posts from a thread of its own, in order; what could not be posted is told once, by `tell`."""

    def __init__(self, url: str, tell: Callback) -> None:
        self._url, self._tell = url, tell
        self._thread = ThreadPoolExecutor(1, "webhook")
        self._waiting: list[Future[str | None]] = []
        self._run, self._step, self._has_told = "", 0, False

    @override
    def begin(self, name: str, folder: str) -> None:
        self._run = name

    @override
    def step(self, at: Progress, record: StepRecord) -> None:
        self._step = at.step
        self._look()

    @override
    def event(self, texts: Sequence[str]) -> None:
        for text in texts:
            self._post({"kind": "event", "status": None, "text": text[:LONGEST]})

    @override
    def end(self, name: str, status: str, reason: str | None) -> None:
        self._run = name
        self._post({"kind": "end", "status": status, "text": (reason or status)[:LONGEST]})
        deadline = time.monotonic() + LAST_WAIT_S
        while self._waiting and time.monotonic() < deadline:
            time.sleep(0.02)
            self._look()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _post(self, facts: dict[str, Any]) -> None:
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(
                self._thread.submit(_deliver, self._url, {"run": self._run, "step": self._step, **facts})
            )

    def _look(self) -> None:
        """Take what is delivered off the list."""
        done = [one for one in self._waiting if one.done()]
        self._waiting = [one for one in self._waiting if not one.done()]
        failed = [text for one in done if (text := one.result())]
        if failed and not self._has_told:
            self._has_told = True
            self._tell.event([f"the webhook took nothing: {failed[0]}; later failures are not told"])


def _deliver(url: str, facts: dict[str, Any]) -> str | None:
    """Post once, or a second and third time; what was wrong, without the URL, or None."""
    wrong = ""
    for wait_s in (0.0, *WAITS_S):
        time.sleep(wait_s)
        try:
            body = json.dumps(facts).encode()
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=TIMEOUT_S):
                return None
        except Exception as error:  # a refused connection, a status, a time limit: none of it is the run's affair
            wrong = f"{type(error).__name__}: {error}".replace(url, "URL")
    return wrong
