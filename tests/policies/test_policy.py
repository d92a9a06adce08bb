from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, MixtralConfig, Qwen2Config

from policies.config import AdapterConfig
from policies.errors import CheckpointError, PolicyError
from policies.hardware import choose_device, cpu_threads
from policies.samplers.testing import random_policy

SMALL = {
    **{"vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2},
    **{"num_attention_heads": 2, "num_key_value_heads": 2, "bos_token_id": None, "eos_token_id": None},
}


def test_saved_weights_load_in_place(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, target = random_policy(0), random_policy(1)
    parameters = list(target.model.parameters())
    source.save(tmp_path)
    target.load_weights(tmp_path)
    assert all(a is b for a, b in zip(target.model.parameters(), parameters, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(source.model.parameters(), target.model.parameters(), strict=True))
    assert capfd.readouterr().err == ""  # no progress bar for a checkpoint


def test_weights_of_another_shape_are_refused_by_name(tmp_path: Path) -> None:
    policy = random_policy()
    policy.save(tmp_path)
    policy.model.model.norm = torch.nn.LayerNorm(7)
    with pytest.raises(CheckpointError, match=r"model\.norm\.bias is missing there and \(7,\) here \(2 tensors"):
        policy.load_weights(tmp_path)


def test_the_device_is_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(PolicyError, match="finds no usable GPU"):
        choose_device("cuda")


def test_threads_are_restored_even_after_an_error() -> None:
    before = torch.get_num_threads()
    inside = []

    def fail() -> None:
        with cpu_threads(before + 1):
            inside.append(torch.get_num_threads())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert inside == [before + 1]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("adapter", [None, AdapterConfig(rank=2, targets=["q_proj"])])
@pytest.mark.parametrize(
    "config",
    [
        Qwen2Config(**SMALL, tie_word_embeddings=True),
        Qwen2Config(**SMALL, tie_word_embeddings=False),
        MixtralConfig(**SMALL, num_local_experts=4),  # its experts are one matrix here, and many in files
    ],
)
def test_plain_weights_are_by_name_and_value_those_of_the_files(
    config: Any, adapter: AdapterConfig | None, tmp_path: Path
) -> None:
    policy = replace(random_policy(), model=AutoModelForCausalLM.from_config(config))
    if adapter is not None:
        policy.put_adapters(adapter, seed=0, has_own_base=True)
        with torch.no_grad():
            for name, weight in policy.model.named_parameters():
                if "lora_B" in name:
                    weight.fill_(0.1)
    policy.save_merged(tmp_path, tokenizer=False)
    saved = {name: one for file in tmp_path.glob("*.safetensors") for name, one in load_file(file).items()}
    plain = list(policy.plain_weights())
    assert len(plain) == len(saved)
    for name, tensor in plain:
        assert not tensor.requires_grad
        assert torch.equal(tensor, saved[name]), name
