"""A run keeps its randomness and its settings to itself."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import orchestrator
from policies import learner
from policies.samplers import decode_loop
from tests.integration.runs import ending
from tests.orchestrator.specs import alone, small


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])


def test_a_run_neither_moves_nor_reads_global_random_state(finished: Path) -> None:
    random.seed(20)
    np.random.seed(20)
    torch.manual_seed(20)
    before = random.getstate(), str(np.random.get_state()), torch.get_rng_state()
    orchestrator.run(small("again", objective="repo_r"), home=finished)
    after = random.getstate(), str(np.random.get_state()), torch.get_rng_state()
    assert after[:2] == before[:2]
    assert torch.equal(after[2], before[2])
    assert ending(finished, "again") == ending(finished, "small"), "other seeds before it, the same run"


def test_a_run_uses_the_threads_it_was_given_and_gives_them_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[tuple[str, int]] = set()

    def watched(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def noting(*args: Any, **options: Any) -> Any:
            seen.add((name, torch.get_num_threads()))
            return real(*args, **options)

        monkeypatch.setattr(owner, name, noting)

    watched(decode_loop, "decode")  # playing
    watched(learner, "score_micro")  # updating
    before = torch.get_num_threads()
    changes = [f"resources.threads={before + 1}", "objective=repo"]  # which runs every row
    orchestrator.run(alone(), changes, home=tmp_path, until_step=1)
    assert seen == {("decode", before + 1), ("score_micro", before + 1)}
    assert torch.get_num_threads() == before
