"""The warm start of a run, and where its result is kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from environments import Environment
from orchestrator.callbacks import Callback
from orchestrator.errors import StoppedEarly
from orchestrator.rollout.task_supply import PromptLimits
from orchestrator.rollout.warm_start_examples import WarmStartExamples
from orchestrator.spec import Spec
from policies.adapters import fingerprint
from policies.policy import Policy
from policies.warm_start import cache_key, warm_start
from store import checkpoints
from store.checkpoints import WEIGHTS, Component
from store.errors import CheckpointError
from store.home import Home
from store.lock import entry_lock

LOSSES = "losses"  # beside the weights: of the first and the last batch; entries of an earlier version have none
POLL_S = 0.2  # while another process makes the same warm start


def warm_started(
    policy: Policy,
    environments: Mapping[str, Environment],
    prompts: PromptLimits,
    spec: Spec,
    home: Home,
    watcher: Callback,
    stop: Callable[[], str | None],
) -> None:
    """Give the policy its supervised start, from the cache when it was made before. Changes it in place.

    `stop` is asked after every batch; once it gives a reason, StoppedEarly carries it out.
    """
    config = spec.warm_start
    if config is None or not config.num_batches:
        return
    key = cache_key(
        policy=spec.policy.model_dump(mode="json", exclude={"adapter"}),  # put beside what this makes
        # another model may lie in the same place; on a CPU a core takes ten seconds for 1e9 weights, batches far longer
        weights=fingerprint(policy.model),
        digests=policy.digests(),
        device=policy.device.type,
        warm_start=config.model_dump(mode="json"),
        environments={
            name: [environment.version, {"type": spec.environments[name].type, **spec.environments[name].measured}]
            for name, environment in environments.items()
        },
        prompts=prompts.limits,
        seed=spec.seed,
        threads=spec.resources.threads,
    )
    entry = home.warm_starts / key
    with _held(entry, watcher, stop, shared=True):
        if _problem(entry) is None:
            _take(policy, entry, watcher)
            return
    with _held(entry, watcher, stop):
        problem = _problem(entry)
        if problem is None:  # made while we waited
            _take(policy, entry, watcher)
            return
        if entry.exists():
            watcher.event([f"the cached warm start is made again: {problem}"])
        watcher.phase(f"warm start: {config.num_batches} supervised batches on {', '.join(config.shares())}")
        draw = WarmStartExamples(environments, config, spec.seed, spec.budgets, prompts)

        losses: list[float] = []

        def after_batch(batch: int, loss: float) -> None:
            losses.append(loss)
            watcher.warm_start(batch, config.num_batches, loss)
            _go_on(stop)

        warm_start(policy, draw, config, progress=after_batch)
        ends = losses[0], losses[-1]
        keep = Component(LOSSES, 1, lambda folder: (folder / f"{LOSSES}.json").write_text(json.dumps(ends)))
        checkpoints.write(entry, [Component(WEIGHTS, 1, policy.save), keep])
        watcher.warm_started(ends)


def _problem(entry: Path) -> str | None:
    """Say why a cached warm start cannot be used; None: it is there, and every file is as it was written."""
    try:
        checkpoints.verify(entry)
    except CheckpointError as wrong:
        return str(wrong)
    return None


def _take(policy: Policy, entry: Path, watcher: Callback) -> None:
    watcher.phase("warm start: taken from the cache")
    policy.load_weights(entry / WEIGHTS)
    kept = entry / LOSSES / f"{LOSSES}.json"
    ends = json.loads(kept.read_text()) if kept.is_file() else None
    watcher.warm_started(None if ends is None else (ends[0], ends[1]))


@contextmanager
def _held(entry: Path, watcher: Callback, stop: Callable[[], str | None], *, shared: bool = False) -> Iterator[None]:
    """Let one process at a time make a warm start: whoever wants the same one waits, then finds it made.

    Those who take it hold it together, so that nobody deletes it meanwhile. The lock is the kernel's, so a killed
    process is in nobody's way.
    """
    entry.parent.mkdir(exist_ok=True)
    is_said = False

    def wait() -> None:
        nonlocal is_said
        if not is_said:
            watcher.phase("warm start: another run is making the same one; waiting for it")
            is_said = True
        _go_on(stop)
        time.sleep(POLL_S)

    with entry_lock(entry, wait, shared=shared):
        yield


def _go_on(stop: Callable[[], str | None]) -> None:
    if reason := stop():
        raise StoppedEarly(reason)
