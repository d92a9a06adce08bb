from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    CohereConfig,
    CohereForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from policies.forward import EntropyMode, Reduction, Scored, score_rows
from policies.micro_batches import Costs, MicroBatcher, SharedOpenings, score_micro
from policies.objectives.contracts import Batch, Trajectory
from policies.objectives.padding import pad
from policies.shared_prompts import can_share
from tests.policies.fakes import random_trajectories
from tests.shares import share

VOCABULARY = 40
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
ENDS = {"bos_token_id": None, "eos_token_id": None}


def llama(attention: str = "sdpa", **options: Any) -> Any:
    shape = {"num_key_value_heads": 2, "initializer_range": 0.1, **SHAPE, **ENDS, **options}
    return LlamaForCausalLM._from_config(LlamaConfig(**shape), attn_implementation=attention)


def gpt2() -> Any:
    """Learned positions: one past the last has no weight."""
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=32, **ENDS))


MODELS = {
    "tied": lambda: llama(tie_word_embeddings=True),
    "untied": lambda: llama(tie_word_embeddings=False, num_key_value_heads=4),
    "eager": lambda: llama("eager", tie_word_embeddings=True),
    "qwen2": lambda: Qwen2ForCausalLM(
        Qwen2Config(num_key_value_heads=1, initializer_range=0.1, tie_word_embeddings=True, **SHAPE)
    ),
    "gpt2": gpt2,
}


def made(make: Any, dtype: torch.dtype = torch.float64) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().to(dtype).eval()


def batch_of(seed: int = 0, **options: Any) -> Batch:
    return pad(random_trajectories(VOCABULARY, seed=seed, **options))


def scored_shared(
    model: Any, batch: Batch, most_tokens: int, forward_tokens: int = 40, entropy: EntropyMode = "grad"
) -> list[tuple[Tensor, Batch, Scored]]:
    """Score all rows by shared prompts, a micro-batch after the other."""
    cutter = MicroBatcher(SharedOpenings.of(batch), most_tokens, Costs(forward_tokens, 1.0))
    found = []
    for micro in cutter.shared(np.arange(len(batch.length_B))):
        assert micro.sharing is not None
        rows = batch.take(micro.rows)
        scored = score_micro(model, rows, micro, Reduction(0.7, entropy))
        found.append((micro.rows, rows, scored))
    return found


def weighed(scored: Scored, weight_BT: Tensor) -> Tensor:
    """A loss in which every token counts for something else, through both of its numbers."""
    assert scored.entropy_BT is not None
    return (scored.lp_BT * weight_BT).sum() + (scored.entropy_BT * weight_BT.sin()).sum()


def gradient(model: Any, losses: list[Tensor]) -> Tensor:
    model.zero_grad()
    for loss in losses:
        loss.backward()  # type: ignore[no-untyped-call]
    return torch.cat([weight.grad.flatten() for weight in model.parameters()])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("most_tokens", "forward_tokens"),
    share([(10_000, 0), (10_000, 40), (10_000, 10_000), (70, 0), (70, 40), (1, 0)], 3),
)
def test_the_gradient_is_that_of_whole_rows(name: str, most_tokens: int, forward_tokens: int) -> None:
    model = made(MODELS[name])
    batch = batch_of(seed=most_tokens % 7 + forward_tokens % 3)
    weight_BT = torch.randn(batch.mask_BT.shape, generator=torch.Generator().manual_seed(1)).double()
    whole = score_rows(model, batch.ids_BT, batch.mask_BT, 0.7, "grad")
    expected = gradient(model, [weighed(whole, weight_BT * batch.mask_BT)])
    found = gradient(
        model,
        [
            weighed(scored, (weight_BT * batch.mask_BT)[rows, : scored.lp_BT.shape[1]])
            for rows, _, scored in scored_shared(model, batch, most_tokens, forward_tokens)
        ],
    )
    # the library rounds norms and rotary angles to float32, whatever the dtype
    assert float((found - expected).norm()) < 1e-6 * float(expected.norm())


@pytest.mark.parametrize("name", MODELS)
def test_log_probs_and_entropies_are_those_of_whole_rows(name: str) -> None:
    model = made(MODELS[name], torch.float32)
    batch = batch_of()
    with torch.no_grad():
        whole = score_rows(model, batch.ids_BT, batch.mask_BT, 0.7, "value")
        assert whole.entropy_BT is not None
        for rows, _, scored in scored_shared(model, batch, 200, entropy="value"):
            assert scored.entropy_BT is not None
            width = scored.lp_BT.shape[1]
            torch.testing.assert_close(scored.lp_BT, whole.lp_BT[rows, :width], atol=1e-6, rtol=1e-6)
            torch.testing.assert_close(scored.entropy_BT, whole.entropy_BT[rows, :width], atol=1e-6, rtol=1e-6)


def test_answers_of_one_token_take_no_second_forward() -> None:
    model = made(MODELS["tied"])
    batch = batch_of()
    batch.mask_BT[:] &= batch.mask_BT.cumsum(1) == 1
    ((_, rows, scored),) = scored_shared(model, batch, 10_000, entropy="none")
    (micro,) = MicroBatcher(SharedOpenings.of(batch), 10_000).shared(np.arange(len(batch.length_B)))
    assert micro.num_forwards == 1
    assert scored.entropy_BT is None
    whole = score_rows(model, rows.ids_BT, rows.mask_BT, 0.7)
    torch.testing.assert_close(scored.lp_BT, whole.lp_BT, atol=1e-6, rtol=1e-6)


def test_a_short_answer_to_the_longest_prompt_may_end_before_its_part_does() -> None:
    model = made(MODELS["gpt2"])
    rows = [(30, 2), (30, 1), (3, 12), (3, 2)]  # tokens of prompt and answer; the model has 32 positions
    batch = pad(
        [
            Trajectory(np.arange(p + a) % 7, np.arange(p + a) >= p, np.zeros(p + a, np.float32), None, 0.0, 0)
            for p, a in rows
        ]
    )
    ((order, _, scored),) = scored_shared(model, batch, 10_000, 10_000)
    whole = score_rows(model, batch.ids_BT, batch.mask_BT, 0.7).lp_BT
    torch.testing.assert_close(scored.lp_BT, whole[order], atol=1e-6, rtol=1e-6)


def test_what_the_padding_holds_is_not_read() -> None:
    model = made(MODELS["tied"])
    batch = batch_of()
    padding_BT = torch.arange(batch.ids_BT.shape[1]) >= batch.length_B[:, None]
    before = scored_shared(model, batch, 10_000)
    batch.ids_BT[padding_BT] = 7
    after = scored_shared(model, batch, 10_000)
    for (_, _, a), (_, _, b) in zip(before, after, strict=True):
        assert torch.equal(a.lp_BT, b.lp_BT)


@pytest.mark.parametrize(
    ("make", "can"),
    [
        *((MODELS[name], True) for name in MODELS),
        (lambda: MistralForCausalLM(MistralConfig(num_key_value_heads=2, sliding_window=8, **SHAPE)), False),
        (lambda: CohereForCausalLM(CohereConfig(**SHAPE)), False),  # it scales its logits
        (
            lambda: BloomForCausalLM(BloomConfig(hidden_size=32, n_layer=1, n_head=2)),
            False,
        ),  # takes no positions
        (lambda: llama("flex_attention"), False),
    ],
)
def test_models_whose_prompts_can_be_read_apart(make: Any, can: bool) -> None:
    assert can_share(made(make)) is can
