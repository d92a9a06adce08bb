"""An event loop in a thread of its own: whoever waits for it may be inside another loop, as in a notebook."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from environments.futures import result_of

T = TypeVar("T")


class EventLoop:
    """Runs coroutines side by side until it is closed; its thread does not keep the process alive."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin a coroutine; cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T], meanwhile: Callable[[], None] = lambda: None) -> T:
        """Wait for a coroutine, as `result_of` does; Ctrl-C cancels it and goes on."""
        future = self.submit(work)
        try:
            return result_of(future, meanwhile)
        except KeyboardInterrupt:
            future.cancel()
            raise

    def close(self, farewell: Coroutine[Any, Any, None] | None = None, *, wait_s: float | None = None) -> None:
        """Cancel what still runs, run a farewell, end the thread; it is waited for, at most `wait_s`, by all others."""
        self._loop.call_soon_threadsafe(lambda: self._keep(_end(self._loop, farewell)))
        if threading.current_thread() is not self._thread:
            self._thread.join(wait_s)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        self._ending = self._loop.create_task(work)  # a loop holds its tasks weakly

    def _serve(self) -> None:
        self._loop.run_forever()
        self._loop.close()


async def _end(loop: asyncio.AbstractEventLoop, farewell: Coroutine[Any, Any, None] | None) -> None:
    await _cancel_others()
    try:
        if farewell is not None:
            await farewell
    finally:
        loop.stop()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
