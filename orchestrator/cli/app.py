"""The list of verbs. A verb's module is imported when it is asked for, so that lists and help come at once."""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from platform import python_version
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from typer.core import TyperGroup

P = ParamSpec("P")
R = TypeVar("R")

EPILOG = (
    "Exit codes: 0 done, 1 our fault, 2 your mistake, 75 stopped and resumable, 130 killed by a second Ctrl-C, 128 + N "
    "ended by signal N before there was a run."
)
PLAIN: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None}
GROUPS = {  # each verb with the beginning of its own help, which a test compares
    "Begin and go on": {
        "init": "Write a curriculum to begin with into a folder",
        "new-env": "Write an environment, its test and a spec that trains on it",
        "run": "Run a curriculum from a spec file",
        "resume": "Go on with a stopped or killed run",
        "fork": "Begin a new run at a boundary of another",
        "stop": "Ask a run in another process to finish its step, save and stop",
        "study": "Run a study: every setting with every seed",
        "launch": "Submit a run as a job of SLURM or Kubernetes",
        "serve": "Start the servers of a spec that says `sampler: vllm_server`",
    },
    "Look": {
        "ls": "List the runs of a home folder, newest first",
        "show": "Tell a run: what was learnt, what it cost in entropy",
        "report": "Write a run as one HTML file",
        "ui": "Open MLflow on the runs, its record brought up to date",
    },
    "Compare": {
        "compare": "Compare runs that differ in a setting, paired by seed",
        "final": "Evaluate a study's finished runs on the final pool, once",
        "diff": "Say where two runs part",
        "simulate": "Compare bandits and schedulers in a simulated world",
    },
    "Keep": {
        "export": "Write runs as tidy tables, a row an observation",
        "weights": "Copy a policy's weights and tokenizer out",
        "backup": "Copy a home into a folder while its runs go on",
        "restore": "Make a home of a backup",
        "prune": "Free disk: delete the checkpoints between boundaries",
        "rm": "Remove runs: their folders and their rows in the ledger",
        "upgrade": "Bring a ledger that an earlier Evergreen wrote up to date",
    },
    "Check": {
        "validate": "Check a spec and print what it means",
        "methods": "List what a spec can name",
        "check-env": "Check environments against their contract",
        "profile": "Print pass rates of single tasks, and write slices of them",
        "play": "Play an environment yourself, or by random or right answers",
        "doctor": "Say what is wrong with a home and its runs, and what to do",
    },
}
VERBS = {verb: said for group in GROUPS.values() for verb, said in group.items()}
MODULES = {  # of verbs whose module is not called as they are
    **dict.fromkeys(("resume", "fork"), "run"),
    **dict.fromkeys(("stop", "prune", "rm", "upgrade"), "home"),
    **dict.fromkeys(("report", "weights"), "export"),
    "restore": "backup",
    "ls": "run_list",
    "diff": "compare",
}


class VerbGroup(TyperGroup):
    """Knows every verb by its line of help, and loads the one that is asked for, also where a shell completes it."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the verbs by what they are for, a line each."""
        for title, verbs in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(verb.ljust(max(map(len, VERBS))), said) for verb, said in verbs.items()])

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the verb that the words name, and import its module."""
        for word in args:
            try:
                os.fsencode(word)
            except UnicodeEncodeError:
                ctx.fail(f"{word!a} holds half a character, which no name and no path has")
        name, listed, rest = super().resolve_command(ctx, args)
        return name, load_verb(name) if name else listed, rest


def load_verb(name: str) -> Any:
    """Make a verb's command from the function of its module."""
    function = name.replace("-", "_")
    module = in_words(import_module)(f"orchestrator.cli.{MODULES.get(name, function)}")
    verb = typer.Typer(**PLAIN)
    verb.command(name)(in_words(getattr(module, function)))
    command = typer.main.get_command(verb)
    if not gc.isenabled():  # as `main` began
        gc.freeze()  # all of it stays: looked for garbage neither from now on nor at the end, a quarter of `ls`
        gc.enable()
    return command


def in_words(call: Callable[P, R]) -> Callable[P, R]:
    """Turn the errors that a person can act on into a message; others are ours, and keep their traceback."""

    @wraps(call)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        from orchestrator.errors import KILLED, YOUR_MISTAKE
        from orchestrator.os_signals import Interrupted

        try:
            return call(*args, **kwargs)
        except typer.Exit:
            raise
        except Interrupted as signal:
            said, exit_code = signal.at_start()
        except KeyboardInterrupt:
            said = "killed; `evergreen ls` names the run, `evergreen resume RUN` goes on from its last checkpoint"
            exit_code = KILLED
        except SystemExit as end:  # no verb leaves so
            from environments.user_code import raised

            said, exit_code = f"what the run calls ended it: {raised(end)}; mend that code", YOUR_MISTAKE
        except Exception as error:
            if (found := words_of(error)) is None:
                raise
            said, exit_code = found
        from orchestrator.cli.console import problem
        from orchestrator.cli.options import DEFAULT_HOME, in_home

        home = kwargs.get("home")
        problem(in_home(said, home if isinstance(home, Path) else DEFAULT_HOME))
        raise typer.Exit(exit_code)

    return run


def words_of(error: Exception) -> tuple[str, int] | None:
    """Say what a person can act on, with its exit code; None: it is our fault."""
    from safetensors import SafetensorError

    from environments import EnvironmentFault
    from environments.user_code import is_users_fault, raised
    from orchestrator.errors import RESUMABLE, YOUR_MISTAKE, EvergreenError
    from policies.errors import PolicyError, RankLost
    from store.errors import StoreError
    from store.files import refusal

    if isinstance(error, EvergreenError):
        return str(error), error.exit_code
    if isinstance(error, RankLost):
        return str(error), RESUMABLE
    if isinstance(error, EnvironmentFault | PolicyError | StoreError):
        return str(error), YOUR_MISTAKE
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        from orchestrator.spec.echo import cut

        return f"{cut(str(error.filename))}: {os.strerror(error.errno)}; give another path", YOUR_MISTAKE
    if isinstance(error, OSError | SafetensorError) and (said := refusal(error)) is not None:
        return f"{said}. Mend that, or name another place; what was written before is whole", YOUR_MISTAKE
    if is_users_fault(error):  # a user's bandit, say, or the size of an environment
        return f"your code raised {raised(error)}; mend it, then run or resume", YOUR_MISTAKE
    return None


app = typer.Typer(cls=VerbGroup, epilog=EPILOG, no_args_is_help=True, **{**PLAIN, "add_completion": True})


def print_versions(context: typer.Context, is_asked: bool) -> None:
    """Print the versions that a report of a fault needs, and end; read from metadata, so torch is not loaded."""
    if is_asked and not context.resilient_parsing:
        from orchestrator.package_names import version_of

        typer.echo(f"evergreen {version_of('evergreen-rl')}, Python {python_version()}, torch {version_of('torch')}")
        raise typer.Exit


@app.callback()
def evergreen(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=print_versions,
            is_eager=True,
            help="Print the versions of Evergreen, Python and torch.",
        ),
    ] = False,
) -> None:
    """Evergreen schedules continual RL fine-tuning: a bandit chooses what a language model trains on next.

    `evergreen VERB --help` tells a verb with its options.
    """


for verb, said in VERBS.items():
    app.command(verb, help=said, short_help=said)(lambda: None)
