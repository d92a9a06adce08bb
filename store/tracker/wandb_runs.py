"""Weights & Biases' side: a run of theirs for each of ours, under an id made of our run's.

A pass opens the run, logs, and closes it; only then the cursor moves. A row's number depends on the run's step and the
kind of row alone, so that a row that is sent again has the number that it had: their client takes numbers that rise,
and drops others. Rows of a pass that was killed stay there, so how far they may go is noted before it. Offline, a pass
writes a folder with the whole run, and the one before it goes: `wandb sync` replaces a run by what a folder holds, it
does not add folders up.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from store.errors import TrackerError, TrackerRefused
from store.secrets import without_logins
from store.tracker.names import MlflowValue
from store.tracker.pages import OF_PICK, Cursor, Page
from store.tracker.sinks import Delivery, Destination, Kept, Portrait, told

FOLDER = "wandb"  # in the home folder; their client names it
STEP = "step"  # the x-axis of all series; their own counts rows
MODES = {"online": "online", "run": "online", "offline": "offline", "dryrun": "offline"}  # by WANDB_MODE
QUIET = {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false", "WANDB_CONSOLE": "off"}
_LOOKS_AT_NOTHING = (  # of this process, its machine and the folder it runs in
    *("disable_code", "disable_git", "x_disable_machine_info", "x_disable_meta", "x_disable_stats"),
)
_LONGEST_TAG = 64  # characters; theirs


def has(to: Destination, run: str, kept: Kept) -> bool:
    """Whether an offline run's folder is there; of what is at a server, whether it went to this project.

    An offline run goes to a server by `wandb sync`, or where WANDB_MODE says so: their settings alone do not send it.
    """
    asked = os.environ.get("WANDB_MODE", kept.mode)
    if MODES.get(asked, kept.mode) != kept.mode or _has_moved(to, kept):
        return False
    return kept.mode == "online" or (Path(to.home) / FOLDER / kept.file).is_dir()


def _has_moved(to: Destination, kept: Kept) -> bool:
    """Whether rows went to another project than this; of earlier versions' it is not known."""
    return kept.project not in ("", to.project)


def send(to: Destination, folder: Path, delivery: Delivery) -> int:
    """Open the run, log what is missing, close it; see `Sink`."""
    with _speaking_of(folder.name):
        mode = _mode()
        kept = delivery.kept
        if mode == "disabled":
            raise TrackerError("Weights & Biases is switched off: unset WANDB_MODE, or say `tracker` without wandb.")
        if delivery.is_new and kept.generation > 1 and kept.mode == "online":
            _delete(kept.project or to.project, _id(kept, kept.generation - 1))
        begins = mode == "offline" or kept.mode != mode or _has_moved(to, kept)
        if _has_moved(to, kept) and kept.project not in kept.earlier:
            kept = replace(kept, earlier=(*kept.earlier, kept.project))
        kept = replace(kept, mode=mode, project=to.project, cursor=Cursor() if begins else kept.cursor)
        if mode == "online":
            kept = replace(kept, reach=delivery.history.further(kept.reach, delivery.until))
            kept.write(folder, to.kind)
        return _send(to, folder, delivery, kept)


def forget(to: Destination, run: str, kept: Kept) -> bool:
    """Delete a run's folders here, and at the server what was sent there."""
    had_any = False
    if kept.mode == "online":
        with _speaking_of(run):
            for project in dict.fromkeys((*kept.earlier, kept.project or to.project)):
                for number in range(1, kept.generation + 1):
                    had_any |= _delete(project, _id(kept, number))
    found = [one for number in range(1, kept.generation + 1) for one in _folders(to, _id(kept, number))]
    for path in found:
        shutil.rmtree(path, ignore_errors=True)
    return had_any or bool(found)


def _send(to: Destination, folder: Path, delivery: Delivery, kept: Kept) -> int:
    run = _opened(to, delivery.portrait, kept)
    num_values, is_whole = 0, True
    written = Path(run.settings.sync_dir)
    try:
        for page in delivery.history.pages(kept.cursor, delivery.until):
            if not delivery.is_wanted():
                is_whole = False
                break
            for number, row in _rows(page):
                run.log(row, step=number)
            kept = told(kept, page.end)
            num_values += page.num_values
        run.summary["evergreen.status"] = delivery.status
    finally:
        run.finish(exit_code=int(delivery.status in ("failed", "killed")))
    _end_service()
    if kept.mode == "offline" and not is_whole:
        shutil.rmtree(written, ignore_errors=True)
        return 0
    before = replace(kept, file=written.name if kept.mode == "offline" else "")
    (told(before, kept.cursor, delivery.status) if is_whole else before).write(folder, to.kind)
    for number in range(1, kept.generation + 1):
        for path in _folders(to, _id(kept, number)):
            if path.name != before.file:
                shutil.rmtree(path, ignore_errors=True)
    return num_values


