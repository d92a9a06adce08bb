"""How much disk a run takes, worked out before it does, and whether its home holds that."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from environments import Environment
from orchestrator.rollout.task_supply import evaluated_pools
from orchestrator.spec import Spec
from orchestrator.spec.twin import with_twin
from policies.models.description import ModelSize
from store.checkpoints import NUM_WHOLE
from store.sentences import size_in_words

# measured on SQLite: picks, groups, samples and metrics, over the groups of a step; an evaluated task at a boundary
LEDGER_BYTES_PER_GROUP, LEDGER_BYTES_PER_ITEM = 900, 400


@dataclass(frozen=True)
class DiskUse:
    """What a run, and its twin if it has one, will take of a disk."""

    checkpoint_bytes: int | None  # of a whole one; None: the model's size is not known here
    thinned_bytes: int  # what all but the newest boundaries do not keep
    num_boundaries: int  # checkpoints of them that stay; where the policy is changed there is one before, one after
    num_periodic: int  # checkpoints that stay besides, at most
    keep: int  # of a run's periodic ones, as the spec says
    ledger_bytes: int  # at most, where groups are played again
    holds_ledger: bool  # whether the ledger is in the home
    free_bytes: int
    place: Path

    @classmethod
    def of(cls, spec: Spec, environments: Mapping[str, Environment], size: ModelSize | None, home: Path) -> DiskUse:
        """Work it out for a spec whose policy has this size."""
        runs = with_twin(spec)
        whole = size.weights_bytes + size.optimizer_bytes if size else None
        is_thinned = whole is not None and spec.checkpoint.thins(whole)
        num_older = sum(one.num_boundaries - num_newest(one) for one in runs)
        num_boundaries = sum(one.num_boundaries for one in runs)
        num_groups = sum(one.curriculum.num_steps * one.step.groups * max(one.rounds.values()) for one in runs)
        num_items = num_boundaries * items_of(spec, environments)
        place = home.absolute()
        while not place.exists():
            place = place.parent
        return cls(
            checkpoint_bytes=whole,
            thinned_bytes=num_older * size.optimizer_bytes if size and is_thinned else 0,
            num_boundaries=sum(map(num_lasting, runs)),
            num_periodic=len(runs) * spec.checkpoint.keep,
            keep=spec.checkpoint.keep,
            ledger_bytes=num_groups * LEDGER_BYTES_PER_GROUP + num_items * LEDGER_BYTES_PER_ITEM,
            holds_ledger=spec.ledger.url is None,
            free_bytes=shutil.disk_usage(place).free,
            place=place,
        )

    @property
    def num_checkpoints(self) -> int:
        """How many checkpoints stay at most."""
        return self.num_boundaries + self.num_periodic

    @property
    def saved_bytes(self) -> int | None:
        """Of all checkpoints that stay; None: the model's size is not known here."""
        if self.checkpoint_bytes is None:
            return None
        return self.num_checkpoints * self.checkpoint_bytes - self.thinned_bytes

    @property
    def shortage(self) -> str | None:
        """Say that the disk does not hold the run, and what to do; None: it does, or it is not known."""
        if (saved := self.saved_bytes) is None:
            return None
        ledger = self.holds_ledger * self.ledger_bytes
        if (needed := saved + ledger) <= self.free_bytes:
            return None
        fewest = needed - (self.num_periodic - self.num_periodic // self.keep) * (self.checkpoint_bytes or 0)
        enough = "which fits" if fewest <= self.free_bytes else "which is not enough alone"
        keep = f"`checkpoint.keep: 1` makes it {size_in_words(fewest)}, {enough}; " if self.keep > 1 else ""
        thinner = "" if self.thinned_bytes else "`checkpoint.boundaries: weights` keeps less of each; "
        return (
            f"the disk does not hold this run: its checkpoints and ledger grow to {size_in_words(needed)}, and "
            f"{size_in_words(self.free_bytes)} are free in {self.place}. {keep}{thinner}fewer `curriculum.stages` make "
            "fewer checkpoints, `evergreen prune` frees what finished runs do not need, and `--home` names another disk"
        )


def num_lasting(spec: Spec) -> int:
    """Count the checkpoints of boundaries that stay; interventions may still read the first."""
    if spec.checkpoint.boundaries != "none":
        return spec.num_boundaries
    return min(spec.num_boundaries, num_newest(spec) + bool(spec.interventions))


def num_newest(spec: Spec) -> int:
    """Count the checkpoints that the newest boundaries have, at most."""
    times = spec.times_measured
    return max(sum(times[at : at + NUM_WHOLE]) for at in range(len(times)))


def items_of(spec: Spec, environments: Mapping[str, Environment]) -> int:
    """Count the tasks that a boundary evaluates, at most."""
    num_categories = sum(len(environment.categories) for environment in environments.values())
    return num_categories * spec.evaluate.items * len(evaluated_pools(spec))
