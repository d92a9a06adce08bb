"""Runs a module of these tests in an environment that has TRL."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.documents import DOCS

ROOT = DOCS.parent


def printed(module: str, folder: Path) -> dict[str, Any]:
    """Run it with a folder, and read the JSON that it prints last."""
    python = Path(os.environ.get("EVERGREEN_TRL_PYTHON", ROOT / ".venv-trl" / "bin" / "python"))
    if not python.exists():
        pytest.fail(f"there is no {python}: `make trl` makes it, or name one with EVERGREEN_TRL_PYTHON")
    done = subprocess.run([python, "-m", module, str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
