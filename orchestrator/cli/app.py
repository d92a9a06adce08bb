"""The list of verbs."""

from __future__ import annotations

import typer

from orchestrator.cli.checking import check_env
from orchestrator.cli.comparing import compare
from orchestrator.cli.looking import ls, show, weights
from orchestrator.cli.opening import ui
from orchestrator.cli.planning import methods, validate
from orchestrator.cli.problems import in_words
from orchestrator.cli.reporting import report
from orchestrator.cli.running import fork, resume, run, stop
from orchestrator.cli.serving import serve
from orchestrator.cli.simulating import simulate
from orchestrator.cli.studying import study
from orchestrator.cli.taking import diff, export
from orchestrator.cli.tidying import prune, upgrade

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
