"""The `final` pool, read once: at a study's end, of every finished run's last policy.

A tenth of all tasks is set aside for this: no bandit, no report and no comparison on the way has seen them, so what
they say is not flattered by what was selected for (plasticity.md 7). The look is recorded with every run. A policy that
was looked at is not again, unless that is asked for, and then it is recorded once more; an interrupted look goes on. A
run that went on since has another last policy, which is looked at anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.callbacks import Callback
from orchestrator.errors import UserError
from orchestrator.measurements.contracts import HeldOut
from orchestrator.measurements.evaluation import Evaluation
from orchestrator.progress import Progress
from orchestrator.recording.checkpoint import restore
from orchestrator.recording.recorder import holdouts
from orchestrator.recording.saved_state import EXPECTED, MAY_BE
from orchestrator.runs.assembly import assemble, lay_foundation
from orchestrator.runs.catalog import opened
from orchestrator.runs.environments import find_held_out
from orchestrator.spec import Spec, load_spec
from orchestrator.stopwatch import Stopwatch
from store import checkpoints
from store.checkpoints import WEIGHTS
from store.home import Home
from store.ledger import Ledger
from store.ledger.queries import Reading
from store.lock import run_lock
from store.records import FINAL, BoundaryRecord, EventRecord, HoldoutQueryRecord
from store.sentences import listed, num

ONE_PROCESS = ["resources.ranks=1", "resources.replicas=1"]  # of a run that only looks: nothing is updated


@dataclass(frozen=True)
class FinalLooks:
    """What there is to look at."""

    study: str
    left: Sequence[str]  # finished runs that are to be evaluated now
    done: Sequence[str]  # those that were before
    unfinished: Sequence[str]  # those that are left out
    closed: Sequence[str]  # likewise: finished, on closed environments alone


def looks_left(read: Reading, study: str, again: bool) -> FinalLooks:
    """Find the runs whose last policy is to be evaluated. Raises UserError where there is none.

    Where some were looked at less often than others, as after an interrupted second look, it is those alone.
    """
    statuses = {run.name: run.status for run in read.runs()}
    names = [member.run for member in read.members(study)]
    finished = [name for name in names if statuses[name] == "finished"]
    readable = [name for name in finished if read.has_final_pool(name)]
    done = [name for name in readable if was_looked_at(read, name)]
    times = {name: _num_looks(read, name) for name in done}
    behind = [name for name in readable if name not in done or (again and times[name] < max(times.values()))]
    left = behind or (readable if again else [])
    if not finished:
        raise UserError(f"no run of study {study} is finished: the final pool is for its end")
    if not readable:
        raise UserError(
            f"no finished run of study {study} has a final pool: closed environments are evaluated on their own tasks, "
            f"and they have no others. `evergreen compare {study}` compares them"
        )
    if not left:
        raise UserError(
            f"the final pool was read for all {len(done)} finished runs of study {study}: what is decided by it and "
            "read again is no longer fresh. `--again` reads it once more, and records that"
        )
    return FinalLooks(
        study,
        left,
        done,
        [name for name in names if name not in finished],
        [name for name in finished if name not in readable],
    )


def was_looked_at(read: Reading, run: str) -> bool:
    """Whether a run's last policy was evaluated on the final pool."""
    return bool(read.final_cells(run, "pass_1"))


def _num_looks(read: Reading, run: str) -> int:
    """How often a run's last policy was evaluated on the final pool."""
    return sum(event.kind == FINAL and event.step == read.pulse(run).num_steps for event in read.events(run))


def look(path: Path, looks: FinalLooks, watcher: Callback, tell: Callable[[str], None]) -> None:
    """Evaluate the runs one by one, each recorded in one transaction."""
    for number, name in enumerate(looks.left, start=1):
        with opened(path, name) as (place, ledger), run_lock(place.run_folder(name)):
            values = _evaluate(ledger, place, name, watcher)
        tell(f"{name} ({number} of {len(looks.left)}): accuracy on its final tasks: {listed(values)}")


def _evaluate(ledger: Ledger, place: Home, name: str, watcher: Callback) -> list[str]:
    """Load a run's last policy, evaluate it on the final pool and record that. Returns what was found, in words."""
    spec: Spec = load_spec(ledger.reading.spec(name), ONE_PROCESS)
    folder = place.run_folder(name)
    record, _ = checkpoints.newest_valid(folder, ledger.reading.checkpoints(name))
    if record is None or record.num_boundaries != ledger.reading.end(name) + 1:
        raise UserError(f"{name} has no whole checkpoint of its end left, so its last policy cannot be evaluated")
    checkpoint = checkpoints.open_checkpoint(folder / record.folder, EXPECTED, MAY_BE)
    foundation = lay_foundation(spec, checkpoint.components[WEIGHTS], watcher.opening, spec.environments, folder)
    fresh = {n: one for n, one in foundation.environments.items() if not one.closed}
    with assemble(foundation, place, watcher, lambda: None) as parts:
        at = Progress(spec.curriculum.stages, spec.curriculum.stage.steps)
        restore(parts, at, checkpoint)
        tasks = find_held_out(fresh, FINAL, spec.evaluate.items, foundation.prompts)
        found = Evaluation(spec.evaluate, parts.environments, {"anchor": tasks}).run(
            parts.player, at, watch := Stopwatch(), watcher.measuring
        )
    cells = [replace(cell, split=FINAL) for cell in found.cells]
    wholes = [cell for cell in cells if cell.category is None and cell.metric == "pass_1"]
    few = _fewer(tasks, spec.evaluate.items)
    times = sum(event.kind == FINAL for event in ledger.reading.events(name)) + 1
    said = (
        f"the final pool was read{'' if times == 1 else f', for the {times}. time'}: {num(len(wholes), 'environment')}"
    )
    if few:
        said += f"; fewer tasks than asked for: {listed([' '.join(one) for one in few.items()])}"
    boundary = BoundaryRecord(
        after_stage=at.stage,
        step=at.step,
        seconds=watch.total,
        eval_config=found.config,
        cells=cells,
        events=[*found.events, EventRecord(FINAL, said, {"times": times})],
        queries=[HoldoutQueryRecord(cell.environment, None, FINAL, FINAL, cell.value) for cell in wholes],
    )
    run = ledger.open_run(name, foundation.records())
    ledger.record_holdouts(run, holdouts(tasks, dict.fromkeys(tasks, FINAL)))
    ledger.record_final(run, boundary)
    values = {cell.environment: f"{cell.value:.2f}" for cell in wholes if cell.value is not None}
    return [f"{one} {value}{f' ({few[one]} tasks asked for)' if one in few else ''}" for one, value in values.items()]


def _fewer(tasks: HeldOut, num_items: int) -> dict[str, str]:
    """Count the final tasks of the environments whose categories have not as many as are asked for."""
    counts = {name: (sum(map(len, own.values())), num_items * len(own)) for name, own in tasks.items()}
    return {name: f"{found} of {asked}" for name, (found, asked) in counts.items() if found < asked}
