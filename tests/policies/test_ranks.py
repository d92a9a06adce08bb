"""A learner on several ranks over gloo, against one process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.registry import OBJECTIVES, listing
from orchestrator.runs.ranks import _start as start_follower
from policies import follower
from policies.config import LearnerConfig, PolicyConfig
from policies.follower import READY, write_settings
from policies.objectives.by_environment import AnyObjective, make_objective
from policies.objectives.config import ObjectiveConfig
from policies.ranks import Alone, Ranks
from policies.samplers.testing import random_policy
from tests.policies.families import FAMILIES
from tests.shares import slow

Found = dict[str, dict[str, Any]]  # by the name of a case

PRESETS = [method.name for method in listing(OBJECTIVES)]
WAYS: list[dict[str, Any]] = [
    {"name": "several updates", "objective": {"preset": "repo_adaptive"}, "learner": {"updates": 3}},
    {"name": "shared prompts", "objective": {"preset": "entropy_bonus"}, "shares": True},
    {"name": "layers run again", "objective": {"preset": "repo_r"}, "learner": {"activation_checkpointing": True}},
    {"name": "a row at a time", "objective": {"preset": "dapo"}, "learner": {"micro_tokens": 1}},
    {"name": "rows that bring their advantage", "objective": {"preset": "repo_adaptive"}, "given": 0.5},
    {"name": "fewer micro-batches than ranks", "objective": {"preset": "grpo"}, "learner": {"micro_tokens": 4096}},
    {"name": "adapters", "objective": {"preset": "repo_r"}, "adapter": {"rank": 4}},
    {"name": "adapters, shared prompts", "objective": {"preset": "entropy_bonus"}, "adapter": 2, "shares": True},
    {"name": "adapters that are reset", "objective": {"preset": "rloo"}, "adapter": 4, "change": "adapters are reset"},
    {
        "name": "adapters that are merged",
        "objective": {"preset": "rloo"},
        "adapter": 4,
        "change": "adapters are merged",
    },
    {"name": "weights that are moved", "objective": {"preset": "repo_r"}, "change": "weights are moved"},
    {"name": "a step without signal", "objective": {"preset": "clip_cov"}, "steps": 3, "silent": 1},
    {
        "name": "weights that are moved after a step without signal",
        "objective": {"preset": "clip_cov"},
        "steps": 3,
        "silent": 0,
        "change": "weights are moved",
    },
    {"name": "units that are forgotten", "objective": {"preset": "rloo"}, "change": "units are forgotten"},
    {"name": "an optimiser on the host", "objective": {"preset": "repo_r"}, "on_host": True},
    {
        "name": "an optimiser on the host, weights that are moved",
        "objective": {"preset": "repo_adaptive"},
        "learner": {"updates": 2, "clip_norm": 1e-3},
        "on_host": True,
        "change": "weights are moved",
    },
    {
        "name": "adapters that are merged, their optimiser on the host",
        "objective": {"preset": "repo_r"},
        "adapter": 4,
        "on_host": True,
        "change": "adapters are merged",
    },
    {"name": "adapters with a KL", "objective": {"preset": "grpo", "kl": 0.1}, "adapter": 4},
    {"name": "a KL", "objective": {"preset": "grpo", "kl": 0.1}},
    {
        "name": "objectives by environment",
        "objective": {"preset": "rloo", "by": {"words": "repo_adaptive", "book": {"preset": "clip_cov", "kl": 0.1}}},
    },
]
REPLICATED: list[dict[str, Any]] = [
    {"name": "a gradient of the entropy", "objective": {"preset": "entropy_bonus"}},
    {"name": "several updates", "objective": {"preset": "repo_adaptive"}, "learner": {"updates": 3}},
    {"name": "a clipped gradient", "objective": {"preset": "rloo"}, "learner": {"clip_norm": 1e-3}},
    {"name": "fewer micro-batches than ranks", "objective": {"preset": "grpo"}, "learner": {"micro_tokens": 4096}},
    {"name": "adapters", "objective": {"preset": "repo_r"}, "adapter": 4},
    {"name": "weights that are moved", "objective": {"preset": "repo_r"}, "change": "weights are moved"},
    {"name": "an optimiser on the host", "objective": {"preset": "repo_r"}, "on_host": True},
]


def run(folder: Path, size: int, cases: list[dict[str, Any]]) -> Found:
    """Run cases on so many ranks; give what rank 0 found, by the case's name."""
    words = [sys.executable, "-m", "tests.policies.rank_worker", str(size), str(folder), json.dumps(cases)]
    ended = subprocess.run(words, stderr=subprocess.PIPE, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr
    every = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(size)]
    found: Found = every[0]
    for case in cases:
        of_ranks = [one[case["name"]] for one in every]
        found[case["name"]] |= {f"{key}s": [one[key] for one in of_ranks] for key in ("share", "counted", "version")}
    return found


