"""What a run's bits depend on beside its spec: versions, threads, kind of processor."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from orchestrator.spec import Spec

PACKAGES = ("evergreen-rl", "torch", "transformers", "numpy")


def describe_host(spec: Spec) -> dict[str, Any]:
    """Versions, threads and processor, for the ledger; in no digest."""
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "threads": spec.resources.threads,
        "device": spec.resources.device,
        "cpu": cpu_kind(),
    }


def _version(name: str) -> str:
    """Read the version of a package; our own may be used from its tree, without being installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say what has changed since a run began."""
    return [
        f"{name} was {before[name]}, is {now[name]}"
        for name in now
        if name in before and name != "python" and before[name] != now[name]
    ]


def cpu_kind() -> str:
    """Name the processor as far as the system tells; by family and model too, as clouds call all theirs alike."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().split("\n\n")[0].splitlines() if info.exists() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if "model name" not in facts:
        return platform.processor() or platform.machine()
    return f"{facts['model name']}, family {facts.get('cpu family')}, model {facts.get('model')}"
