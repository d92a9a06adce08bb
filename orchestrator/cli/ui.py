"""ui: MLflow's record, brought up to date and opened."""

from __future__ import annotations

import os
import signal
import sys
import webbrowser
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.completion import run_names
from orchestrator.cli.console import out, problem
from orchestrator.cli.options import DEFAULT_HOME, Home
from orchestrator.errors import OUR_FAULT, UserError
from orchestrator.runs.catalog import SPEC_FILE, existing
from orchestrator.runs.tracker_process import jobs
from store.home import Home as HomeFolder
from store.secrets import url_without_logins
from store.tracker.daemon import send_all
from store.tracker.mlflow_ui import LOOPBACK, NAME, served
from store.tracker.outlets import Link
from store.tracker.record import Target, is_server

LOG = ".mlflow_ui.log"  # in the home folder: what MLflow's server says


def ui(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="Only this run, wherever its record is.", autocompletion=run_names),
    ] = None,
    home: Home = DEFAULT_HOME,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where MLflow's UI listens.")] = 5000,
    host: Annotated[str, typer.Option(help="The address it listens on.")] = LOOPBACK,
    catch_up_only: Annotated[
        bool, typer.Option("--catch-up-only", help="Bring the record up to date and return.")
    ] = False,
    no_open: Annotated[bool, typer.Option("--no-open", help="Print the addresses and open no browser.")] = False,
) -> None:
    """Open MLflow on the runs, its record brought up to date with the ledger, until Ctrl-C.

    The first address shows the list of runs with accuracy and entropy beside what was set, the second their charts. A
    browser opens where there is a display. A record that MLflow lost is made anew. Where a spec names a server, its
    addresses are printed instead.
    """
    place = HomeFolder(home, create=False)
    if run is not None:
        existing(place, run)
    refused = list[str]()

    def refuse(text: str) -> None:
        refused.append(text)
        problem(text)

    found = jobs(place, run, refuse if run is None else None)
    if not found:
        other = "other " if refused else ""
        what = f"{run} has no tracker" if run else f"no {other}run in {place.path} has a tracker"
        raise UserError(f"{what}: `tracker: mlflow` in a spec, or `evergreen resume RUN --set tracker=mlflow`")
    loading = "; loading MLflow takes some seconds" if any(job.target for job in found) else ""
    out.print(f"Bringing the record up to date{loading}.")
    links = send_all(found, lambda text: out.print(f"  {text}", markup=False), refuse)
    if catch_up_only:
        raise typer.Exit(OUR_FAULT if refused else 0)
    newest_first = sorted(links, key=lambda job: (Path(job.folder) / SPEC_FILE).stat().st_mtime, reverse=True)
    shown = {job.target: link for job in newest_first if job.target is not None and (link := links[job])}
    kinds = {to.kind for job in found for to in job.also}
    if "tensorboard" in kinds:
        out.print(f"TensorBoard shows them with: tensorboard --logdir {place.path / 'tensorboard'}", markup=False)
    if "wandb" in kinds:
        offline = place.path / "wandb"
        out.print(f"Weights & Biases has them; offline runs wait in {offline} for `wandb sync`", markup=False)
    targets = list(dict.fromkeys(job.target for job in found if job.target is not None))
    places = list(dict.fromkeys(target.uri for target in targets))
    for uri in filter(is_server, places):
        _show(url_without_logins(uri).rstrip("/"), uri, shown, run is not None, no_open)
    databases = [uri for uri in places if not is_server(uri)]
    if not databases:
        return
    uri = place.mlflow_uri if place.mlflow_uri in databases else databases[0]
    target = next(target for target in targets if target.uri == uri)
    with suppress(KeyboardInterrupt), served(target, host, port, place.path / LOG) as url:
        _show(url, uri, shown, run is not None, no_open, "  (Ctrl-C ends it)")
        while True:
            signal.pause()


def _show(url: str, uri: str, shown: Mapping[Target, Link], is_one: bool, no_open: bool, remark: str = "") -> None:
    """Print the addresses of what one MLflow holds, the newest experiment first, and open that."""
    links = {target.experiment: link for target, link in shown.items() if target.uri == uri}
    newest = next(iter(links.values()), None)
    first = "" if newest is None else newest.run if is_one else newest.runs
    out.print(f"MLflow's UI is at {url}{first if is_one else ''}{remark}", markup=False)
    if NAME in url:
        out.print(f"  (a browser that does not know this name finds it at {url.replace(NAME, LOOPBACK)})", markup=False)
    for experiment, link in links.items():
        out.print(f"  {experiment}, list of runs  {url}{link.runs}", markup=False)
        out.print(f"  {experiment}, charts        {url}{link.charts}", markup=False)
    if not no_open and has_display():
        with suppress(webbrowser.Error):
            webbrowser.open(url + first)


def has_display() -> bool:
    """Whether a person sits here before a screen: not in a pipe, not over ssh."""
    if not sys.stdout.isatty():
        return False
    if sys.platform in ("darwin", "win32"):
        return "SSH_CONNECTION" not in os.environ
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
