"""The state of very many arms: lists that have the arrays they were made of, which are written in their place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from orchestrator.bandits import contracts
from orchestrator.bandits.contracts import Feedback
from orchestrator.bandits.sec import Config, Sec
from store.long_values import LongValues


def test_numbers_of_many_arms_are_written_as_plain_lists_of_them_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contracts, "MANY_ARMS", 0)
    bandit = Sec([f"arm {k}" for k in range(200)], np.random.default_rng(0), Config())
    bandit.learn([Feedback(pick, 0.3) for pick in bandit.pick(50)])
    states = {"arrays": bandit.state()}
    states["lists"] = json.loads(json.dumps(states["arrays"]))
    bandit.learn([Feedback(pick, 0.9) for pick in bandit.pick(50)])  # in place, after the state was taken
    written = []
    for name, state in states.items():
        taken, folder = LongValues(), tmp_path / name
        folder.mkdir()
        text = json.dumps(taken.take(state), sort_keys=True)
        taken.write(folder)
        written.append((text, {path.name: path.read_bytes() for path in folder.iterdir()}))
    assert written[0] == written[1]
    assert "long-float.npy" in written[0][1]
    floats = np.load(tmp_path / "arrays" / "long-float.npy")
    assert 0 < np.abs(floats).sum() < np.inf
