"""Why a run stops that nobody asked to: its policy diverged, a rank was lost, a disk is full; and where it goes on.

Weights are known to be good once a batch or an evaluation was played with them. So a checkpoint is, if its weights are
older than those whose logits were not finite; which these were stands in the event that the divergence left.
Loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from shlex import quote

from environments import EnvironmentFault
from environments.user_code import raised
from orchestrator.errors import DIVERGED, STOPPED_BY_GUARD, EvergreenError, UserError
from orchestrator.progress import Progress
from orchestrator.recording.saved_state import EXPECTED, MAY_BE
from orchestrator.runs.catalog import SPEC_FILE
from orchestrator.spec import Spec
from policies.errors import NonFiniteLogits, PolicyError, RankLost
from store.checkpoints import Skipped, is_thin, newest_valid, open_checkpoint
from store.errors import CheckpointError, StoreError
from store.files import refusal
from store.ledger import Reading
from store.ledger.query_rows import EventRow, RunRow
from store.records import DIVERGENCE, CheckpointRecord, EventRecord

NOT_FINITE = "the logits of its weights are not finite"  # why a checkpoint is passed over
LOWER = 10  # the learning rate that is proposed is this many times lower
INTERVENED = "intervened"  # in the event's data: weights of the boundary were good, and an intervention changed them


def divergence_event(
    error: NonFiniteLogits, at: Progress, spec: Spec, folder: Path, records: Sequence[CheckpointRecord]
) -> EventRecord:
    """Say where the policy diverged, and how to go on: from the last healthy boundary, with a lower learning rate.

    Where an intervention made it diverge: with another list of them.
    `records` are the run's checkpoints, newest first. Raises UserError where there is none to go back to.
    """
    text = f"{DIVERGED} {at.step}: {error} (version {error.version} of the weights)"
    good = [record for record in records if _is_older(folder / record.folder, error.version)]
    if not good:
        raise UserError(f"{text}. {_no_way_back(spec, at)}")
    is_intervened = (good[0].step, good[0].num_boundaries) == (at.step, at.num_boundaries)  # no step lies between
    stages = [record.num_boundaries - 1 for record in good if record.kind == "boundary"]
    if stages:
        command, how = _fork_without(is_intervened, spec, str(stages[0]))
        where = f"the one after stage {stages[0]}" if stages[0] else "the one before stage 1"
        text += f". `{command}` goes on {how} from the last healthy boundary, {where}"
    text += (
        f". `evergreen resume {spec.name}` takes the checkpoint of step {good[0].step}, the newest whose logits are "
        f"known to be finite, through the same {'interventions' if is_intervened else 'steps'} again"
    )
    return EventRecord(DIVERGENCE, text, {"version": error.version, **({INTERVENED: True} if is_intervened else {})})


def last_divergence(events: Sequence[EventRow]) -> EventRow | None:
    """Find the divergence that a run has not gone behind since; a run that goes back to a checkpoint forgets it."""
    return next((event for event in reversed(events) if event.kind == DIVERGENCE), None)


def newest_healthy(
    run_folder: Path, records: Sequence[CheckpointRecord], divergence: EventRow | None
) -> tuple[CheckpointRecord | None, list[Skipped]]:
    """Find the checkpoint that a run goes on from: the newest of whole files and healthy weights.

    One without the optimiser's state is taken where no other is left. Also returns those that were passed over.
    """
    is_healthy = healthy_under(divergence)

    def is_full(folder: Path) -> None:
        is_healthy(folder)
        if is_thin(folder):
            raise CheckpointError("the optimiser's state was taken out of it")

    record, skipped = newest_valid(run_folder, records, is_full)
    return (record, skipped) if record is not None else newest_valid(run_folder, records, is_healthy)


def healthy_under(divergence: EventRow | None) -> Callable[[Path], None]:
    """Give the check that a checkpoint's folder has to pass: a `CheckpointError` for weights that were found bad."""

    def check(folder: Path) -> None:
        if divergence is not None and not _is_older(folder, divergence.data["version"]):
            raise CheckpointError(NOT_FINITE)

    return check


