"""Experts of a model, as the library names them: how many weights, and the share that a token meets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    DeepseekV2Config,
    DeepseekV3Config,
    Ernie4_5_MoeConfig,
    GptOssConfig,
    JetMoeConfig,
    LlamaConfig,
    MixtralConfig,
    Qwen2MoeConfig,
    Qwen3MoeConfig,
)

from policies.model_facts import Experts, experts_of


def found(architecture: Any) -> Experts | None:
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return experts_of(AutoModelForCausalLM.from_config(architecture))


@pytest.mark.parametrize(
    ("architecture", "num_weights", "share"),
    [
        (MixtralConfig(num_hidden_layers=2), 2 * 8 * 3 * 4096 * 14336, 2 / 8),
        (Qwen2MoeConfig(num_hidden_layers=2), 2 * 60 * 3 * 2048 * 1408, 4 / 60),
        (Qwen3MoeConfig(num_hidden_layers=2), 2 * 128 * 3 * 2048 * 768, 8 / 128),
        (DeepseekV3Config(num_hidden_layers=4), 256 * 3 * 7168 * 2048, 8 / 256),  # the first three have none
        (DeepseekV2Config(num_hidden_layers=2, num_experts_per_tok=None), None, None),
        (GptOssConfig(num_hidden_layers=2), 2 * 128 * (3 * 2880 * 2880 + 3 * 2880), 4 / 128),
        (Ernie4_5_MoeConfig(num_hidden_layers=2), None, 6 / 64),
        (JetMoeConfig(num_hidden_layers=2), None, 2 / 8),
    ],
)
def test_experts_are_found(architecture: Any, num_weights: int | None, share: float | None) -> None:
    experts = found(architecture)
    assert experts is not None
    assert experts.share == share
    assert num_weights is None or experts.num_weights == num_weights


def test_a_plain_model_has_none() -> None:
    assert found(LlamaConfig(num_hidden_layers=2)) is None


def test_what_tokens_do_not_meet_grows_less_with_every_one() -> None:
    experts = Experts(1000, 0.5)
    assert [experts.unmet(number) for number in (1, 2, 3)] == [500, 250, 125]