def _rows(page: Page) -> Iterator[tuple[int, dict[str, float]]]:
    """Number a page's rows, and give each its step."""
    for (step, kind), row in page.rows.items():
        yield step * (OF_PICK + 1) + kind, {STEP: step, **_named(row)}


def _named(row: Iterable[MlflowValue]) -> dict[str, float]:
    return {one.name: one.value for one in row}


def _opened(to: Destination, portrait: Portrait, kept: Kept) -> Any:
    """Open their run of ours, or go on in it."""
    import wandb

    Path(to.home, FOLDER).mkdir(parents=True, exist_ok=True)
    while any(f"-{time.strftime('%Y%m%d_%H%M%S')}-" in path.name for path in _folders(to, _id(kept, kept.generation))):
        time.sleep(0.05)  # they name a folder by the second
    settings = wandb.Settings(
        console="off", silent=True, x_save_requirements=False, **dict.fromkeys(_LOOKS_AT_NOTHING, True)
    )
    run = wandb.init(
        project=to.project,
        id=_id(kept, kept.generation),
        name=portrait.name,
        group=portrait.group[:_LONGEST_TAG],
        notes=portrait.note,
        config={**portrait.params, **portrait.tags},
        tags=[portrait.tags["evergreen.setting"][:_LONGEST_TAG]],
        resume="allow",
        dir=to.home,
        settings=settings,
    )
    run.define_metric(STEP, hidden=True)
    run.define_metric("*", step_metric=STEP)
    return run


def _id(kept: Kept, generation: int) -> str:
    """Make the id of their run; a history that was rewritten needs another, for a deleted one is never free again."""
    return kept.uid if generation == 1 else f"{kept.uid}-{generation}"


def _folders(to: Destination, id: str) -> list[Path]:
    """Find what their client has written of a run here."""
    return sorted(Path(to.home, FOLDER).glob(f"*run-*-{id}"))


def _delete(project: str, id: str) -> bool:
    """Delete a run of a project at the server; whether it was there."""
    import wandb

    api = wandb.Api()
    entity = os.environ.get("WANDB_ENTITY") or api.default_entity
    try:
        run = api.run(f"{entity}/{project}/{id}")
    except (ValueError, wandb.errors.CommError) as failed:
        if "not find" in str(failed):
            return False
        raise
    run.delete()
    return True


def _mode() -> str:
    """Ask their settings, which their variables and files make: online, offline, disabled."""
    import wandb

    mode = os.environ.get("WANDB_MODE") or str(wandb.setup().settings.mode)
    return MODES.get(mode, mode)


def _end_service() -> None:
    """End their service: it has written the last rows of an offline run only then."""
    import wandb

    try:
        wandb.teardown()
    except SystemExit as ended:  # the service failed; this process goes on
        raise OSError(f"their service ended with {ended.code}") from ended


@contextmanager
def _speaking_of(run: str) -> Iterator[None]:
    """Turn what their client raises into a `TrackerError` that names the run."""
    os.environ.update(QUIET)
    os.environ.pop("WANDB_SERVICE", None)  # that of a process which started this one, and may end before it
    import wandb

    try:
        yield
    except BaseException as failed:
        with suppress(Exception):
            _end_service()  # one that was killed answers no later pass either: that begins another
        if not isinstance(failed, OSError | ValueError) and type(failed).__module__.partition(".")[0] != "wandb":
            raise
        words = without_logins(str(failed) or type(failed).__name__).strip().partition("\n")[0][:300].rstrip(".")
        said = f"Bringing Weights & Biases up to date with {run} failed: {words}."
        if isinstance(failed, wandb.errors.UsageError):
            remedy = (
                f"`wandb login` logs in, and `evergreen resume {run} --set tracker.experiment=NAME` names a project"
            )
            raise TrackerRefused(f"{said} It is not tried again: {remedy}.") from failed
        raise TrackerError(said) from failed
