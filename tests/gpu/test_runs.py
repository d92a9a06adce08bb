"""Whole runs on a GPU: interrupted or not, they end alike, and what plays agrees with what learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import orchestrator
from orchestrator.runs.api import resume
from policies.policy import Policy
from policies.samplers.contracts import Sampling
from policies.samplers.testing import fresh_logprobs, random_policy, some_requests
from policies.samplers.transformers import Config, create
from tests.integration.runs import At, Killed, ending, kill, series, told
from tests.orchestrator.specs import small

pytestmark = pytest.mark.gpu
PROBE = {
    "type": "probe",
    "kind": "supervised",
    "steps": 2,
    "batch": 4,
    "eval_every": 1,
    "items": 4,
    "seeds": 1,
    "length": 8,
}
WAYS: dict[str, dict[str, Any]] = {
    "float32": {"objective": "repo_r"},
    "bfloat16": {"objective": "repo_adaptive", "dtype": "bfloat16"},
    "plays ahead": {"objective": {"preset": "repo_r", "mismatch": "tis", "tis_cap": 2.0}, "ahead": 1},
    "measured": {"objective": "repo_r", "measure": {"of": ["network", "gradients", PROBE]}},
}


def spec_of(name: str, device: torch.device, way: str) -> dict[str, Any]:
    """Give a spec whose environments need no package."""
    options = dict(WAYS[way])
    spec = small(name, **options)
    for part in ("dtype", "ahead"):
        spec.pop(part, None)
    del spec["environments"]["numbers"]
    spec["warm_start"]["environments"] = ["book"]
    spec["policy"]["dtype"] = options.get("dtype", "float32")
    spec["sampler"]["ahead"] = options.get("ahead", 0)
    spec["resources"]["device"] = device.type
    return spec


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_is_killed_ends_as_one_that_is_not(device: torch.device, tmp_path: Path, way: str) -> None:
    assert orchestrator.run(spec_of("whole", device, way), home=tmp_path).status == "finished"
    assert orchestrator.run(spec_of("again", device, way), home=tmp_path).status == "finished"
    with pytest.raises(Killed):
        orchestrator.run(spec_of("cut", device, way), home=tmp_path, watcher=At(7, kill))
    assert resume("cut", home=tmp_path).status == "finished"
    assert ending(tmp_path, "again") == ending(tmp_path, "whole")
    assert ending(tmp_path, "cut") == ending(tmp_path, "whole")
    assert len(series(tmp_path, "whole", "loss")) == 9
    assert not [one for one in told(tmp_path, "cut")["events"] if one["kind"] == "not bitwise"]


def on(device: torch.device, dtype: torch.dtype) -> Policy:
    policy = random_policy()
    policy.model.to(device, dtype)
    return policy


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.7, top_p=0.9), Sampling(top_k=5)])
def test_what_is_played_is_played_again_and_scored_alike(device: torch.device, sampling: Sampling) -> None:
    policy = on(device, torch.float32)
    requests = some_requests(policy, budget=40)
    once, again = (create(Config(), policy).generate(requests, sampling) for _ in range(2))
    assert [one.ids for one in once] == [one.ids for one in again]
    assert all((one.logprobs == other.logprobs).all() for one, other in zip(once, again, strict=True))
    if sampling == Sampling():
        policy.model.to("cpu")
        for request, generation in zip(requests, once, strict=True):
            assert fresh_logprobs(policy, request, generation, 1.0) == pytest.approx(generation.logprobs, abs=1e-3)


def test_greedy_answers_are_those_of_a_cpu(device: torch.device) -> None:
    there, here = on(device, torch.float64), on(torch.device("cpu"), torch.float64)
    played = [
        create(Config(), one).generate(some_requests(one, budget=40), Sampling(greedy=True)) for one in (there, here)
    ]
    assert [one.ids for one in played[0]] == [one.ids for one in played[1]]