def replicated(replicas: int, *layouts: list[int]) -> list[dict[str, Any]]:
    """Give cases of so many replicas, and one for each list of replicas, which are those of a step each."""
    cases = [{**case, "name": f"{replicas} replicas, {case['name']}", "replicas": replicas} for case in REPLICATED]
    more = {"objective": {"preset": "repo_r"}, "learner": {"clip_norm": 1e-3}}
    return [*cases, *({"name": f"replicas {layout}", "replicas": layout, **more} for layout in layouts)]


ONCE: dict[str, Any] = {  # an objective sees scores alone; the micro-batches are 9 or 3, which is uneven
    "steps": 1,
    "layers": 1,
    "reads": False,
    "learner": {"micro_tokens": 64},
}
CASES = [
    *({"name": name, "objective": {"preset": name}, **ONCE} for name in PRESETS),
    *WAYS,
    *({"name": f"a {one}", "objective": {"preset": "repo_r"}, "steps": 2, "family": one} for one in FAMILIES),
]
ADAPTED = [
    {"name": f"adapters beside a {one}", "objective": {"preset": "repo_r"}, "family": one, "adapter": 4}
    for one in FAMILIES
]
QUICK = [{**case, "reads": False} for case in CASES[: len(PRESETS) + 6]]  # every preset, and the first six ways
MORE = [case for case in WAYS if case["name"] in ("adapters", "weights that are moved", "an optimiser on the host")]
SHORT: dict[str, Any] = {"objective": {"preset": "repo_r"}, "steps": 4, "learner": {"lr": 1e-4}}
SPOILT: dict[str, Any] = {"objective": {"preset": "repo_adaptive"}, "steps": 3, "spoils": 1}
OTHERS = [
    {"name": "float32", "dtype": "float32", **SHORT, "steps": 10},
    {"name": "bfloat16", "dtype": "bfloat16", **SHORT},
    {"name": "bfloat16 with masters on the host", "dtype": "bfloat16", "on_host": True, **SHORT},
    {"name": "bfloat16 that is moved", "dtype": "bfloat16", "change": "weights are moved", **SHORT},
    {"name": "adapters beside bfloat16", "dtype": "bfloat16", "adapter": 4, **SHORT},
    {"name": "replicas of bfloat16", "dtype": "bfloat16", "replicas": 2, **SHORT},
    *({"name": f"spoilt by {rank}", "spoils_rank": rank, **SPOILT} for rank in (0, 1)),
]


