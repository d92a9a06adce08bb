"""A run keeps its randomness and its settings to itself."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import orchestrator
from orchestrator.watching import Watcher
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


class Looking(Watcher):
    """Notes how many threads torch has while a run goes."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def event(self, texts: Sequence[str]) -> None:
        self.seen.add(torch.get_num_threads())


def test_the_threads_of_torch_are_what_they_were(tmp_path: Path) -> None:
    before, looking = torch.get_num_threads(), Looking()
    threads = f"resources.threads={before + 1}"
    orchestrator.run(alone(), [threads], home=tmp_path, until_step=1, watcher=looking)
    assert looking.seen == {before + 1}
    assert torch.get_num_threads() == before
