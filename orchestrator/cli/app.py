"""The list of verbs. A verb's module is imported when it is asked for, so that lists and help come at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any, ParamSpec, TypeVar

import typer
from typer.core import TyperGroup

P = ParamSpec("P")
R = TypeVar("R")

EPILOG = (
    "Exit codes: 0 done, 1 our fault, 2 your mistake, 75 stopped and resumable, 130 killed by a second Ctrl-C, 128 + N "
    "ended by signal N before there was a run."
)
PLAIN: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None}
VERBS = {  # each with the first sentence of its help, which a test compares
    "run": "Run a curriculum from a spec file.",
    "resume": "Go on with a stopped or killed run from its newest valid checkpoint.",
    "fork": "Begin a new run at a boundary of another, with its history and part of its spec changed.",
    "study": "Run a study: every setting with every seed, each run in a process of its own with one thread.",
    "simulate": "Compare bandits and schedulers in a simulated world: seconds, no model, exact ground truth.",
    "serve": "Start the servers of a spec that says `sampler: vllm_server`, and keep them running until Ctrl-C.",
    "stop": "Ask a run in another process to finish its step, save and stop.",
    "ls": "List the runs of a home folder, oldest first.",
    "show": "Tell a run: what was learnt, what it cost in entropy, what the bandits did, what went wrong.",
    "report": "Write a run as one HTML file: what was learnt, what it cost in entropy, who chose what, samples, "
    "incidents.",
    "compare": "Compare runs that differ in a setting, paired by seed: which is better, by how much, and is that "
    "enough to tell.",
    "diff": "Say what two runs were told differently, the first thing in which they differ, and how much after it.",
    "export": "Write runs as tidy tables, a row an observation, with a data dictionary: Parquet and CSV, the same in "
    "both.",
    "weights": "Copy a policy's weights and tokenizer out, in the layout that transformers' from_pretrained reads.",
    "prune": "Free disk: delete the checkpoints between boundaries, but never a run's newest one.",
    "ui": "Bring MLflow's record of the runs up to date with the ledger, and open MLflow's UI on it until Ctrl-C.",
    "upgrade": "Bring a ledger that an earlier Evergreen wrote up to date.",
    "validate": "Check a spec and print what it means: its environments and tasks, the plan, the disk it will take.",
    "methods": "List what a spec can name, a line and a source each; with KIND and NAME, one method with its options.",
    "check-env": "Check environments against their contract: each finding is one sentence and a remedy.",
}


MODULES = {  # of verbs whose module is not called as they are
    **dict.fromkeys(("resume", "fork"), "run"),
    **dict.fromkeys(("ls", "stop", "prune", "upgrade"), "home"),
    **dict.fromkeys(("report", "weights"), "export"),
    "diff": "compare",
}


class VerbGroup(TyperGroup):
    """Knows every verb by its line of help, and loads the one that is asked for."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the verb that the words name, and import its module."""
        name, listed, rest = super().resolve_command(ctx, args)
        return name, load_verb(name) if name else listed, rest


def load_verb(name: str) -> Any:
    """Make a verb's command from the function of its module."""
    function = name.replace("-", "_")
    module = in_words(import_module)(f"orchestrator.cli.{MODULES.get(name, function)}")
    verb = typer.Typer(**PLAIN)
    verb.command(name)(in_words(getattr(module, function)))
    return typer.main.get_command(verb)


def in_words(call: Callable[P, R]) -> Callable[P, R]:
    """Turn the errors that a person can act on into a message; others are ours, and keep their traceback."""

    @wraps(call)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        from orchestrator.errors import KILLED
        from orchestrator.os_signals import Interrupted

        try:
            return call(*args, **kwargs)
        except typer.Exit:
            raise
        except Interrupted as signal:
            said, exit_code = f"ended by {signal} before anything was begun", signal.exit_code
        except KeyboardInterrupt:
            said = "killed; `evergreen ls` names the run, `evergreen resume RUN` goes on from its last checkpoint"
            exit_code = KILLED
        except Exception as error:
            if (found := _words_of(error)) is None:
                raise
            said, exit_code = found
        from orchestrator.cli.console import problem

        problem(said)
        raise typer.Exit(exit_code)

    return run


def _words_of(error: Exception) -> tuple[str, int] | None:
    """Say what a person can act on, with its exit code; None: it is our fault."""
    from environments import EnvironmentFault
    from orchestrator.errors import YOUR_MISTAKE, EvergreenError
    from policies.errors import PolicyError
    from store.errors import StoreError
    from store.files import refusal

    if isinstance(error, EvergreenError):
        return str(error), error.exit_code
    if isinstance(error, EnvironmentFault | PolicyError | StoreError):
        return str(error), YOUR_MISTAKE
    if isinstance(error, OSError) and (said := refusal(error)) is not None:
        return f"{said}. Mend that, or name another place; what was written before is whole", YOUR_MISTAKE
    return None


app = typer.Typer(
    cls=VerbGroup,
    help="Evergreen schedules continual RL fine-tuning: a bandit chooses what a language model trains on next.",
    epilog=EPILOG,
    no_args_is_help=True,
    **PLAIN,
)
for verb, said in VERBS.items():
    app.command(verb, help=said)(lambda: None)
