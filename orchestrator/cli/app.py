"""The list of verbs."""

from __future__ import annotations

import typer

from orchestrator.cli.check_env import check_env
from orchestrator.cli.compare import compare
from orchestrator.cli.errors import in_words
from orchestrator.cli.export import diff, export
from orchestrator.cli.ls import ls, show, weights
from orchestrator.cli.prune import prune, upgrade
from orchestrator.cli.report import report
from orchestrator.cli.run import fork, resume, run, stop
from orchestrator.cli.serve import serve
from orchestrator.cli.simulate import simulate
from orchestrator.cli.study import study
from orchestrator.cli.ui import ui
from orchestrator.cli.validate import methods, validate

EPILOG = (
    "Exit codes: 0 done, 1 our fault, 2 your mistake, 75 stopped and resumable, 130 killed by a second Ctrl-C, 128 + N "
    "ended by signal N before there was a run."
)

app = typer.Typer(
    help="Evergreen schedules continual RL fine-tuning: a bandit chooses what a language model trains on next.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verb in (
    run,
    resume,
    fork,
    study,
    simulate,
    serve,
    stop,
    ls,
    show,
    report,
    compare,
    diff,
    export,
    weights,
    prune,
    ui,
    upgrade,
    validate,
    methods,
    check_env,
):
    app.command()(in_words(verb))