def divergence_warnings(divergence: EventRow | None, spec: Spec) -> list[EventRecord]:
    """Say, before the same steps are gone through again, where they led to."""
    if divergence is None:
        return []
    is_intervened = INTERVENED in divergence.data
    what = "interventions" if is_intervened else "steps"
    before = f"{DIVERGED} {divergence.step} the last time, and the same {what} follow"
    outlook = "expect the same unless a file or the machine was at fault"
    command, how = _fork_without(is_intervened, spec, "N")
    return [EventRecord("warning", f"{before}: {outlook}. `{command}` would go on {how}")]


def _fork_without(is_intervened: bool, spec: Spec, stage: str) -> tuple[str, str]:
    """Give the command of a fork without what made the policy diverge, and how that one goes on."""
    change, how = f"learner.lr={_lower(spec)}", "more gently"
    if is_intervened:
        change, how = "'curriculum.boundary.interventions=[]'", "without interventions (or with another list of them)"
    return f"evergreen fork {spec.name} --stage {stage} --set {change}", how


def held_by_guards(reading: Reading, names: Iterable[str]) -> dict[str, str]:
    """Say of the runs that a guard stopped, or whose twin it did, why and how a person goes on with them."""
    stopped = {run.name for run in reading.runs() if run.status == "stopped"}
    held: dict[str, str] = {}
    for name in names:
        for one in stopped & {name, reading.baseline(name) or name}:
            reasons = [event.text for event in reading.events(one) if event.kind == "stopped"]
            if reasons and reasons[-1].startswith(STOPPED_BY_GUARD):
                held[name] = (
                    f"{one}: {reasons[-1]}. It stays so until you go on with it: `evergreen resume {one}`. "
                    f"`evergreen fork {one} --stage N` begins anew from a boundary, with other settings"
                )
    return held


def begun_anew(fork: RunRow, folder: Path) -> str:
    """Say how a fork without a whole checkpoint is begun anew: its parent has what came before."""
    if fork.baseline_of is not None:
        return f"`evergreen rm {fork.name}`, then `evergreen resume {fork.baseline_of}` forks it anew"
    command = f"evergreen fork {fork.parent} --stage {fork.parent_stage or 0} --spec {quote(str(folder / SPEC_FILE))}"
    return f"`{command}` begins it anew, under another name"


def _is_older(folder: Path, version: int) -> bool:
    """Whether a checkpoint's weights are older than this version; a damaged one is no help either."""
    try:
        found: int = open_checkpoint(folder, EXPECTED, MAY_BE).read_json("policy")["version"]
    except CheckpointError:
        return False
    return found < version


def _no_way_back(spec: Spec, at: Progress) -> str:
    if at.step == 0:
        start = "lower `warm_start.lr`" if spec.warm_start else "its weights are damaged, or not for this dtype"
        return f"It was so before its first step, so there is nothing to go back to: {start}"
    return f"No healthy checkpoint is left: begin a new run with `--set learner.lr={_lower(spec)}`"


def _lower(spec: Spec) -> str:
    return f"{(spec.learner.lr or 0.0) / LOWER:g}"


def failure(error: Exception) -> str:
    """Say why a run failed; an error that was not written for people with its type and its line."""
    is_in_words = isinstance(error, EnvironmentFault | EvergreenError | PolicyError | StoreError)
    return str(error) if is_in_words else raised(error)


def outside_cause(error: Exception, reading: Reading, name: str, folder: Path) -> str | None:
    """Say why a run stops when a rank was lost or a disk takes no more; None: the error is another."""
    if isinstance(error, RankLost):
        return str(error)
    said = None if isinstance(error, EnvironmentFault | EvergreenError | PolicyError) else refusal(error)
    if said is None:
        return None
    where = "" if "cannot be written" in said else f"{folder} cannot be written: "
    try:
        records = reading.checkpoints(name)
    except StoreError:  # a ledger on the same disk may be unreadable, too
        return f"{where}{said}. Nothing that was saved is lost"
    if not records:
        return f"{where}{said}. It has no checkpoint yet and will begin at step 0"
    return f"{where}{said}. Nothing is lost: the newest checkpoint is of step {records[0].step}"
