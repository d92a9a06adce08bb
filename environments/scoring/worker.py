"""What runs inside a scoring process: limits, environments built once, one job after the other."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from environments.contracts import Environment, EnvironmentFault, Turn
from environments.scoring.jobs import Job, play
from environments.sources import EnvironmentSource

PR_SET_PDEATHSIG = 1  # linux/prctl.h
MAX_OPEN_FILES = 256

_environments: dict[str, Environment] = {}
_faults: dict[str, str] = {}


def prepare(sources: Sequence[EnvironmentSource], memory_gib: float, parent: int) -> None:
    """Make this process a worker: it dies with its parent, at once when told to, and builds the environments.

    An environment that cannot be built does not end the worker, which would only be started again: its first job
    raises the fault where the trainer can see it.
    """
    die_with(parent)
    signal.signal(
        signal.SIGTERM, signal.SIG_DFL
    )  # a handler in Python would wait for the end of a long C call
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's to handle
    warnings.simplefilter("ignore")
    for source in sources:
        try:
            _environments[source.name] = source.referee()
        except Exception as error:  # foreign code; the message reaches the trainer with the first job
            _faults[source.name] = f"{type(error).__name__}: {error}"
    _limit(memory_gib)


def ready() -> None:
    """Do nothing: that it returns says that the process has started and built its environments."""


def run(job: Job) -> Turn:
    """Play a job's turn.

    Raises:
        EnvironmentFault: the environment could not be built here, or breaks its contract.
    """
    name = job.task.environment
    if name in _faults:
        raise EnvironmentFault(f"environment {name} cannot be built in a scoring process: {_faults[name]}")
    return play(_environments[name], job)


def _limit(memory_gib: float) -> None:
    """Limit what a score may take, beyond what the built environments hold already."""
    for kind, limit in (
        (resource.RLIMIT_AS, _address_space() + int(memory_gib * 2**30)),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
    ):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _address_space() -> int:
    """Bytes mapped by now; 0 where the system does not say (there the limit counts from nothing)."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 0


def die_with(parent: int) -> None:
    """Leave no spinning orphan behind a killed trainer."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it died before we could ask
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
