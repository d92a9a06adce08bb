"""ui: MLflow's record, brought up to date and opened."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import Annotated

import typer

from orchestrator.cli.completion import run_names
from orchestrator.cli.console import out, problem
from orchestrator.cli.options import DEFAULT_HOME, Home
from orchestrator.errors import OUR_FAULT, UserError
from orchestrator.runs.catalog import existing
from orchestrator.runs.tracker_process import jobs
from store.errors import StoreError
from store.home import Home as HomeFolder
from store.tracker.daemon import Link, TrackerJob, send_now
from store.tracker.mlflow_ui import served
from store.tracker.record import is_server

LOG = ".mlflow_ui.log"  # in the home folder: what MLflow's server says


def ui(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="Only this run, wherever its record is.", autocompletion=run_names),
    ] = None,
    home: Home = DEFAULT_HOME,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where MLflow's UI listens.")] = 5000,
    host: Annotated[str, typer.Option(help="The address it listens on.")] = "127.0.0.1",
    catch_up_only: Annotated[
        bool, typer.Option("--catch-up-only", help="Bring the record up to date and return.")
    ] = False,
) -> None:
    """Open MLflow on the runs, its record brought up to date with the ledger, until Ctrl-C.

    A record that MLflow lost is made anew. Where a spec names a server, its address is printed instead.
    """
    place = HomeFolder(home, create=False)
    if run is not None:
        existing(place, run)
    found = jobs(place, run)
    if not found:
        what = f"{run} has no tracker" if run else f"no run in {place.path} has a tracker"
        raise UserError(f"{what}: `tracker: mlflow` in a spec, or `evergreen resume RUN --set tracker=mlflow`")
    links: dict[TrackerJob, Link | None] = {}
    out.print("Bringing MLflow's record up to date; loading MLflow takes some seconds.")
    for job in found:
        try:
            links[job] = send_now(job, lambda text: out.print(f"  {text}", markup=False))
        except StoreError as error:  # one that cannot be brought up to date does not keep the others
            problem(f"{job.run}: {error}")
    if catch_up_only:
        raise typer.Exit(OUR_FAULT if len(links) < len(found) else 0)
    ends = {job.target: link.run if run else link.experiment for job, link in links.items() if link}
    targets = list(dict.fromkeys(job.target for job in found))
    for target in targets:
        if is_server(target.uri):
            out.print(f"MLflow's UI is at {target}{ends.get(target, '')}", markup=False)
    databases = [target for target in targets if not is_server(target.uri)]
    if not databases:
        return
    shown = next((target for target in databases if target.uri == place.mlflow_uri), databases[0])
    with suppress(KeyboardInterrupt), served(shown, host, port, place.path / LOG) as url:
        out.print(f"MLflow's UI is at {url}{ends.get(shown, '')}  (Ctrl-C ends it)", markup=False)
        while True:
            signal.pause()
