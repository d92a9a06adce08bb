"""One run of a study, in a process that was forked for it: begun or gone on with; it exits as `evergreen run` would."""

from __future__ import annotations

import json
import os
import shutil
import sys
import traceback
from pathlib import Path

import typer

from environments.scoring.leader import die_with
from orchestrator.cli import outlast
from orchestrator.cli.app import in_words
from orchestrator.cli.console import problem
from orchestrator.cli.screen import Screen
from orchestrator.errors import RESUMABLE
from orchestrator.locations import remember_logins
from orchestrator.runs.catalog import is_run
from orchestrator.studies.run_processes import RunRequest
from store.errors import LedgerAway
from store.files import ASIDE
from store.home import Home
from store.records import MemberRecord
from store.secrets import without_logins


def live(request: RunRequest, parent: int) -> int:
    """Turn this process into a run's own, run it, and return the exit code."""
    die_with(parent)
    os.setsid()  # Ctrl-C reaches the study only, which passes it on
    print_into(Path(request.log))
    try:
        in_words(work)(request)
    except typer.Exit as end:
        return end.exit_code
    except BaseException:  # ours; KeyboardInterrupt and SystemExit too, for here a process ends
        print(without_logins(traceback.format_exc()), file=sys.stderr)
    return 1


def main(parent: int) -> int:
    """Be a run that is asked for on the standard input, as JSON; it ends with `parent`, which started it."""
    request = RunRequest(**json.load(sys.stdin))
    return live(request, parent)


def work(request: RunRequest) -> None:
    """Do a run to its end. Raises typer.Exit with the exit code."""
    from orchestrator.runs.api import resume, run
    from orchestrator.runs.provenance import RunRelations

    relations, screen = RunRelations(member=MemberRecord(**request.member)), Screen(Path(request.home))
    folder = Home(request.home).run_folder(request.name)
    left = list(folder.iterdir()) if folder.is_dir() else None
    # What a run leaves that was killed before its spec was written goes; anything else stays and is in the way.
    if left is not None and all(path.name == "lock" or path.name.startswith(ASIDE) for path in left):
        shutil.rmtree(folder)
    remember_logins(request.spec)
    try:
        if is_run(folder):
            outcome = resume(request.name, home=request.home, watcher=screen, relations=relations)
        else:
            outcome = run(request.spec, home=request.home, watcher=screen, relations=relations, name=request.name)
    except LedgerAway as away:  # the study knows it, so it was there a moment ago
        problem(str(away))
        raise typer.Exit(RESUMABLE) from None
    raise typer.Exit(outcome.exit_code)


def print_into(log: Path) -> None:
    """Send what this process and its children print to a file, line by line."""
    log.parent.mkdir(parents=True, exist_ok=True)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, output), (2, output)):
        os.dup2(source, target)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    outlast()
