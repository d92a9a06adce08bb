"""What there is to learn: environments, their split into pools, the draw of tasks, isolated scoring.

Nothing here knows of policies, bandits or the ledger. Importing the package loads only what finds plug-ins, and no
environment: a type is a file of this folder (`rows`, `reasoning_gym`, `codebook`, `http`) or a function of the user's
own, found when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from environments import user_code  # noqa: F401 - from here on modules of the user's are found

if TYPE_CHECKING:
    from environments.boxes import Box
    from environments.contracts import (
        CORRECT_AT,
        Category,
        Environment,
        EnvironmentFault,
        Episode,
        EpisodeLost,
        Flaw,
        Message,
        NoTasks,
        Pool,
        RemoteEnvironment,
        RemoteEpisode,
        RemoteFault,
        Score,
        SingleTurn,
        Task,
        Turn,
        canonical,
        most_bytes,
    )
    from environments.options import Options, TextOptions
    from environments.pools import (
        ALL,
        Admission,
        PassedOver,
        TaskStream,
        belongs,
        first_tasks,
        make_task,
        pool_of,
        training_roster,
    )
    from environments.scoring import Scorer, ScoringJob, ScoringOptions
    from environments.sources import EnvironmentSource, types, validate

__all__ = [
    "ALL", "CORRECT_AT", "Admission", "Box", "Category", "Environment", "EnvironmentFault",
    "EnvironmentSource", "Episode", "EpisodeLost", "Flaw", "Message", "NoTasks", "Options", "PassedOver", "Pool",
    "RemoteEnvironment", "RemoteEpisode", "RemoteFault", "Score", "Scorer",
    "ScoringJob", "ScoringOptions", "SingleTurn", "Task", "TaskStream", "TextOptions", "Turn", "belongs",
    "canonical", "first_tasks", "make_task", "most_bytes", "pool_of", "training_roster", "types",
    "validate"
]  # fmt: skip

_MODULES = ("boxes", "contracts", "options", "pools", "sources", "scoring")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in _MODULES:
            found = vars(import_module(f"environments.{module}"))
            if name in found:
                return found[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
