"""The pass over frozen rows, on small models of several architectures."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from policies import forward
from policies.errors import PolicyError
from policies.forward import score_rows
from policies.interventions import redo
from policies.interventions.contracts import Row
from policies.layers import decoder_layers, down_projections
from policies.plasticity import dormant, frozen_pass, ranks
from policies.plasticity.drift import Kept
from policies.plasticity.frozen_rows import FrozenRows
from policies.plasticity.linear_probe import last_hidden_states
from policies.plasticity.weights import EMBEDDING, MATRICES, VECTOR, WHOLE, saved_weights, weight_sums

VOCABULARY, WIDTH, UNITS, LAYERS = 97, 16, 24, 2
GATED = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": UNITS,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
MADE: dict[str, tuple[Any, Any]] = {
    "llama": (LlamaForCausalLM, LlamaConfig(**GATED)),
    "qwen2, tied": (Qwen2ForCausalLM, Qwen2Config(**GATED, tie_word_embeddings=True)),
    "gpt2": (
        GPT2LMHeadModel,
        GPT2Config(vocab_size=VOCABULARY, n_positions=64, n_embd=WIDTH, n_layer=LAYERS, n_head=2, n_inner=UNITS),
    ),
    "opt": (
        OPTForCausalLM,
        OPTConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            word_embed_proj_dim=WIDTH,
            num_hidden_layers=LAYERS,
            ffn_dim=UNITS,
            max_position_embeddings=64,
            num_attention_heads=2,
        ),
    ),
    "gemma3, with images": (
        Gemma3ForConditionalGeneration,
        Gemma3Config(
            text_config={**GATED, "head_dim": 8},
            vision_config={
                "hidden_size": 8,
                "intermediate_size": 12,
                "num_hidden_layers": LAYERS,
                "num_attention_heads": 1,
                "image_size": 28,
            },
            mm_tokens_per_image=4,
        ),
    ),
    "mixtral": (MixtralForCausalLM, MixtralConfig(**GATED, num_local_experts=2)),
}


def made(name: str, dtype: torch.dtype = torch.float32) -> Any:
    kind, config = MADE[name]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return kind(config).to(dtype).train()


def frozen(ranked: int = 0) -> FrozenRows:
    rng = np.random.default_rng(0)

    def prompt() -> list[tuple[np.ndarray, np.ndarray]]:
        start, opening = int(rng.integers(2, 9)), rng.integers(0, VOCABULARY, 9)
        answers = [rng.integers(0, VOCABULARY, rng.integers(1, 7)) for _ in range(2)]
        rows = [np.concatenate([opening[:start], answer]) for answer in answers]
        return [(ids, np.arange(len(ids)) >= start) for ids in rows]

    played = {name: [prompt() for _ in range(20)] for name in ("a", "b")}
    return FrozenRows.take(played, prompts=6, responses=2, positions=40, ranked=ranked)


def looked(model: Any, rows: FrozenRows, before: dict[str, Kept] | None = None, micro: int = 64) -> Any:
    layers = list(decoder_layers(model).values())
    return frozen_pass.run(
        model,
        rows,
        micro_tokens=micro,
        keep=VOCABULARY,
        before=before or {},
        projections=down_projections(model) or (),
        layers={number: layers[number] for number in ranks.measured_layers(len(layers))},
    )


@pytest.mark.parametrize("name", ["llama", "qwen2, tied", "gpt2", "opt"])
def test_one_pass_finds_what_row_by_row_reading_finds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = made(name), frozen(ranked=2 * WIDTH)
    monkeypatch.setattr(forward, "CHUNK_ELEMENTS", 5 * VOCABULARY)
    state = torch.get_rng_state()
    found = looked(model, rows)
    assert model.training, "its mode is what it was"
    assert torch.equal(torch.get_rng_state(), state)
    assert all(not layer._forward_hooks and not layer._forward_pre_hooks for layer in model.modules())
    assert all(weight.grad is None for weight in model.parameters())
    model.eval()
    start = 0
    entropies, units, features = [], [], []
    projections = down_projections(model)
    assert projections is not None
    assert len(projections) == LAYERS
    heard: list[Any] = []
    hook = projections[1].register_forward_pre_hook(lambda module, inputs: heard.append(inputs[0]))
    for length, is_ranked in zip(rows.length_R, rows.is_ranked_R, strict=True):
        ids = torch.from_numpy(rows.ids_L[start : start + length].astype(np.int64))[None]
        mask = torch.from_numpy(rows.mask_L[start : start + length])[None]
        with torch.no_grad():
            hidden = model(input_ids=ids, output_hidden_states=True).hidden_states
        own = heard.pop().view(1, length, UNITS)[0]
        if mask.any():
            entropies.append(float(score_rows(model, ids, mask, entropy="value").entropy_BT.sum()))
            heard.clear()
            units.append(own[(mask[0].nonzero()[:, 0] - 1)])
        else:
            entropies.append(0.0)
        if is_ranked:
            last = int(mask[0].int().argmax()) - 1 if mask.any() else length - 1
            features.append(hidden[1][0, last])
        start += length
    hook.remove()
    np.testing.assert_allclose(found.entropy_R, entropies, atol=1e-4)
    torch.testing.assert_close(found.units.means()[1].float(), torch.cat(units).abs().mean(0), atol=1e-5, rtol=1e-4)
    gram = ranks.Gram()
    gram.add(torch.stack(features))
    assert found.grams[0].num == gram.num == 2 * WIDTH
    torch.testing.assert_close(found.grams[0].singular_values(), gram.singular_values(), atol=1e-3, rtol=1e-4)
    numbers = dormant.numbers(found.units.means(), [dormant.output_norms(one) for one in projections])
    assert {layer for _, layer in numbers} == {-1, 0, 1}


def test_drift_is_0_of_the_same_policy_and_that_of_another_is_found_however_the_rows_are_cut() -> None:
    model, rows = made("llama"), frozen()
    first = looked(model, rows)
    same = looked(model, rows, {"base": first.now}, micro=7)
    assert same.drifts["base"].kl_P.max() < 1e-6
    assert not same.drifts["base"].flipped_P.any()
    with torch.no_grad():
        model.lm_head.weight.mul_(40)
    moved = looked(model, rows, {"base": first.now}).drifts["base"]
    assert len(moved.kl_P) == rows.num_followed == len(first.now.ids)
    assert moved.kl_P.min() > 1e-3
    assert not moved.flipped_P.any(), "sharper, and the order is the same"


def test_short_weights_are_reduced_in_float32() -> None:
    rows = frozen()
    short, full = (looked(made("llama", dtype), rows) for dtype in (torch.bfloat16, torch.float32))
    assert short.now.lp.dtype == torch.float32
    np.testing.assert_allclose(short.entropy_R, full.entropy_R, rtol=1e-2)


def test_experts_are_not_taken_for_an_mlp() -> None:
    model = made("mixtral")
    assert down_projections(model) is None
    assert len(decoder_layers(model)) == LAYERS
    assert looked(model, frozen()).entropy_R.sum() > 0
    with pytest.raises(PolicyError, match="redo does not know the units of mixtures of experts"):
        redo.mlps_of(model)


@torch.no_grad()
def test_of_a_model_that_sees_only_what_reads_text_is_looked_at() -> None:
    model, rows = made("gemma3, with images").eval(), frozen(ranked=2 * WIDTH)
    assert [*decoder_layers(model)] == [f"model.language_model.layers.{number}" for number in range(LAYERS)]
    assert looked(model, rows).units.means()[0].shape == (UNITS,)
    mlps = redo.mlps_of(model)
    assert [mlp.outgoing for mlp in mlps] == [f"{layer}.mlp.down_proj" for layer in decoder_layers(model)]
    row = Row(np.array([1, 2, 3, 4]), np.array([False, False, True, True]))
    assert all(activity_U.all() for activity_U in redo.mean_activity(model, mlps, [row]))
    policy: Any = SimpleNamespace(model=model, device=torch.device("cpu"), pad_id=0)
    assert last_hidden_states(policy, [(5, 6, 7)])["middle"].shape == (1, WIDTH)


@pytest.mark.parametrize("name", ["qwen2, tied", "gpt2", "llama"])
def test_weights_are_compared_with_saved_ones_a_tensor_at_a_time(tmp_path: Path, name: str) -> None:
    model = made(name)
    model.save_pretrained(tmp_path, max_shard_size="8KB")  # several files
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    before = {key: weight.detach().clone() for key, weight in model.named_parameters()}
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1)
    with saved_weights(tmp_path, model) as read:
        found = weight_sums(model, read)
    assert not found.missing
    assert {kind for kind, _ in found.places} == {MATRICES, EMBEDDING, VECTOR}
    assert {layer for kind, layer in found.places if kind == MATRICES} == {WHOLE, 0, 1}
    squared = sum(float(weight.double().square().sum()) for weight in before.values())
    apart = sum(found.places[kind, WHOLE].before for kind in (MATRICES, EMBEDDING, VECTOR))
    assert apart == pytest.approx(squared), "every weight once"
    num = sum(weight.numel() for weight in before.values())
    moved = sum(found.places[kind, WHOLE].difference for kind in (MATRICES, EMBEDDING, VECTOR))
    assert moved == pytest.approx(0.01 * num, rel=1e-3)
    with saved_weights(tmp_path, model) as read:
        other = LlamaForCausalLM(LlamaConfig(**{**GATED, "intermediate_size": 32}))
        assert weight_sums(other, read).missing
