"""What a run calls as it goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from orchestrator.os_signals import say_stopping
from orchestrator.progress import Progress
from store.records import BoundaryRecord, StepRecord


class Callback:
    """Called with what happens in a run; by default it only says that a signal has been noted."""

    def opening(self, text: str) -> None:
        """How far the opening of long data is, in words; before any run is begun."""

    def begin(self, name: str, folder: str) -> None:
        """This process takes up a run."""

    def restored(self, at: Progress) -> None:
        """The run stands where its checkpoint left it."""

    def phase(self, text: str) -> None:
        """Something that takes a while begins, in words."""

    def warm_start(self, batch: int, num_batches: int, loss: float) -> None:
        """A batch of the warm start is done; loss in nats a token."""

    def warm_started(self, losses: tuple[float, float] | None) -> None:
        """The warm start is done or taken from the cache: losses of its first and last batch; None: not known."""

    def stage(self, at: Progress) -> None:
        """A stage begins."""

    def step(self, at: Progress, record: StepRecord) -> None:
        """A step is done and recorded."""

    def measuring(self, text: str, done: int, total: int) -> None:
        """What is being measured just now, in words, after `done` of `total` parts; worth saying when it takes long."""

    def boundary(self, at: Progress, record: BoundaryRecord) -> None:
        """A boundary is done and recorded."""

    def decision(self, texts: Sequence[str]) -> None:
        """Something was decided, and why."""

    def event(self, texts: Sequence[str]) -> None:
        """Something a person should know."""

    def stopping(self) -> None:
        """A signal asks the run to stop. Called inside its handler: nothing but `os.write` is safe here."""
        say_stopping()

    def end(self, name: str, status: str, reason: str | None) -> None:
        """This process is done with the run: finished, stopped or failed, and why."""


Watcher = Callback | Sequence[Callback] | None  # who is called: one, several in their order, or nobody


def together(watcher: Watcher) -> Callback:
    """Make one watcher of what a caller gives."""
    if watcher is None:
        return Callback()
    return watcher if isinstance(watcher, Callback) else Watchers(watcher)


class Watchers(Callback):
    """Tells several watchers what happens, in their order."""

    def __init__(self, watchers: Sequence[Callback]) -> None:
        self._watchers = tuple(watchers)

    def stopping(self) -> None:
        """Have it said once: by those that say it in a way of their own, else in the usual one."""
        own = [one for one in self._watchers if type(one).stopping is not Callback.stopping]
        for watcher in own:
            watcher.stopping()
        if not own:
            super().stopping()


def _told_to_all(name: str) -> Callable[..., None]:
    def tell(self: Watchers, *facts: Any) -> None:
        for watcher in self._watchers:
            getattr(watcher, name)(*facts)

    return tell


for _name in vars(Callback):
    if not _name.startswith("_") and _name not in vars(Watchers):
        setattr(Watchers, _name, _told_to_all(_name))
