from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    BertConfig,
    BertLMHeadModel,
    CohereConfig,
    CohereForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MiniCPM3Config,
    MiniCPM3ForCausalLM,
)

from policies import forward
from policies.forward import EntropyMode, call, evaluating, head_of, score_rows
from policies.samplers.testing import random_policy
from tests.policies.fakes import random_batch

POLICY = random_policy()
BATCH = random_batch(len(POLICY.tokenizer))


def naive(ids_BT: Tensor, mask_BT: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probs and entropies, one row and one token at a time, in float64."""
    lp_BT, entropy_BT = (torch.zeros(mask_BT.shape, dtype=torch.float64) for _ in range(2))
    for b, t in mask_BT.nonzero().tolist():
        logits_V = POLICY.model(ids_BT[b : b + 1, :t]).logits[0, -1].double() / temperature
        lp_BT[b, t] = logits_V.log_softmax(-1)[ids_BT[b, t]]
        entropy_BT[b, t] = torch.distributions.Categorical(logits=logits_V).entropy()
    return lp_BT, entropy_BT


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_and_entropies_are_those_of_each_token_alone(temperature: float) -> None:
    with torch.no_grad():
        expected_lp, expected_entropy = naive(BATCH.ids_BT, BATCH.mask_BT, temperature)
        scored = score_rows(POLICY.model, BATCH.ids_BT, BATCH.mask_BT, temperature, "value")
    assert scored.entropy_BT is not None
    torch.testing.assert_close(scored.lp_BT.double(), expected_lp, atol=1e-5, rtol=0)
    torch.testing.assert_close(scored.entropy_BT.double(), expected_entropy, atol=1e-5, rtol=0)


def test_what_the_padding_holds_is_not_read() -> None:
    padding = torch.arange(BATCH.ids_BT.shape[1]) >= BATCH.length_B[:, None]
    other = BATCH.ids_BT.masked_fill(padding, 3)
    with torch.no_grad():
        a, b = (score_rows(POLICY.model, ids, BATCH.mask_BT).lp_BT for ids in (BATCH.ids_BT, other))
    assert torch.equal(a, b)


def test_entropy_has_a_gradient_only_when_asked() -> None:
    value = score_rows(POLICY.model, BATCH.ids_BT, BATCH.mask_BT, entropy="value")
    grad = score_rows(POLICY.model, BATCH.ids_BT, BATCH.mask_BT, entropy="grad")
    assert value.entropy_BT is not None
    assert not value.entropy_BT.requires_grad
    assert grad.entropy_BT is not None
    assert grad.entropy_BT.requires_grad
    assert score_rows(POLICY.model, BATCH.ids_BT, BATCH.mask_BT).entropy_BT is None


def test_rows_without_policy_tokens_give_zeros() -> None:
    scored = score_rows(POLICY.model, BATCH.ids_BT, torch.zeros_like(BATCH.mask_BT), entropy="grad")
    assert scored.entropy_BT is not None
    assert not scored.lp_BT.any()
    assert not scored.entropy_BT.any()


def gradient(**options: object) -> list[Tensor]:
    POLICY.model.zero_grad()
    scored = score_rows(POLICY.model, BATCH.ids_BT, BATCH.mask_BT, 0.7, "grad")
    assert scored.entropy_BT is not None
    (scored.lp_BT.sum() + scored.entropy_BT.sum()).backward()
    return [p.grad.clone() for p in POLICY.model.parameters() if p.grad is not None]


def test_large_logits_reduced_in_chunks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gradient()
    monkeypatch.setattr(forward, "CHUNK_ELEMENTS", 5 * len(POLICY.tokenizer))
    for a, b in zip(whole, gradient(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


LLAMA = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 2, "bos_token_id": None, "eos_token_id": None}


def small(model: Any, config: Any, **options: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model(config(**{**LLAMA, **HEADS, "pad_token_id": None, **options})).eval()


@pytest.mark.parametrize(
    ("model", "config", "options", "has_head"),
    [
        (LlamaForCausalLM, LlamaConfig, {}, True),
        (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": True}, True),
        (Gemma3ForCausalLM, Gemma3TextConfig, {"head_dim": 8}, True),
        (Gemma3ForCausalLM, Gemma3TextConfig, {"head_dim": 8, "final_logit_softcapping": 0.1}, False),
        (CohereForCausalLM, CohereConfig, {}, False),
        (CohereForCausalLM, CohereConfig, {"logit_scale": 1.0}, True),
        (GraniteForCausalLM, GraniteConfig, {"logits_scaling": 4.0}, False),
        (MiniCPM3ForCausalLM, MiniCPM3Config, {"dim_model_base": 4}, False),
        (BertLMHeadModel, BertConfig, {"is_decoder": True}, False),
    ],
)
def test_logits_are_the_models_own_whatever_it_does_to_them(
    model: Any, config: Any, options: dict[str, Any], has_head: bool
) -> None:
    """Where a model has more than one layer after its last hidden states, or scales what it finds, it does so here."""
    made = small(model, config, **options)
    ids, mask = BATCH.ids_BT % 40, BATCH.mask_BT
    assert (head_of(made) is not None) is has_head
    with torch.no_grad():
        found = score_rows(made, ids, mask, 0.7).lp_BT[mask]
        logits = made(ids, use_cache=False).logits[:, :-1].float() / 0.7
    expected = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0][mask[:, 1:]]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


class Kept:
    """How much a forward keeps for its backward: storages, each once."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}

    def __enter__(self) -> Kept:
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.pack, lambda tensor: tensor)
        self.hooks.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.hooks.__exit__(*exception)

    def pack(self, tensor: Tensor) -> Tensor:
        self.sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor


