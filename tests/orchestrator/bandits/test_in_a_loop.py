"""docs/in_your_trainer.md: the plain loop, run as it stands, on three categories of known difficulty."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import repeat
from typing import Any

import numpy as np
import pytest

from orchestrator.bandits import sec
from tests.documents import code

PASS_RATES = {"easy": 1.0, "even": 0.5, "hard": 0.0}


@pytest.fixture(scope="module")
def played() -> dict[str, Any]:
    """The names of the document's block after it was run."""
    rng = np.random.default_rng(1)
    names: dict[str, Any] = {
        "tasks": {name: repeat(name) for name in PASS_RATES},
        "play": lambda task: rng.binomial(1, PASS_RATES[task], 8).astype(float).tolist(),
        "update": lambda groups: None,
        "num_steps": 60,
    }
    exec(code("in_your_trainer.md", "A plain loop"), names)
    return names


def test_the_loop_moves_to_where_there_is_something_to_learn(played: dict[str, Any]) -> None:
    probabilities = played["bandit"].probabilities()
    assert probabilities["even"] > 0.8
    assert probabilities["easy"] == pytest.approx(probabilities["hard"])  # neither has ever had a signal
    assert played["bandit"].values()["even"] == pytest.approx(2 * 0.5 * 0.5 * 7 / 8, abs=0.08)


def test_its_state_goes_on_where_it_was(played: dict[str, Any]) -> None:
    again = sec.create(sec.Config(temperature=0.1, floor=0.2), list(PASS_RATES), np.random.default_rng(9))
    again.load_state(json.loads(played["state"]))
    assert [p.arm for p in again.pick(50)] == [p.arm for p in played["bandit"].pick(50)]


def test_it_is_ten_lines_at_most(played: dict[str, Any]) -> None:
    lines = [line for line in code("in_your_trainer.md", "A plain loop").splitlines() if line.strip()]
    assert len([line for line in lines if "import" not in line]) <= 10


def test_it_needs_numpy_and_pydantic_alone() -> None:
    program = """
import sys
from orchestrator.bandits import Feedback, Pick, mean_absolute_advantage, sec
heavy = {"torch", "transformers", "yaml", "sqlalchemy", "mlflow", "typer", "rich", "environments", "policies", "store"}
print(sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
