"""A learner on several ranks over gloo, against one process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.registry import OBJECTIVES, listing

PRESETS = [method.name for method in listing(OBJECTIVES)]


def run(folder: Path, size: int, *cases: dict[str, Any]) -> list[dict[str, Any]]:
    """Run cases on so many ranks; give what each of them found."""
    words = [sys.executable, "-m", "tests.policies.rank_worker"]
    started = [
        subprocess.Popen([*words, str(rank), str(size), str(folder), json.dumps(cases)], stderr=subprocess.PIPE)
        for rank in range(size)
    ]
    try:
        said = [one.communicate(timeout=280)[1].decode() for one in started]
    finally:
        for one in started:
            one.kill()
    assert [one.returncode for one in started] == [0] * size, "\n".join(said)[-4000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(size)]


@pytest.mark.parametrize("size", [2])
def test_every_preset_learns_on_ranks_what_it_learns_alone(tmp_path: Path, size: int) -> None:
    cases = [{"name": name, "objective": {"preset": name}, "steps": 2} for name in PRESETS]
    found = run(tmp_path, size, *cases)
    for name in PRESETS:
        own = found[0][name]
        print(name, own)
    assert len({json.dumps({n: one["digest"] for n, one in of.items()}) for of in found}) == 1, "all have the same"
