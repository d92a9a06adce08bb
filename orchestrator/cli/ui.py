"""ui: MLflow's record, brought up to date and opened."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import DEFAULT_HOME, Home

if TYPE_CHECKING:
    from store.tracker.daemon import Link, TrackerJob
    from store.tracker.record import Target


LOG = ".mlflow_ui.log"  # in the home folder: what MLflow's server says


def ui(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Only this run, wherever its record is.")
    ] = None,
    home: Home = DEFAULT_HOME,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where MLflow's UI listens.")] = 5000,
    host: Annotated[str, typer.Option(help="The address it listens on.")] = "127.0.0.1",
    catch_up_only: Annotated[
        bool, typer.Option("--catch-up-only", help="Bring the record up to date and return.")
    ] = False,
) -> None:
    """Bring MLflow's record of the runs up to date with the ledger, and open MLflow's UI on it until Ctrl-C.

    A record that MLflow lost is made anew. Where a spec names a server, its address is printed instead.
    """
    from orchestrator.cli.console import out
    from orchestrator.errors import OUR_FAULT, UserError
    from orchestrator.runs.catalog import existing
    from orchestrator.runs.tracker_process import jobs
    from store.home import Home

    place = Home(home, create=False)
    if run is not None:
        existing(place, run)
    found = jobs(place, run)
    if not found:
        what = f"{run} has no tracker" if run else f"no run in {place.path} has a tracker"
        raise UserError(
            f"{what}: `tracker: mlflow` in a spec, or `evergreen resume RUN --set tracker=mlflow`"
        )
    links = _catch_up(found)
    if catch_up_only:
        raise typer.Exit(OUR_FAULT if len(links) < len(found) else 0)
    ends = {job.target: link.run if run else link.experiment for job, link in links.items() if link}
    targets = list(dict.fromkeys(job.target for job in found))
    for target in targets:
        if target.is_server:
            out.print(f"MLflow's UI is at {target}{ends.get(target, '')}", markup=False)
    databases = [target for target in targets if not target.is_server]
    if databases:
        shown = next((target for target in databases if target.uri == place.mlflow_uri), databases[0])
        _serve(shown, host, port, place.path / LOG, ends.get(shown, ""))


def _catch_up(jobs: Sequence[TrackerJob]) -> dict[TrackerJob, Link | None]:
    """Bring every run's record up to date; one that cannot be is named, left out, and does not keep the others."""
    from orchestrator.cli.console import out, problem
    from store.errors import StoreError
    from store.tracker.daemon import send_now

    links: dict[TrackerJob, Link | None] = {}
    out.print("Bringing MLflow's record up to date; loading MLflow takes some seconds.")
    for job in jobs:
        try:
            links[job] = send_now(job, lambda text: out.print(f"  {text}", markup=False))
        except StoreError as error:
            problem(f"{job.run}: {error}")
    return links


def _serve(target: Target, host: str, port: int, log: Path, end: str) -> None:
    """Serve until a signal asks to end."""
    from orchestrator.cli.console import out
    from store.tracker.mlflow_ui import served

    with suppress(KeyboardInterrupt), served(target, host, port, log) as url:
        out.print(f"MLflow's UI is at {url}{end}  (Ctrl-C ends it)", markup=False)
        while True:
            signal.pause()
