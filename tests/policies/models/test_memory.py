"""The memory of a policy, told beforehand: against what a learner, a forward, a backward and a cache really take."""

from __future__ import annotations

import weakref
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import (
    DeepseekV3Config,
    DynamicCache,
    FalconConfig,
    FalconForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedConfig,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    StableLmConfig,
    StableLmForCausalLM,
)

from policies.config import LearnerConfig, PolicyConfig
from policies.errors import PolicyError
from policies.forward import entropy_of, evaluating, recomputing_layers, score_rows
from policies.learner import Learner
from policies.models.memory import NARROW_TOKENS, ModelMemory, _kept_bytes, _narrow, describe_memory
from policies.samplers.contracts import Sampling
from policies.samplers.testing import random_policy
from policies.samplers.token_distribution import draw, log_distribution
from tests.shares import share

SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 1408,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "pad_token_id": None,
}
FAMILIES: dict[str, tuple[Any, Any, dict[str, int]]] = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}),
    "mistral": (MistralForCausalLM, MistralConfig, {"head_dim": 64}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 64}),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig, {"head_dim": 64}),
    "phi3": (Phi3ForCausalLM, Phi3Config, {"hidden_size": 384}),  # heads of 96: 12, by which they are narrowed,
    "stablelm": (StableLmForCausalLM, StableLmConfig, {"hidden_size": 320}),  # or 10, divides no 1408
}
DTYPES = [torch.float32, torch.bfloat16]
ROWS, LENGTH = 4, 128


