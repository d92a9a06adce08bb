"""What the ledger keeps of a run beside its spec: what it is to others, and the host its bits depend on."""

from __future__ import annotations

import platform
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from environments.user_code import code_digest, file_of, is_user_code
from orchestrator.package_names import version_of
from orchestrator.spec import Spec
from store.records import EnvironmentRecord, LineageRecord, MemberRecord, RunRecord

ENVIRONMENT = "environment "  # before its name, where its version is among what bits depend on
CODE = "code of "  # before "environment" and its name, or that of another part, where a digest of its file is
POLICY = "the policy's "  # before what of it is read where the spec names it, and in no checkpoint
PACKAGES = ("evergreen-rl", "torch", "transformers", "numpy")
LIGER = ("liger-kernel", "triton")  # what a policy with `kernels: liger` computes with


@dataclass(frozen=True)
class RunRelations:
    """What a new run is to others."""

    lineage: LineageRecord | None = None  # what it is forked from
    member: MemberRecord | None = None  # its place in a study
    baseline_of: str | None = None  # the run whose twin it is


ALONE = RunRelations()


def run_record(
    spec: Spec,
    relations: RunRelations,
    uid: str | None = None,
    host: Mapping[str, Any] | None = None,
    environments: Sequence[EnvironmentRecord] = (),
) -> RunRecord:
    """Describe a run for the ledger; `uid` None: a new one."""
    curriculum = spec.curriculum
    return RunRecord(
        uid=uid or uuid.uuid4().hex,
        name=spec.name,
        seed=spec.seed,
        model=spec.policy.model,
        objective=spec.objective.title(spec.environments),
        scheduler=getattr(curriculum.scheduler, "type", None),
        bandit=curriculum.bandit.type,
        spec=spec.kept(),
        environments=environments,
        host=host or {},
        **vars(relations),
    )


def describe_host(spec: Spec) -> dict[str, Any]:
    """Versions, threads and processor, for the ledger; in no digest."""
    kernels = {name: version_of(name) for name in LIGER} if spec.policy.kernels == "liger" else {}
    used = {name: getattr(spec.resources, name) for name in ("threads", "device", "ranks", "replicas", "offload")}
    return versions() | kernels | used


def own_code(spec: Spec) -> dict[str, str]:
    """Digest the files of a user's own parts but environments: bandits, parts of an objective, and so on; by name."""
    sections, folder = spec.kept(), spec.resources.search_path
    del sections["environments"]
    modules = {f"{name}:create" for name in _texts(sections["objective"]) if not is_user_code(name)}
    names = modules | {name for name in _texts(sections) if is_user_code(name)}
    loaded = sorted(name for name in names if file_of(name, folder) is not None)
    return {f"{CODE}{name.removesuffix(':create')}": code_digest([name], folder) for name in loaded}


def _texts(section: Any) -> Iterator[str]:
    if isinstance(section, str):
        yield section
    elif isinstance(section, Mapping | list):
        for one in section.values() if isinstance(section, Mapping) else section:
            yield from _texts(one)


def versions() -> dict[str, Any]:
    """Versions and processor: of the host, whatever a spec says."""
    packages = {name: version_of(name) for name in PACKAGES}
    return {"python": platform.python_version(), **packages, "cpu": cpu_kind()}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say what has changed since a run began."""
    return [
        f"{name} was {before[name]}, is {now[name]}"
        for name in now
        if name in before and name != "python" and not name.startswith(CODE) and before[name] != now[name]
    ]


def changed_environments(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name the environments whose version has changed since a run began: their data, options or code."""
    return _changed(before, now, ENVIRONMENT)


def changed_code(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name the own parts whose file is not what it was; of environments (`environment NAME`) those of one version."""
    changed = {f"{ENVIRONMENT}{name}" for name in changed_environments(before, now)}
    return [name for name in _changed(before, now, CODE) if name not in changed]


def _changed(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str) -> list[str]:
    keys = {key.removeprefix(prefix): key for key in now if key.startswith(prefix)}
    return [name for name, key in keys.items() if key in before and before[key] != now[key]]


def cpu_kind() -> str:
    """Name the processor as far as the system tells; by family and model too, as clouds call all theirs alike."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().split("\n\n")[0].splitlines() if info.exists() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if "model name" not in facts:
        return platform.processor() or platform.machine()
    return f"{facts['model name']}, family {facts.get('cpu family')}, model {facts.get('model')}"
