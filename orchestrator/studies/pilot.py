"""A rehearsal: the first setting for a few steps, aside, so that a study's time is measured before it begins."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from orchestrator.callbacks import Callback
from orchestrator.spec import load_spec
from orchestrator.studies.cost import MeasuredTime, hash_of, num_steps
from orchestrator.studies.study import Study

STEPS = 10
ASIDE = {"name": "rehearsal", "tracker": {"type": "none"}, "ledger": {}, "baseline": None}


class _Clock(Callback):
    """Measures the warm start: from the announcement of its batches to the last of them."""

    def __init__(self) -> None:
        self.begun_at: float | None = None
        self.warm_start_s = 0.0

    def phase(self, text: str) -> None:
        """Note when something begins."""
        self.begun_at = time.monotonic()

    def warm_start(self, batch: int, num_batches: int, loss: float) -> None:
        """Note how long the batches took so far."""
        assert self.begun_at is not None
        self.warm_start_s = time.monotonic() - self.begun_at


def rehearse(study: Study) -> MeasuredTime:
    """Run the study's first setting and seed for ten steps in a home that is then deleted.

    The estimate of a whole run: its warm start, its first evaluation for every boundary, its mean step for every step.
    Early steps may be slower than later ones, where answers become shorter, or faster, where they become longer.
    """
    from orchestrator.runs.api import run
    from store.ledger import Ledger

    planned = study.runs[0]
    spec = load_spec({**planned.spec.model_dump(mode="json", by_alias=True), **ASIDE})
    clock = _Clock()
    with TemporaryDirectory(prefix="evergreen-rehearsal-") as home:
        outcome = run(spec, home=home, until_step=min(STEPS, num_steps(spec)), watcher=clock)
        with Ledger.open(f"sqlite:///{Path(home) / 'evergreen.db'}", create=False) as ledger:
            step_s = fmean(step.seconds for step in ledger.reading.steps(outcome.name))
            boundary_s = fmean(boundary.seconds for boundary in ledger.reading.boundaries(outcome.name))
    seconds = clock.warm_start_s + boundary_s * (spec.curriculum.stages + 1) + step_s * num_steps(spec)
    key = hash_of(planned.setting.spec)
    measured_on = f"a rehearsal of {STEPS} steps"
    return MeasuredTime({key: [seconds]}, {key: num_steps(spec)}, measured_on, measured_on)
