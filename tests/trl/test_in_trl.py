"""docs/in_your_trainer.md: the bandit inside TRL's GRPOTrainer, in an environment of TRL's own."""

from __future__ import annotations

from typing import Any

import pytest

from tests.documents import code
from tests.trl.here import printed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return printed("tests.trl.block", tmp_path_factory.mktemp("trl"))


def test_it_trains_and_every_prompt_that_was_played_was_learnt_from(trained: dict[str, Any]) -> None:
    assert trained["steps"] == 12
    read_ahead = trained["pending"]
    assert read_ahead == 4  # one batch is drawn and not played
    assert sum(trained["num_picks"].values()) == 12 * 4 + read_ahead


def test_the_bandit_finds_the_category_that_has_a_signal(trained: dict[str, Any]) -> None:
    assert trained["values"]["never"] == trained["values"]["always"] == 0
    assert trained["values"]["even"] > 0.2
    assert trained["probabilities"]["even"] > 0.6


def test_it_is_ten_lines_beside_the_imports_the_sizes_and_trls_own() -> None:
    block = code("in_your_trainer.md", "TRL's GRPOTrainer")
    ours = block.split("G, PROMPTS = 8, 4")[1].split("args = GRPOConfig")[0].splitlines()[1:]
    assert len([line for line in ours if line.strip()]) <= 10
