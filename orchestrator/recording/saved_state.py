"""What checkpoints on disk hold, and where the weights of boundaries lie. Loads no torch.

The weights after a stage are in a run's own checkpoints, else in those of the run that it was forked from.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from store import identity
from store.checkpoints import FOLDER, INTERVENED, STATE, WEIGHTS
from store.errors import HomeError
from store.home import Home

# Raised when a component changes its shape; an older one is then refused by name instead of misread.
EXPECTED = {"weights": 1, "policy": 1, "optimizer": 1, "objective": 1, "choice": 1, "tasks": 1, "progress": 1}
MAY_BE = {
    "under_way": 1,  # only where a batch was played ahead
    "missing": 1,  # only where one could not be
    "reference": 1,  # only where the objective compares with a frozen policy
    "measurements": 1,  # only where one keeps something: rows that are read again and again
}


def weights_after(home: Home, name: str, stage: int) -> Path | None:
    """Find the weights of the boundary after a stage of a run; None: there are none any more.

    They are those that the boundary measured, before any intervention.
    """
    folder = home.run_folder(name)
    if (found := _own_weights_after(folder, stage)) is not None:
        return found
    own = identity.read(folder)
    if own is None or own.lineage is None or stage > own.lineage.stage:
        return None
    return weights_after(home, own.lineage.parent, stage)


def weights_at_start_of(home: Home, name: str, stage: int) -> Path | None:
    """Find the weights with which a stage of a run began, after any intervention; None: there are none any more."""
    folder = home.run_folder(name)
    intervened = sorted(folder.glob(f"{FOLDER}/step-*-boundary-{stage:03d}{INTERVENED}"))
    return intervened[-1] / WEIGHTS if intervened else weights_after(home, name, stage - 1)


def read_by_forks(home: Home, name: str) -> set[str]:
    """Name the folders of a run's checkpoints that interventions of its forks, and of theirs, may still read.

    They are of the boundaries that a fork's own checkpoints cannot have: the start of the run, and the one before that
    after which it was forked.
    """
    run_folder, found = home.run_folder(name), set[str]()
    for folder in home.path.iterdir():
        with suppress(HomeError):  # what a damaged file says of a run is no way to weights either
            own = identity.read(folder)
            if own is None or own.lineage is None or not _intervenes(own):
                continue
            for stage in {0, max(0, own.lineage.stage - 1)}:
                weights = weights_after(home, folder.name, stage)
                if weights is not None and weights.is_relative_to(run_folder):
                    found.add(weights.parent.relative_to(run_folder).as_posix())
    return found


def _intervenes(run: identity.Identity) -> bool:
    return bool(run.spec.get("curriculum", {}).get("boundary", {}).get("interventions"))


def _own_weights_after(run_folder: Path, stage: int) -> Path | None:
    for folder in sorted(run_folder.glob(f"{FOLDER}/step-*-boundary-{stage + 1:03d}")):
        state = folder / "progress" / STATE
        if state.is_file() and json.loads(state.read_bytes())["stage"] == stage:  # else: from inside the next stage
            return folder / WEIGHTS
    return None
