"""What a spec will do and take, said before it does: steps, episodes, evaluations, disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from environments import Environment
from orchestrator import methods
from orchestrator.spec import Spec

LEDGER_BYTES_PER_GROUP = (
    900  # measured on SQLite: picks, groups, samples and metrics, over the groups of a step
)
LEDGER_BYTES_PER_ITEM = 400  # an evaluated task at a boundary


EXAMPLES = 8  # of the warm start, drawn to see whether there are answers
ROWS_LISTED = 10  # of an environment, where a plan is told in words


@dataclass(frozen=True)
class LeftOut:
    """What of an environment's data cannot be used."""

    environment: str
    num_rows: int
    rows: tuple[str, ...]  # "file:line: reason" of the first thousand; the others counted by reason

    def lines(self) -> list[str]:
        """In words: how many, and the first of them."""
        said = [f"left out: rows of {self.environment} that cannot be used: {self.num_rows:,}"]
        said += [f"      {row}" for row in self.rows[:ROWS_LISTED]]
        more = self.num_rows - ROWS_LISTED
        return [*said, f"      and {more:,} more (listed with --json)"] if more > 0 else said


@dataclass(frozen=True)
class Plan:
    """A run's outline."""

    stages: str
    steps: int
    episodes: int
    evaluations: str
    parameters: int | None  # None: the model's size is not known here
    checkpoint_bytes: int | None
    num_checkpoints: int
    ledger_bytes: int
    free_bytes: int
    warnings: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()  # of the environments whose data is not all usable
    remarks: tuple[str, ...] = ()  # what else there is to know of their data

    def facts(self) -> dict[str, Any]:
        """As data."""
        return {"plan": asdict(self)}

    def lines(self) -> list[str]:
        """In words."""
        lines = [
            f"plan: {self.stages}",
            f"      {self.steps} steps, {self.episodes:,} episodes; {self.evaluations}",
            f"disk: {self._checkpoints()}, ledger about {size_in_words(self.ledger_bytes)}; "
            f"{size_in_words(self.free_bytes)} free",
        ]
        lines += [line for one in self.left_out for line in one.lines()]
        lines += [f"note: {text}" for text in self.remarks]
        return [*lines, *(f"warning: {text}" for text in self.warnings)]

    def _checkpoints(self) -> str:
        if self.checkpoint_bytes is None:
            return f"{self.num_checkpoints} checkpoints (the model's configuration is not here, so no size)"
        each, total = (
            size_in_words(self.checkpoint_bytes),
            size_in_words(self.checkpoint_bytes * self.num_checkpoints),
        )
        return f"{self.num_checkpoints} checkpoints of {each} ({self.parameters:,} weights) = {total}"


def make_plan(spec: Spec, home: Path, tell: Callable[[str], None] | None = None) -> Plan:
    """Work out what a spec will do: builds its environments, reads no weights.

    `tell` hears how far it is where an environment's data is long.
    """
    from orchestrator.assembly import build_environments, evaluated_pools, trainable
    from orchestrator.choosing import make_choice
    from orchestrator.drawing import Drawing
    from orchestrator.starting import Examples
    from orchestrator.stopping import Stopping

    curriculum, evaluate = spec.curriculum, spec.evaluate
    _, environments = build_environments(spec, tell)
    # made as a run would make them: each refuses what it cannot work with
    make_choice(curriculum, trainable(environments), spec.seed)
    Drawing(environments, curriculum, spec.seed, tell).close()
    Stopping(curriculum.stage)
    methods.refuse_uncallable("samplers", spec.sampler, "policy")
    if spec.warm_start is not None and spec.warm_start.num_batches:
        Examples(environments, spec.warm_start, spec.seed)(EXAMPLES)
    num_runs = 1 if spec.baseline is None else 2
    num_steps = num_runs * curriculum.stages * curriculum.stage.steps
    num_boundaries = num_runs * (curriculum.stages + 1)
    num_categories = sum(len(environment.categories) for environment in environments.values())
    items = num_categories * evaluate.items * len(evaluated_pools(spec))
    size = _policy_size(spec, environments)
    return Plan(
        stages=_stages(spec),
        steps=num_steps,
        episodes=num_steps * spec.step.groups * spec.step.group_size,
        evaluations=f"{num_boundaries} evaluations of {items * evaluate.samples:,} samples at most",
        parameters=size[0] if size else None,
        checkpoint_bytes=size[1] if size else None,
        num_checkpoints=num_boundaries + num_runs * spec.checkpoint.keep,
        ledger_bytes=num_steps * spec.step.groups * LEDGER_BYTES_PER_GROUP
        + num_boundaries * items * LEDGER_BYTES_PER_ITEM,
        free_bytes=_free(home),
        warnings=(*spec.warnings(), *_missing(spec)),
        left_out=tuple(
            LeftOut(name, environment.num_left_out, tuple(environment.left_out))
            for name, environment in environments.items()
            if environment.num_left_out
        ),
        remarks=tuple(f"{name}: {text}" for name, e in environments.items() for text in e.remarks),
    )


def _stages(spec: Spec) -> str:
    twin = f", and the same again with the {spec.baseline} bandit" if spec.baseline else ""
    return _own_stages(spec) + twin


def _own_stages(spec: Spec) -> str:
    curriculum = spec.curriculum
    names = ", ".join(spec.environments)
    if curriculum.mode == "flat":
        return f"one {curriculum.bandit.type} bandit over all categories of {names}"
    assert curriculum.scheduler is not None
    return (
        f"{curriculum.stages} stages of {curriculum.stage.steps} steps, scheduler {curriculum.scheduler.type} over "
        f"{names}; a {curriculum.bandit.type} bandit each; replay {curriculum.stage.replay:g}"
    )


def _policy_size(spec: Spec, environments: Mapping[str, Environment]) -> tuple[int, int] | None:
    """Count weights and bytes of a checkpoint from the model's configuration, if that is here."""
    from orchestrator.assembly import vocabulary_sample
    from policies.errors import PolicyError
    from policies.models.loading import describe_size

    sample = vocabulary_sample(environments) if spec.policy.kind == "tiny" else None
    try:
        size = describe_size(spec.policy, sample)
    except PolicyError:
        if spec.policy.kind == "hub":
            return None  # a hub model's configuration may not be here; a folder's must be
        raise
    return size.num_parameters, size.weights_bytes + size.optimizer_bytes


def _missing(spec: Spec) -> list[str]:
    """Say what a run would need that is not here: a spec may well be checked on another host."""
    from policies.errors import PolicyError

    try:
        methods.require_installed("samplers", spec.sampler)
    except PolicyError as error:
        return [str(error)]
    return []


def _free(home: Path) -> int:
    place = home.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def size_in_words(num_bytes: float) -> str:
    """Write a size for a person."""
    for unit in ("B", "KB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if num_bytes >= 10 or unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"
