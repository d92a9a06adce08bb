"""What a checkpoint costs a run: waited for, and written beside it; and what the steps beside it take.

    python -m benchmarks.checkpoints                   # 8 minutes, 8 GB of memory; --sizes 30M: a minute

Runs of `tiny` policies, a periodic checkpoint (weights and moments) every fourth step, without `checkpoint.background`
and with it, in turn. `waited` and `waits` are how long the run stands still for one, `first` for the first of a run,
whose memory is new. `alone` and `beside`: the step after one, with nothing else to do or while it is written. Goal: at
most a tenth of what writing takes, of a policy whose size matters.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from typing import Any

import orchestrator
from orchestrator.callbacks import Callback
from orchestrator.recording.recorder import RunRecorder

SIZES: dict[str, dict[str, Any]] = {
    "0.4M": {},
    "30M": {"model": "tiny", "layers": 8, "hidden": 512, "mlp": 1856, "heads": 8, "kv_heads": 8},
    "236M": {"model": "tiny", "layers": 14, "hidden": 1024, "mlp": 4096, "heads": 16, "kv_heads": 16},
}
NUM_STEPS, EVERY = 16, 4


class Clock(Callback):
    """Times steps, and what a run waits for its checkpoints."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.steps: list[tuple[int, float]] = []  # number, seconds

    def step(self, at: Any, record: Any) -> None:
        self.steps.append((at.step, record.seconds))

    def after_checkpoints(self) -> list[float]:
        """Seconds of the steps that follow a periodic checkpoint."""
        return [seconds for step, seconds in self.steps if step > EVERY and step % EVERY == 1]


def of_run(shape: dict[str, Any], *, background: bool) -> tuple[Clock, int]:
    """Run it; also the bytes of a checkpoint."""
    clock = Clock()
    save_if_due = RunRecorder.save_if_due

    def timed(recorder: RunRecorder, parts: Any, at: Any) -> None:
        begun = time.perf_counter()
        save_if_due(recorder, parts, at)
        if at.step % EVERY == 0 and at.step < NUM_STEPS:
            clock.waits.append(0.0)
        if clock.waits:  # what is left to do for one is done after the steps that follow
            clock.waits[-1] += time.perf_counter() - begun

    spec = {
        "name": "checkpoints",
        "environments": {"coin": {"type": "benchmarks.step:create"}},
        "curriculum": {"stages": 1, "stage": {"steps": NUM_STEPS}},
        "policy": shape or "tiny",
        "objective": "rloo",
        "step": {"groups": 4, "group_size": 4},
        "sampler": {"type": "transformers", "max_tokens": 8},
        "evaluate": {"items": 4, "samples": 4},
        "checkpoint": {"every_steps": EVERY, "every_minutes": 0, "keep": 1, "background": background},
        "resources": {"threads": 1},
    }
    RunRecorder.save_if_due = timed  # type: ignore[method-assign, assignment]
    try:
        with tempfile.TemporaryDirectory() as home:
            outcome = orchestrator.run(spec, home=home, watcher=clock)
            newest = max((outcome.folder / "checkpoints").iterdir())
            num_bytes = sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())
    finally:
        RunRecorder.save_if_due = save_if_due  # type: ignore[method-assign]
    return clock, num_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    print(f"{'policy':8}{'GB':>6}{'waited':>9}{'first':>8}{'waits':>8}{'share':>8}{'alone':>9}{'beside':>9}   seconds")
    for size in options.sizes:
        waited, first, waits, alone, beside = ([] for _ in range(5))
        for _ in range(options.repeats):
            clock, num_bytes = of_run(SIZES[size], background=False)
            waited += clock.waits
            alone += clock.after_checkpoints()
            clock, _ = of_run(SIZES[size], background=True)
            first.append(clock.waits[0])
            waits += clock.waits[1:]
            beside += clock.after_checkpoints()
        share = statistics.median(waits) / statistics.median(waited)
        row = [statistics.median(own) for own in (waited, first, waits)]
        print(
            f"{size:8}{num_bytes / 1e9:6.2f}{row[0]:9.3f}{row[1]:8.3f}{row[2]:8.3f}{share:8.1%}"
            f"{statistics.median(alone):9.3f}{statistics.median(beside):9.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
