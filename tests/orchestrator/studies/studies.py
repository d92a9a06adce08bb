"""Study files for the tests of this folder and of studies as processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from orchestrator.studies.study import Study, load_study
from tests.orchestrator.specs import alone


def written_study(folder: Path, name: str = "trial", **content: Any) -> Path:
    """Write a study file as a user would have, by default of the cheapest spec there is, inline."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"spec": alone("base"), "seeds": 2, **content}, sort_keys=False))
    return path


def made_study(folder: Path, name: str = "trial", **content: Any) -> Study:
    """Read such a study."""
    return load_study(written_study(folder, name, **content))
