"""What is asked of a host before anything is sent over NCCL, which is itself not run here."""

from __future__ import annotations

import pytest
import torch

from policies.errors import PolicyError
from policies.samplers.serving import nccl
from policies.samplers.serving.nccl import require_possible
from policies.samplers.testing import random_policy
from policies.samplers.vllm_server import Config, create

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_without_a_gpu_a_sampler_is_refused_before_it_asks_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(PolicyError, match=r"sampler\.hand_over: nccl: torch finds no CUDA device.*hand_over: files"):
        create(Config(urls=["http://127.0.0.1:1"], hand_over="nccl"), random_policy())


def test_beside_a_gpu_the_policy_has_to_be_on_it_and_vllm_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(PolicyError, match=r"the policy is on cpu: say `resources: \{device: cuda\}`"):
        require_possible(CPU)
    monkeypatch.setattr(nccl, "find_spec", lambda name: None)
    with pytest.raises(PolicyError, match=r"vLLM, .* is not installed beside the learner: pip install"):
        require_possible(CUDA)
