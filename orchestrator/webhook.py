"""Incidents posted to a URL while a run goes on: what a person should know, and how the run ended.

    {"run": "demo", "step": 120, "kind": "event" or "end", "status": null or "finished", ..., "text": "..."}

At least once: a step that is done again after a kill is posted again. What cannot be delivered is told and forgotten;
nothing about it costs the run. Which URL, an environment variable says; it is written nowhere.
"""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from typing_extensions import override

from orchestrator.callbacks import Callback
from orchestrator.errors import UserError
from orchestrator.progress import Progress
from orchestrator.redirects import WITHOUT_REDIRECTS
from store.records import StepRecord

TIMEOUT_S, WAITS_S = 10.0, (1.0, 4.0)  # of a try; before the second and the third
LONGEST = 2000  # characters of a text
MOST_WAITING = 100  # posts; while the URL does not answer, later ones are dropped
LAST_WAIT_S = 30.0  # at the end of the run, for all posts together


def url_from(variable: str) -> str:
    """Read the URL. Raises UserError without one."""
    url = os.environ.get(variable, "").strip()
    if not url.startswith(("http://", "https://")):
        held = "holds no http URL" if url else "is not set"
        raise UserError(f"guards.webhook: the environment variable {variable} {held}: set it, or remove the key")
    return url


class Webhook(Callback):
    """Posts from a thread of its own, in order; what could not be posted is told once, by `tell`.

    A process that ends leaves the thread behind: what has no answer by then is given up, and the end of the run goes
    before what else is waiting for one.
    """

    def __init__(self, url: str, tell: Callback) -> None:
        self._url, self._tell = url, tell
        self._posts: deque[dict[str, Any]] = deque()
        self._failed: list[str] = []  # why, of those that were given up
        self._changed = threading.Condition()
        self._is_posting = self._is_last_wait = self._has_told = False
        self._thread: threading.Thread | None = None
        self._run, self._step = "", 0

    @override
    def begin(self, name: str, folder: str) -> None:
        self._run = name

    @override
    def restored(self, at: Progress) -> None:
        self._step = at.step

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
        with self._changed:
            if not self._changed.wait_for(self._is_idle, LAST_WAIT_S / 3):
                self._is_last_wait = True
                self._posts = deque(sorted(self._posts, key=lambda post: post["kind"] != "end"))
                self._changed.wait_for(self._is_idle, LAST_WAIT_S * 2 / 3)
        self._look()

    def _post(self, facts: dict[str, Any]) -> None:
        with self._changed:
            if len(self._posts) < MOST_WAITING or facts["kind"] == "end":
                self._posts.append({"run": self._run, "step": self._step, **facts})
                self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="webhook", daemon=True)
            self._thread.start()

    def _look(self) -> None:
        """Tell of the first post that was given up."""
        if self._failed and not self._has_told:
            self._has_told = True
            self._tell.event([f"the webhook took nothing: {self._failed[0]}; later failures are not told"])

    def _is_idle(self) -> bool:
        return not self._posts and not self._is_posting

    def _work(self) -> None:
        while True:
            with self._changed:
                self._is_posting = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._posts)
                facts, self._is_posting = self._posts.popleft(), True
            if (wrong := _deliver(self._url, facts, lambda: self._is_last_wait)) is not None:
                self._failed.append(wrong)


def _deliver(url: str, facts: dict[str, Any], is_last_wait: Callable[[], bool]) -> str | None:
    """Post once, or a second and third time unless time is short; what was wrong, without the URL, or None."""
    wrong = ""
    for wait_s in (0.0, *WAITS_S):
        time.sleep(wait_s)
        if wrong and is_last_wait():
            break
        try:
            body = json.dumps(facts).encode()
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            with WITHOUT_REDIRECTS.open(request, timeout=TIMEOUT_S):
                return None
        except urllib.error.HTTPError as error:
            wrong = f"{error.code} {error.reason}".replace(url, "URL")
            if 300 <= error.code < 400:
                wrong += f", a redirect{_towards(error.headers.get('Location'))}: name the new URL"
        except urllib.error.URLError as error:
            wrong = f"{type(error.reason).__name__}: {error.reason}".replace(url, "URL")
        except Exception as error:  # none of it is the run's affair; its words may quote a part of the URL
            wrong = type(error).__name__
    return wrong


def _towards(location: str | None) -> str:
    """Say to which host a redirect leads; its path may be as secret as the URL's own."""
    try:
        parts = urlsplit(location or "")
    except ValueError:
        return ""
    place = parts.netloc.rpartition("@")[2]
    return f" to {parts.scheme}://{place}/..." if parts.scheme and place else ""