@pytest.mark.parametrize("entropy", ["none", "grad"])
def test_a_large_vocabulary_is_never_kept_for_all_tokens(
    entropy: EntropyMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary, num_tokens = 50_000, 128
    model = small(LlamaForCausalLM, LlamaConfig, vocab_size=vocabulary)
    ids_BT = torch.randint(0, vocabulary, (8, 17), generator=torch.Generator().manual_seed(0))
    mask_BT = torch.arange(17).expand(8, 17) > 0
    found = []
    for most in (1 << 30, 4 * vocabulary):
        monkeypatch.setattr(forward, "CHUNK_ELEMENTS", most)
        model.zero_grad()
        with Kept() as kept:
            scored = score_rows(model, ids_BT, mask_BT, 0.7, entropy)
            loss = (
                scored.lp_BT.sum() if scored.entropy_BT is None else (scored.lp_BT + scored.entropy_BT).sum()
            )
        logits_bytes = num_tokens * vocabulary * 4
        own = sum(
            size for size in kept.sizes.values() if size != vocabulary * 16 * 4
        )  # without the head's weights
        assert (own < logits_bytes / 50) is (most == 4 * vocabulary)
        loss.backward()  # type: ignore[no-untyped-call]
        found.append(torch.cat([weight.grad.flatten() for weight in model.parameters()]))
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=1e-5)


def test_log_probs_of_a_bfloat16_model_are_float32() -> None:
    model = random_policy().model.to(torch.bfloat16)
    with torch.no_grad():
        lp_BT = score_rows(model, BATCH.ids_BT, BATCH.mask_BT).lp_BT
        logits = model(BATCH.ids_BT).logits[:, :-1].float().log_softmax(-1)
    expected = logits.gather(-1, BATCH.ids_BT[:, 1:, None])[..., 0] * BATCH.mask_BT[:, 1:]
    assert lp_BT.dtype == torch.float32
    assert not torch.equal(lp_BT, lp_BT.to(torch.bfloat16).float())
    torch.testing.assert_close(lp_BT[:, 1:], expected, atol=1e-6, rtol=0)


def test_an_architecture_without_logits_to_keep_gives_the_same() -> None:
    class Old(GPT2LMHeadModel):  # type: ignore[misc]
        def forward(self, input_ids: Tensor, use_cache: bool = False) -> object:
            return super().forward(input_ids, use_cache=use_cache)

    with torch.random.fork_rng(devices=[]):
        model = Old(GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2)).eval()
    ids = torch.arange(12).view(2, 6)
    with torch.no_grad():
        kept = call(model, input_ids=ids, logits_to_keep=2, position_ids=None, use_cache=False).logits
        assert torch.equal(kept, GPT2LMHeadModel.forward(model, ids).logits[:, -2:])


def test_every_module_returns_to_its_own_mode() -> None:
    model = random_policy().model
    model.model.layers[1].train()
    before = [module.training for module in model.modules()]
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before
