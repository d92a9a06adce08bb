"""Decides and conducts: the spec, the bandits, the curriculum loop, the command line.

    import orchestrator
    outcome = orchestrator.run("examples/smoke.yaml")

Everything is imported when it is first used, so that bandits and listings stay light. First of all the names of our
packages are claimed (`package_names`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from orchestrator import package_names

if TYPE_CHECKING:
    from orchestrator.runs.api import fork, resume, run
    from orchestrator.runs.session import Outcome
    from orchestrator.spec import Spec, load_spec

package_names.claim()

__all__ = ["Outcome", "Spec", "fork", "load_spec", "resume", "run"]

_HOMES = {
    "Outcome": "runs.session",
    **dict.fromkeys(("fork", "resume", "run"), "runs.api"),
    **dict.fromkeys(("Spec", "load_spec"), "spec"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"orchestrator.{_HOMES[name]}"), name)
