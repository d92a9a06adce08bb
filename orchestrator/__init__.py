"""Evergreen from Python: run curricula, study and compare them, read what they left (docs/python.md).

    import orchestrator
    outcome = orchestrator.run("examples/smoke.yaml")

Everything is imported when it is first used, so that bandits and listings stay light. First of all the names of our
packages are claimed (`package_names`).
"""

from __future__ import annotations

import gc
from importlib import import_module
from typing import TYPE_CHECKING, Any

from orchestrator import package_names

if TYPE_CHECKING:
    from orchestrator import bandits
    from orchestrator.callbacks import Callback
    from orchestrator.cli.screen import Screen
    from orchestrator.cli.study import StudyScreen
    from orchestrator.results import compare, open_home
    from orchestrator.runs.api import fork, resume, run
    from orchestrator.runs.session import Outcome
    from orchestrator.spec import Spec, load_spec
    from orchestrator.studies.runner import study

package_names.claim()

__all__ = [
    "Callback",
    "Outcome",
    "Screen",
    "Spec",
    "StudyScreen",
    "bandits",
    "compare",
    "fork",
    "load_spec",
    "open_home",
    "resume",
    "run",
    "study",
]

_MODULES = {
    "Callback": "callbacks",
    "Outcome": "runs.session",
    "Screen": "cli.screen",
    "StudyScreen": "cli.study",
    "study": "studies.runner",
    **dict.fromkeys(("compare", "open_home"), "results"),
    **dict.fromkeys(("fork", "resume", "run"), "runs.api"),
    **dict.fromkeys(("Spec", "load_spec"), "spec"),
}


def __getattr__(name: str) -> Any:
    if name == "bandits":
        return import_module("orchestrator.bandits")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    is_collecting = gc.isenabled()
    gc.disable()  # what modules make stays: looking for garbage in it is a seventh of loading torch and transformers
    try:
        return getattr(import_module(f"orchestrator.{_MODULES[name]}"), name)
    finally:
        if is_collecting:
            gc.enable()


def __dir__() -> list[str]:
    return __all__
