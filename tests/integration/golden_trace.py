"""Ten steps of a run, number by number: what the algorithm does, kept in `golden/trace.json`.

A change that moves this trace is a change of the algorithm, even where every other test passes: say so, show what it
does to learning (three seeds at least, against the version before), and write the new trace with

    OMP_NUM_THREADS=1 python -m tests.integration.golden_trace --write

A change that is meant to alter nothing must leave it alone, bit for bit. Exactness does not travel: the trace names
the versions, the number of threads and the kind of processor that it was written with (see the test).
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import orchestrator
from orchestrator.callbacks import Callback
from orchestrator.progress import Progress
from orchestrator.runs.provenance import describe_host
from orchestrator.spec import load_spec
from store.records import StepRecord
from tests.orchestrator.specs import small

FILE = Path(__file__).parent / "golden" / "trace.json"
PINNED = ("torch", "transformers", "threads", "cpu")  # what the last bits depend on
FLOATS = ("loss", "entropy_token", "advantage_abs", "grad_norm", "coefficient", "entropy_reading")

Trace = dict[str, Any]


def trace() -> Trace:
    """Run ten steps and note what was picked, what it scored, and what the update was."""
    stage = {"steps": 5, "replay": 0.25}
    curriculum = {"stages": 2, "scheduler": "uniform", "bandit": "sec", "stage": stage}
    spec = small("golden", objective="repo_r", curriculum=curriculum, scoring={"isolation": "none"})
    steps = _Steps()
    with tempfile.TemporaryDirectory() as home:
        orchestrator.run(spec, home=home, watcher=steps)
    host = describe_host(load_spec(spec))
    return {"host": {name: host[name] for name in PINNED}, "steps": steps.seen}


class _Steps(Callback):
    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def step(self, at: Progress, record: StepRecord) -> None:
        """Note a step, floats as they are: JSON keeps every bit of them."""
        pooled = {metric.name: metric.value for metric in record.metrics if metric.environment is None}
        self.seen.append(
            {
                "picks": [f"{pick.role} {pick.environment}.{pick.arm}" for pick in record.picks],
                "tasks": [group.task_key for group in record.groups],
                "scores": [list(group.values) for group in record.groups],
                "num_tokens": [list(group.num_tokens) for group in record.groups],
                "probabilities": [pick.probability for pick in record.picks],
                "signals": [pick.signal for pick in record.picks],
                **{name: pooled[name] for name in FLOATS},
            }
        )


def _laid_out(made: Trace) -> str:
    """Write a line for each number of each step, so that a difference shows what moved and when."""
    steps = [
        "{\n" + ",\n".join(f'  "{name}": {json.dumps(value)}' for name, value in step.items()) + "\n }"
        for step in made["steps"]
    ]
    return f'{{"host": {json.dumps(made["host"])},\n "steps": [\n {", ".join(steps)}\n]}}\n'


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        raise SystemExit(__doc__)
    FILE.write_text(_laid_out(trace()))
    print(f"wrote {FILE}")
