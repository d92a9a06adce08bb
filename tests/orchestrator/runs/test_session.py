from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest

import orchestrator
from environments import EnvironmentFault
from orchestrator.runs.session import GARBAGE_AFTER, collecting_rarely


class Knot:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.itself = self


def test_garbage_is_looked_for_rarely_and_afterwards_as_before() -> None:
    before = gc.get_threshold()
    with suppress(RuntimeError), collecting_rarely():
        assert gc.get_threshold() == (GARBAGE_AFTER, *before[1:])
        assert gc.get_freeze_count() > 1000
        raise RuntimeError("a step failed")
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


def test_what_a_long_run_leaves_in_cycles_is_still_found() -> None:
    with collecting_rarely():
        first = weakref.ref(Knot())
        kept = [Knot() for _ in range(2 * GARBAGE_AFTER)]
        assert first() is None
    assert len(kept) == 2 * GARBAGE_AFTER


def create(name: str, **options: Any) -> NoReturn:
    """Make no environment: tell how often garbage is looked for while one is made."""
    raise EnvironmentFault(f"after {gc.get_threshold()[0]} objects")


def test_garbage_is_looked_for_rarely_while_a_run_is_built(tmp_path: Path) -> None:
    before = gc.get_threshold()
    spec = {"name": "none", "environments": {"none": {"type": f"{__name__}:create"}}}
    with pytest.raises(EnvironmentFault, match=f"^after {GARBAGE_AFTER} objects"):
        orchestrator.run(spec, home=tmp_path)
    assert gc.get_threshold() == before


def test_no_garbage_is_looked_for_while_a_name_is_loaded() -> None:
    code = "import gc, orchestrator; before = gc.get_stats(); orchestrator.load_spec; print(before == gc.get_stats())"
    code += "; print(gc.isenabled())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, timeout=120).split() == ["True", "True"]
