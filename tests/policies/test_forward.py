from __future__ import annotations

import math
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
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
from policies.forward import (
    FILTERED_OUT,
    EntropyMode,
    Reduction,
    Scored,
    call,
    evaluating,
    features_of,
    filtered,
    head_of,
    nucleus_entropy,
    score_features,
    score_rows,
)
from policies.samplers.testing import random_policy
from tests.policies.fakes import random_batch
from tests.shares import share

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


REDUCTIONS = {
    "all": Reduction(0.7, "grad"),
    "nucleus": Reduction(0.7, "grad", nucleus=0.8, kappa=0.05),
}


def scored(reduction: Reduction) -> Scored:
    features_NF, place_N = features_of(POLICY.model, BATCH.ids_BT, BATCH.mask_BT)
    return score_features(POLICY.model, features_NF, place_N, BATCH.ids_BT, reduction)


def gradient(reduction: Reduction) -> list[Tensor]:
    POLICY.model.zero_grad()
    found = scored(reduction)
    assert found.entropy_BT is not None
    (found.lp_BT.sum() + found.entropy_BT.sum()).backward()
    return [p.grad.clone() for p in POLICY.model.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", REDUCTIONS)
def test_large_logits_reduced_in_chunks_give_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, found = gradient(REDUCTIONS[name]), scored(REDUCTIONS[name])
    monkeypatch.setattr(forward, "CHUNK_ELEMENTS", 5 * len(POLICY.tokenizer))
    for a, b in zip(whole, gradient(REDUCTIONS[name]), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    for a, b in zip(found.tensors, scored(REDUCTIONS[name]).tensors, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("chunk", [1 << 30, 5])
@pytest.mark.parametrize("entropy", ["none", "value"])
def test_the_gradient_of_a_large_vocabulary_is_autograds_own(
    entropy: EntropyMode, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log-probs are the same to the bit, the gradient to rounding."""

    def found() -> tuple[Tensor, list[Tensor]]:
        POLICY.model.zero_grad()
        lp_BT = scored(Reduction(0.7, entropy)).lp_BT
        (lp_BT * torch.linspace(-1, 1, lp_BT.numel()).view_as(lp_BT)).sum().backward()  # type: ignore[no-untyped-call]
        return lp_BT, [p.grad.clone() for p in POLICY.model.parameters() if p.grad is not None]

    lp_BT, gradients = found()
    monkeypatch.setattr(forward, "LARGE_VOCABULARY", 1)
    monkeypatch.setattr(forward, "CHUNK_ELEMENTS", chunk * len(POLICY.tokenizer))
    own_BT, own = found()
    if chunk > 5:
        assert torch.equal(own_BT, lp_BT)
    torch.testing.assert_close(own_BT, lp_BT, atol=1e-5, rtol=1e-5)
    for a, b in zip(own, gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_a_second_backward_pass_over_a_large_vocabulary_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its log-probs have been written over: an error, not another gradient."""
    monkeypatch.setattr(forward, "LARGE_VOCABULARY", 1)
    loss = scored(Reduction()).lp_BT.sum()
    loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()  # type: ignore[no-untyped-call]


P_TAIL = [0.6, 0.3, 0.085, 0.012, 0.003]
PROXY = [0.601805, 0.300903, 0.085256, 0.012036]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_probs_after_the_filter(dtype: torch.dtype) -> None:
    """The threshold is .012, and the token with p = .012 stays, whatever its log-prob rounds to."""
    lp_NV = torch.tensor([P_TAIL] * 5, dtype=dtype).log()
    lp_NV = lp_NV.log_softmax(-1) + torch.tensor([0, 1e-6, -1e-6, 0, 0], dtype=dtype)[:, None]
    found = filtered(lp_NV, lp_NV.diagonal(), 0.02)
    torch.testing.assert_close(found[:4].exp(), torch.tensor(PROXY, dtype=dtype), atol=3e-6, rtol=0)
    assert float(found[4]) == FILTERED_OUT


@pytest.mark.parametrize(
    ("probabilities", "mass", "expected"),
    [
        ([0.5, 0.25, 0.15, 0.07, 0.03], 0.8, 0.980990),
        ([0.03, 0.15, 0.5, 0.07, 0.25], 0.8, 0.980990),  # in any order
        ([0.5, 0.25, 0.15, 0.07, 0.03], 1.0, 1.269060),  # the whole
        (
            [0.5, 0.25, 0.15, 0.07, 0.03],
            0.75,
            0.636514,
        ),  # exactly full: also what the released code has at .8
        ([0.85, 0.1, 0.05], 0.8, 0.0),  # one token is enough
        ([0.25, 0.25, 0.25, 0.25], 0.6, 1.098612),  # ties: three of four, whichever they are
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_entropy_of_a_nucleus(probabilities: list[float], mass: float, expected: float, dtype: torch.dtype) -> None:
    lp_NV = torch.tensor([probabilities, probabilities], dtype=dtype).log()
    torch.testing.assert_close(nucleus_entropy(lp_NV, mass), torch.full((2,), expected, dtype=dtype), atol=1e-6, rtol=0)


def test_the_gradient_of_a_nucleus_entropy_is_that_of_its_own_distribution() -> None:
    """The nucleus is fixed, and tokens outside get nothing; also where all but one probability is 0."""
    logits_NV = torch.randn(6, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4
    logits_NV[5, 1:] = -math.inf
    logits_NV.requires_grad_()
    (found,) = torch.autograd.grad((nucleus_entropy(logits_NV.log_softmax(-1), 0.9) * 50).sum(), logits_NV)
    expected = torch.zeros_like(found)
    for n, row_V in enumerate(logits_NV.detach()):
        p_V, order = row_V.softmax(-1).sort(descending=True)
        num = int((p_V.cumsum(-1) < 0.9).sum()) + 1
        lq_K = row_V[order[:num]].log_softmax(-1)
        expected[n, order[:num]] = -50 * lq_K.exp() * (lq_K - (lq_K.exp() * lq_K).sum())
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)


def test_a_nucleus_has_no_more_than_ten_thousand_tokens() -> None:
    lp_NV = torch.zeros(2, 30_000).log_softmax(-1)
    torch.testing.assert_close(nucleus_entropy(lp_NV, 0.8), torch.full((2,), math.log(10_000)))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_nuclei_and_filtered_log_probs_are_those_of_each_token_alone(temperature: float) -> None:
    with torch.no_grad():
        found = scored(Reduction(temperature, "value", nucleus=0.8, kappa=0.05))
        assert found.entropy_BT is not None
        assert found.lp_proxy_BT is not None
        for b, t in BATCH.mask_BT.nonzero().tolist():
            logits_V = POLICY.model(BATCH.ids_BT[b : b + 1, :t]).logits[0, -1].double() / temperature
            p_V = logits_V.softmax(-1).sort(descending=True).values
            inside_K = p_V[: int((p_V.cumsum(-1) < 0.8).sum()) + 1]
            entropy = torch.distributions.Categorical(probs=inside_K).entropy()
            own = float(logits_V.softmax(-1)[BATCH.ids_BT[b, t]])
            kept = own >= 0.05 * float(p_V[0])
            proxy = math.log(own / float(p_V[p_V >= 0.05 * p_V[0]].sum())) if kept else FILTERED_OUT
            assert float(found.entropy_BT[b, t]) == pytest.approx(float(entropy), abs=1e-5)
            assert float(found.lp_proxy_BT[b, t]) == pytest.approx(proxy, abs=1e-5)


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
def test_a_large_vocabulary_is_never_kept_for_all_tokens(entropy: EntropyMode, monkeypatch: pytest.MonkeyPatch) -> None:
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
            loss = scored.lp_BT.sum() if scored.entropy_BT is None else (scored.lp_BT + scored.entropy_BT).sum()
        chunk_bytes = min(most, num_tokens * vocabulary) * 4
        own = sum(size for size in kept.sizes.values() if size != vocabulary * 16 * 4)  # without the head's weights
        assert chunk_bytes <= own < 3.5 * chunk_bytes, "one chunk, and what is made of it"
        loss.backward()  # type: ignore[no-untyped-call]
        found.append(torch.cat([weight.grad.flatten() for weight in model.parameters()]))
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=1e-5)


class Held(TorchDispatchMode):
    """Counts the bytes of all that operations made and something still holds, the backward's included."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[int, tuple[int, int]] = {}  # by storage: its bytes, and how many tensors are views of it
        self.most = self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(output):
            if isinstance(leaf, Tensor) and all(leaf is not one for one in tree_leaves(args)):
                self._hold(leaf)
        self.most = max(self.most, sum(size for size, _ in self.held.values()))
        return output

    def _hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        at, size = storage.data_ptr(), storage.nbytes()
        self.held[at] = (size, self.held.get(at, (0, 0))[1] + 1)
        self.largest = max(self.largest, size)
        weakref.finalize(tensor, self._let_go, at)

    def _let_go(self, at: int) -> None:
        size, num = self.held.pop(at)
        if num > 1:
            self.held[at] = (size, num - 1)


@pytest.mark.parametrize(
    ("num_rows", "reduction"),
    share(
        [
            (1, Reduction(entropy="grad", nucleus=0.5, kappa=0.02)),
            (16, Reduction(entropy="grad")),
            (16, Reduction(entropy="value")),
        ],
        1,
    ),
)
def test_a_vocabulary_of_152_000_is_reduced_in_bounded_memory(
    num_rows: int, reduction: Reduction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2,048 tokens: their logits would be 75 chunks; seven are ever held, the backward's included."""
    vocabulary = 152_000
    model = small(LlamaForCausalLM, LlamaConfig, vocab_size=vocabulary, initializer_range=0.5)
    ids_BT = torch.randint(0, vocabulary, (num_rows, 129), generator=torch.Generator().manual_seed(0))
    mask_BT = torch.arange(129).expand(num_rows, 129) > 0
    monkeypatch.setattr(forward, "CHUNK_ELEMENTS", 1 << 22)
    with Held() as held, torch.set_grad_enabled(reduction.entropy == "grad"):
        features_NF, place_N = features_of(model, ids_BT, mask_BT)
        found = score_features(model, features_NF, place_N, ids_BT, reduction)
        if reduction.entropy == "grad":
            sum(kind.sum() for kind in found.tensors).backward()  # type: ignore[union-attr]
    chunk_bytes = 4 << 22
    assert held.largest <= chunk_bytes
    assert held.most < 8 * chunk_bytes + (reduction.nucleus is not None) * 4 * chunk_bytes
    monkeypatch.undo()
    some = torch.cat([place_N[:40], place_N[-40:]])
    with torch.no_grad():
        features_NF = torch.cat([features_NF[:40], features_NF[-40:]])
        whole = score_features(model, features_NF, some, ids_BT, reduction)
    for chunked_BT, whole_BT in zip(found.tensors, whole.tensors, strict=True):
        torch.testing.assert_close(chunked_BT.flatten()[some], whole_BT.flatten()[some])


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
