"""Where errors end: in words for a person, with an exit code that tells whose fault it was."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import typer

P = ParamSpec("P")


def in_words(verb: Callable[P, None]) -> Callable[P, None]:
    """Turn the errors that a person can act on into a message; others are ours, and keep their traceback."""

    @wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        from environments import EnvironmentFault
        from orchestrator.cli.console import problem
        from orchestrator.errors import KILLED, YOUR_MISTAKE, EvergreenError
        from orchestrator.os_signals import Interrupted
        from policies.errors import PolicyError
        from store.errors import StoreError
        from store.storage import refusal

        try:
            verb(*args, **kwargs)
        except Interrupted as signal:
            problem(f"ended by {signal} before anything was begun")
            raise typer.Exit(signal.exit_code) from None
        except KeyboardInterrupt:
            problem(
                "killed; `evergreen ls` names the run, `evergreen resume RUN` goes on from its last checkpoint"
            )
            raise typer.Exit(KILLED) from None
        except EvergreenError as error:
            problem(str(error))
            raise typer.Exit(error.exit_code) from None
        except (EnvironmentFault, PolicyError, StoreError) as error:
            problem(str(error))
            raise typer.Exit(YOUR_MISTAKE) from None
        except OSError as error:
            if (said := refusal(error)) is None:
                raise
            problem(f"{said}. Mend that, or name another place; what was written before is whole")
            raise typer.Exit(YOUR_MISTAKE) from None

    return run
