"""A learner on several ranks over gloo, against one process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.registry import OBJECTIVES, listing
from tests.integration.test_model_families import FAMILIES

PRESETS = [method.name for method in listing(OBJECTIVES)]
WAYS: list[dict[str, Any]] = [
    {"name": "several updates", "objective": {"preset": "repo_adaptive"}, "learner": {"updates": 3}},
    {"name": "shared prompts", "objective": {"preset": "entropy_bonus"}, "shares": True},
    {"name": "layers run again", "objective": {"preset": "repo_r"}, "learner": {"activation_checkpointing": True}},
    {"name": "a row at a time", "objective": {"preset": "dapo"}, "learner": {"micro_tokens": 1}},
    {"name": "fewer micro-batches than ranks", "objective": {"preset": "grpo"}, "learner": {"micro_tokens": 4096}},
    {"name": "adapters", "objective": {"preset": "repo_r"}, "adapter": {"rank": 4}},
    {"name": "adapters, shared prompts", "objective": {"preset": "entropy_bonus"}, "adapter": 2, "shares": True},
    {"name": "adapters that are reset", "objective": {"preset": "rloo"}, "adapter": 4, "resets": True},
    {"name": "adapters with a KL", "objective": {"preset": "grpo", "kl": 0.1}, "adapter": 4},
    {"name": "a KL", "objective": {"preset": "grpo", "kl": 0.1}},
]


def run(folder: Path, size: int, cases: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Run cases on so many ranks; give what rank 0 found, by the case's name."""
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
    assert [one.returncode for one in started] == [0] * size, "\n".join(one[-2500:] for one in said)
    found: dict[str, dict[str, Any]] = json.loads((folder / "0.json").read_text())
    return found


CASES = [
    *({"name": name, "objective": {"preset": name}, "steps": 1} for name in PRESETS),
    *WAYS,
    *({"name": f"a {one}", "objective": {"preset": "repo_r"}, "steps": 2, "family": one} for one in FAMILIES),
]
SHORT: dict[str, Any] = {"objective": {"preset": "repo_r"}, "steps": 10, "learner": {"lr": 1e-4}}
SPOILT: dict[str, Any] = {"objective": {"preset": "repo_adaptive"}, "steps": 3, "spoils": 1}
OTHERS = [
    *({"name": dtype, "dtype": dtype, **SHORT} for dtype in ("float32", "bfloat16")),
    {"name": "adapters beside bfloat16", "dtype": "bfloat16", "adapter": 4, **SHORT},
    *({"name": f"spoilt by {rank}", "spoils_rank": rank, **SPOILT} for rank in (0, 1)),
]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """All cases on two ranks."""
    return run(tmp_path_factory.mktemp("two"), 2, [*CASES, *OTHERS])


def require_equal(found: dict[str, dict[str, Any]], size: int) -> None:
    for case in CASES:
        name = case["name"]
        assert found[name]["num_files"] == (1 if "adapter" in case else size), name
        assert found[name]["moments"] < 1e-12, name
        assert found[name]["metrics"] < 1e-12, name
        assert found[name]["weights"] < 1e-12, name


def test_two_ranks_learn_together_what_one_process_learns(two: dict[str, dict[str, Any]]) -> None:
    require_equal(two, 2)


@pytest.mark.slow
def test_three_ranks_learn_together_what_one_process_learns(tmp_path: Path) -> None:
    require_equal(run(tmp_path, 3, CASES), 3)


def test_in_less_precision_they_agree_to_its_rounding(two: dict[str, dict[str, Any]]) -> None:
    assert two["float32"]["weights"] < 1e-6
    assert two["bfloat16"]["weights"] < 2e-2
    assert two["adapters beside bfloat16"]["weights"] < 2e-4


@pytest.mark.parametrize("rank", [0, 1])
def test_a_loss_that_is_no_number_on_one_rank_is_left_out_by_all(two: dict[str, dict[str, Any]], rank: int) -> None:
    own = two[f"spoilt by {rank}"]
    assert own["skipped"] == [0, 1, 0]
    assert own["weights"] < 1e-12, "and the next step is that of one process"
    assert own["moments"] < 1e-12
