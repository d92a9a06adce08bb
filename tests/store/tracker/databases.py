"""MLflow's empty tables, made once in a test run, since that takes seconds, and copied."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from store.tracker.record import Target, make_database, mind_manners


@cache
def template() -> Path:
    mind_manners()
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    make_database(Target(f"sqlite:///{folder / 'mlflow.db'}", "evergreen", (folder / "artifacts").as_uri()))
    return folder / "mlflow.db"


def empty(folder: Path) -> Target:
    """Put an empty database into a folder, under the names that a home uses."""
    folder.mkdir(exist_ok=True)
    shutil.copy(template(), folder)
    return Target(f"sqlite:///{folder / 'mlflow.db'}", "evergreen", (folder / "mlflow_artifacts").as_uri())