QUICK_OTHERS = [case for case in OTHERS if case["name"] in ("float32", "spoilt by 0", "spoilt by 1")]
REPLICAS = replicated(2, [2, 1, 2], [1, 2, 1])
QUICK_REPLICAS = [case for case in REPLICAS if case["name"] in ("2 replicas, several updates", "replicas [2, 1, 2]")]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Every preset on two ranks, and some of what else there is."""
    return run(tmp_path_factory.mktemp("two"), 2, [*QUICK, *MORE, *QUICK_OTHERS, *QUICK_REPLICAS])


@pytest.fixture(scope="module")
def all_on_two(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """All cases on two ranks."""
    return run(tmp_path_factory.mktemp("two"), 2, [*CASES, *OTHERS, *REPLICAS])


def require_equal(found: Found, cases: list[dict[str, Any]]) -> None:
    for name in (case["name"] for case in cases):
        assert found[name]["moments"] < 1e-12, name
        assert found[name]["metrics"] < 1e-12, name
        assert found[name]["weights"] < 1e-12, name


def test_two_ranks_learn_together_what_one_process_learns(two: Found) -> None:
    require_equal(two, [*QUICK, *MORE])
    require_files(two, [*QUICK, *MORE], 2)


@pytest.mark.slow
def test_in_every_way_two_ranks_learn_together_what_one_process_learns(all_on_two: Found) -> None:
    require_equal(all_on_two, CASES)
    require_files(all_on_two, CASES, 2)


def require_files(found: Found, cases: list[dict[str, Any]], size: int) -> None:
    for case in cases:
        assert found[case["name"]]["num_files"] == (1 if "adapter" in case else size), case["name"]


def test_two_replicas_learn_together_what_one_process_learns_and_are_written_and_read_by_any(two: Found) -> None:
    require_equal(two, QUICK_REPLICAS)
    assert two["2 replicas, several updates"]["num_files"] == 1


@pytest.mark.slow
def test_in_every_way_two_replicas_learn_together_what_one_process_learns(all_on_two: Found) -> None:
    require_equal(all_on_two, REPLICAS)


@pytest.mark.slow
def test_replicas_stay_the_same_to_the_last_bit_and_shards_are_not(all_on_two: Found) -> None:
    for case in REPLICAS:
        first, second = all_on_two[case["name"]]["shares"]
        assert (first == second) == (case["replicas"] in (2, [2, 1, 2])), case["name"]
    first, second = all_on_two["replicas of bfloat16"]["shares"]
    assert first == second


@pytest.mark.parametrize("cases", [QUICK, slow([*CASES, *ADAPTED])], ids=["quick", "all"])
def test_three_ranks_learn_together_what_one_process_learns(tmp_path: Path, cases: list[dict[str, Any]]) -> None:
    found = run(tmp_path, 3, cases)
    require_equal(found, cases)
    require_files(found, cases, 3)


@pytest.mark.slow
def test_four_ranks_are_two_replicas_of_two_shards(tmp_path: Path) -> None:
    cases = replicated(2, [2, 4, 1], [1, 4, 2])
    found = run(tmp_path, 4, cases)
    require_equal(found, cases)
    assert found["2 replicas, several updates"]["num_files"] == 2
    for name in ("2 replicas, a gradient of the entropy", "2 replicas, several updates", "replicas [1, 4, 2]"):
        first, second, *others = found[name]["shares"]
        assert others == [first, second], "ranks 0 and 1 are one replica, 2 and 3 the other"
        assert first != second


def test_in_single_precision_they_agree_to_its_rounding(two: Found) -> None:
    assert two["float32"]["weights"] < 1e-6


@pytest.mark.slow
def test_in_less_precision_they_agree_to_its_rounding(all_on_two: Found) -> None:
    assert all_on_two["bfloat16"]["weights"] < 2e-2
    assert all_on_two["bfloat16 with masters on the host"]["weights"] < 2e-2
    assert all_on_two["bfloat16 that is moved"]["weights"] < 2e-2
    assert all_on_two["replicas of bfloat16"]["weights"] < 2e-2
    assert all_on_two["adapters beside bfloat16"]["weights"] < 2e-4


@pytest.mark.parametrize("rank", [0, 1])
def test_a_loss_that_is_no_number_on_one_rank_is_left_out_by_all(two: Found, rank: int) -> None:
    own = two[f"spoilt by {rank}"]
    assert own["counteds"] == [[[1, 0], [0, 1], [1, 0]]] * 2, "applied and skipped, by step, on every rank"
    assert own["versions"] == [2, 2]
    assert own["weights"] < 1e-12, "and the next step is that of one process"
    assert own["moments"] < 1e-12


def test_a_rank_goes_on_with_what_parts_of_rank_0_remember(monkeypatch: pytest.MonkeyPatch) -> None:
    section = ObjectiveConfig.model_validate("siren")
    first = make_objective(section, ["words"], temperature=0.5)
    state = json.loads(json.dumps({**first.state(), "memory": {"siren": {"words": 1.5}}}))

    def run_commands(work: Any, learner: Any, objective: AnyObjective) -> tuple[str, dict[str, Any]]:
        assert objective.load_state(state) == []
        return "end", objective.state()["memory"]

    monkeypatch.setattr(follower, "run_commands", run_commands)
    learner = LearnerConfig().resolved(PolicyConfig()).model_dump(mode="json")
    settings = {"objective": section.model_dump(mode="json"), "environments": ["words"], "learner": learner}
    told = {**settings, "temperature": 0.5, "optimizes_on_host": False, "replicas": 1}
    assert follower.follow(Alone(), random_policy(), told) == ("end", {"siren": {"words": 1.5}})  # type: ignore[arg-type]


def write_start(folder: Path) -> None:
    more = {"size": 2, "threads": 1, "search_path": None, "policy_config": {"model": "tiny"}}
    write_settings(folder, random_policy(), LearnerConfig(), {}, **more)


def test_a_rank_leaves_signals_to_rank_0_from_its_first_moment_and_ends_with_it_whatever_it_waits_for(
    tmp_path: Path,
) -> None:
    """Here for ranks that never come to the meeting; a job's end is told all of its processes, also as they start."""
    write_start(tmp_path)
    follower = start_follower(tmp_path, 1)
    try:
        until = time.monotonic() + 60
        while not (tmp_path / f"{READY}1").exists():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                follower.send_signal(number)
            assert follower.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        assert follower.poll() is None
        assert follower.stdin is not None
        follower.stdin.close()  # as a system does for a process that was killed
        assert follower.wait(10) == 1
    finally:
        follower.kill()
        follower.wait()


def test_a_signal_that_comes_while_ranks_tell_one_another_is_told_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work, heard = Ranks.__new__(Ranks), list[int]()
    work.size, work.leads, work.signal, work.heed = 1, True, None, heard.append
    comes = [signal.SIGTERM]

    def all_gather(into: list[torch.Tensor], own: torch.Tensor) -> None:
        into[0].copy_(own)
        if comes:
            work.signal = comes.pop()

    monkeypatch.setattr(torch.distributed, "all_gather", all_gather)
    assert work.merge({"mine": 1}) == [{"mine": 1}]
    work.merge({})
    work.merge({})
    assert heard == [signal.SIGTERM]


def test_a_rank_that_fails_ends_with_its_own_words(tmp_path: Path) -> None:
    """The thread that looks for rank 0's end aborted the interpreter as it ended, and that was said instead."""
    follower = start_follower(tmp_path, 1)
    try:
        assert follower.wait(60) == 1
    finally:
        follower.kill()
        follower.wait()
    said = (tmp_path / "rank-1.log").read_text()
    assert "Fatal Python error" not in said
    assert said.splitlines()[-1].startswith("FileNotFoundError"), "there is nothing to begin with"