class Live(TorchDispatchMode):
    """Counts the bytes that operations made and nobody has dropped yet, and the most there were."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.now = self.most = 0
        there = [tensor for weight in model.parameters() for tensor in (weight, weight.grad)]
        self.known = {tensor.untyped_storage()._cdata for tensor in there}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in self.known:
                storage = tensor.untyped_storage()
                place, size = storage._cdata, storage.nbytes()
                self.known.add(place)
                self.now += size
                weakref.finalize(storage, self._drop, place, size)
        self.most = max(self.most, self.now)
        return out

    def _drop(self, place: int, size: int) -> None:
        self.known.discard(place)
        self.now -= size


def build(family: str, num_layers: int, dtype: torch.dtype) -> tuple[Any, ModelMemory]:
    model_class, config_class, extra = FAMILIES[family]
    model = model_class(config_class(num_hidden_layers=num_layers, **{**SHAPE, **extra})).to(dtype).eval()
    num = sum(weight.numel() for weight in model.parameters())
    return model, ModelMemory.of(model.config, num, dtype)


@pytest.mark.parametrize("dtype", share(DTYPES, 1), ids=str)
@pytest.mark.parametrize("recomputes", [False, True])
@pytest.mark.parametrize("family", share(FAMILIES, 1))
def test_a_backward_pass_takes_what_was_told(family: str, recomputes: bool, dtype: torch.dtype) -> None:
    model, told = build(family, 6, dtype)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    ids_BT = torch.randint(0, 100, (ROWS, LENGTH + 1), generator=torch.Generator().manual_seed(0))
    mask_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
    mask_BT[:, 1:] = True
    mode: AbstractContextManager[Any] = recomputing_layers(model, family) if recomputes else evaluating(model)
    with mode, Live(model) as live:
        (-score_rows(model, ids_BT, mask_BT).lp_BT.sum()).backward()  # type: ignore[no-untyped-call]
    num = ROWS * LENGTH
    ratio = live.most / (told.activations(num, recomputes=recomputes) + told.logits(num))
    assert 0.7 < ratio < 1.02, (live.most, told)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_learner_keeps_what_was_told(dtype: Any) -> None:
    config = PolicyConfig(dtype=dtype)
    policy = random_policy()
    policy.model.to(getattr(torch, dtype))
    learner = Learner(policy, LearnerConfig().resolved(config))
    told = ModelMemory.of(policy.model.config, policy.num_parameters, policy.dtype)
    learner.optimizer.step(0.0)
    state = learner.optimizer.state().tensors
    kept = [*learner.optimizer.masters.values(), *(one.grad for one in learner.optimizer.masters.values())]
    kept += [moment for name, moment in state.items() if "exp_avg" in name]
    own = {weight.untyped_storage().data_ptr() for weight in policy.model.parameters()}
    bytes_by_place = {one.untyped_storage().data_ptr(): one.nbytes for one in kept if one is not None}
    assert told.weights == sum(weight.nbytes for weight in policy.model.parameters())
    assert told.optimizer == sum(size for place, size in bytes_by_place.items() if place not in own)
    assert told.short_gradients == (told.weights if dtype == "bfloat16" else 0)


@pytest.mark.parametrize("num_tokens", [5000, 5120], ids=["padded", "even"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_draw_takes_what_was_told(num_tokens: int, dtype: torch.dtype) -> None:
    model, told = build("llama", 1, dtype)
    logits_RV = torch.randn(16, num_tokens).to(dtype)
    uniform_R = torch.rand(16, dtype=torch.float64)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    with Live(model) as live:
        lp_RV = log_distribution(logits_RV, Sampling())
        prob_RV = lp_RV.exp()
        draw(prob_RV, uniform_R)
        entropy_of(lp_RV, prob_RV)
    told = replace(told, vocabulary=num_tokens)
    assert 0.7 < (live.most + logits_RV.nbytes) / told.drawing(16) < 1.02


@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral"])
def test_keys_and_values_take_what_was_told(family: str) -> None:
    model, told = build(family, 3, torch.float32)
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(input_ids=torch.zeros(2, 50, dtype=torch.long), past_key_values=cache)
    assert told.cache(100) == sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


@pytest.mark.parametrize(
    "options", [{"multi_query": True}, {"multi_query": False}, {"new_decoder_architecture": True, "num_kv_heads": 2}]
)
def test_keys_and_values_are_those_of_the_heads_that_a_model_makes(options: dict[str, Any]) -> None:
    """Falcon says them in words of its own."""
    config = FalconConfig(hidden_size=256, num_attention_heads=4, vocab_size=128, num_hidden_layers=3, **options)
    told = ModelMemory.of(config, 1, torch.float32)
    model, cache = FalconForCausalLM(config).eval(), DynamicCache(config=config)
    with torch.no_grad():
        model(input_ids=torch.zeros(2, 50, dtype=torch.long), past_key_values=cache)
    assert told.cache(100) == sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


def test_a_model_is_told_by_its_configuration_alone(tmp_path: Path) -> None:
    """Qwen2.5-3B: 3.09e9 weights, 36,864 bytes of keys and values a token in bfloat16."""
    Qwen2Config(
        vocab_size=151_936,
        hidden_size=2048,
        intermediate_size=11_008,
        num_hidden_layers=36,
        num_attention_heads=16,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    ).save_pretrained(tmp_path)
    told = describe_memory(PolicyConfig(model=str(tmp_path), dtype="bfloat16"))
    assert (told.num_parameters, told.cache_bytes) == (3_085_938_688, 36_864)
    assert told.weights + told.optimizer + told.short_gradients == 20 * told.num_parameters


LONG_ROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 48, "long_factor": [2.0] * 48}


@pytest.mark.parametrize("dtype", share(DTYPES, 1), ids=str)
@pytest.mark.parametrize(
    "config",
    [
        *[config_class(**{**SHAPE, **extra}) for _, config_class, extra in FAMILIES.values()],
        Phi3Config(**{**SHAPE, "hidden_size": 384}, rope_parameters={**LONG_ROPE, "factor": 32.0}),
        Phi3Config(**{**SHAPE, "hidden_size": 512}, rope_parameters={**LONG_ROPE, "partial_rotary_factor": 0.75}),
        *[LlamaConfig(**{**SHAPE, "hidden_size": 4 * head}) for head in (72, 88, 100)],
        FalconConfig(hidden_size=256, num_attention_heads=4, vocab_size=128),
    ],
    ids=lambda config: f"{config.model_type}-{config.hidden_size // config.num_attention_heads}",
)
def test_narrow_copies_tell_what_a_layer_of_the_whole_width_keeps(config: PreTrainedConfig, dtype: torch.dtype) -> None:
    one, two = (_kept_bytes(_narrow(config, [], 1, num), dtype) for num in (1, 2))
    assert ModelMemory.of(config, 1, dtype).layer_bytes == pytest.approx((two - one) / NARROW_TOKENS, rel=1e-9)


@pytest.mark.parametrize(
    ("config", "layer_bytes"), [(Phi3Config(), 157_832), (StableLmConfig(), 101_512), (LlamaConfig(), 186_504)]
)
def test_what_a_layer_of_known_models_keeps(config: PreTrainedConfig, layer_bytes: int) -> None:
    """Phi-3-mini, StableLM-3B, Llama-7B: counted in bfloat16, the last one before others could be told."""
    assert ModelMemory.of(config, 1, torch.bfloat16).layer_bytes == layer_bytes


def test_what_cannot_be_told_is_said() -> None:
    with pytest.raises(PolicyError, match="the memory of a PreTrainedConfig cannot be told beforehand"):
        ModelMemory.of(PreTrainedConfig(), 1, torch.float32)
    with pytest.raises(
        PolicyError, match=r"latent vector is not reckoned with here. Plan without it: leave --plan out"
    ):
        ModelMemory.of(DeepseekV3Config(), 1, torch.float32)
