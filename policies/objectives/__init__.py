"""Objectives: how scored trajectories become coefficients on log-probs and entropies (objectives.md).

What lives here is numbers only: no model, no optimiser, no gradient. The learner computes what an objective
`needs`, asks it for coefficients and differentiates the one loss. A method is one file in the folder of its kind;
a named objective is a line of data in `presets/`. Names are imported when first used, so that reading a spec does not
load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from policies.objectives.config import ObjectiveConfig
    from policies.objectives.contracts import Batch, Coefficients, Need, ShapedRows, Totals
    from policies.objectives.entropy_reading import EntropyReading, MixCorrectedEntropy
    from policies.objectives.errors import ObjectiveError
    from policies.objectives.objective import Objective
    from policies.objectives.presets import PRESETS, Preset

__all__ = [
    "PRESETS",
    "Batch",
    "Coefficients",
    "EntropyReading",
    "MixCorrectedEntropy",
    "Need",
    "Objective",
    "ObjectiveConfig",
    "ObjectiveError",
    "Preset",
    "ShapedRows",
    "Totals",
]

_HOMES = {
    "config": ("ObjectiveConfig",),
    "contracts": ("Batch", "Coefficients", "Need", "ShapedRows", "Totals"),
    "errors": ("ObjectiveError",),
    "objective": ("Objective",),
    "presets": ("PRESETS", "Preset"),
    "entropy_reading": ("EntropyReading", "MixCorrectedEntropy"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
