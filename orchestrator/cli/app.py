"""The list of verbs."""

from __future__ import annotations

import typer

from orchestrator.cli.looking import ls, show, weights
from orchestrator.cli.planning import methods, validate
from orchestrator.cli.problems import in_words
from orchestrator.cli.running import resume, run, stop

EPILOG = "Exit codes: 0 done, 1 our fault, 2 your mistake, 75 stopped and resumable, 130 killed by a second Ctrl-C."

app = typer.Typer(
    help="Evergreen schedules continual RL fine-tuning: a bandit chooses what a language model trains on next.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verb in (run, resume, stop, ls, show, weights, validate, methods):
    app.command()(in_words(verb))
