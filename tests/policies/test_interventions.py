"""Interventions on models of a few weights: the numbers of plasticity.md 4, and units that are born again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from policies import adapters
from policies.config import AdapterConfig
from policies.errors import PolicyError
from policies.interventions import (
    average,
    base_fusion,
    merge_adapters,
    redo,
    reset_adapters,
    reset_optimizer,
    shrink_perturb,
)
from policies.interventions.conditions import parse
from policies.interventions.contracts import Intervention, Row, Subject
from policies.optimizer import Optimizer
from policies.samplers.testing import random_policy

NOW, OTHER = torch.tensor([3.0, 1.0]), torch.tensor([1.0, -1.0])


class Two(torch.nn.Module):
    """A model of two weights."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(NOW.to(dtype, copy=True))


def subject(model: Any, optimizer: Optimizer | None = None, rows: Sequence[Row] = (), seed: int = 0) -> Subject:
    return Subject(
        SimpleNamespace(model=model),
        optimizer or Optimizer(model, betas=(0.9, 0.99), weight_decay=0.0, clip_norm=1.0),
        lambda origin: {"w": OTHER if origin == "base" else -OTHER},
        lambda num: rows[:num],
        torch.Generator().manual_seed(seed),
    )


@torch.no_grad()
def changed(intervention: Intervention, model: Any) -> tuple[list[float], bool]:
    given = subject(model)
    change = intervention.apply(given)
    return model.w.tolist(), change.is_any


@pytest.mark.parametrize(
    ("intervention", "expected"),
    [
        (shrink_perturb.create(shrink_perturb.Config(keep=0.8)), [2.6, 0.6]),
        (shrink_perturb.create(shrink_perturb.Config(keep=0.8, towards="zero")), [2.4, 0.8]),
        (base_fusion.create(base_fusion.Config()), [2.0, 0.0]),
        (average.create(average.Config()), [1.0, 1.0]),
        (average.create(average.Config(of="base", share=0.75)), [2.5, 0.5]),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_mixed_as_the_reference_has_it(
    intervention: Intervention, expected: list[float], dtype: torch.dtype
) -> None:
    found, is_any = changed(intervention, Two(dtype))
    assert found == pytest.approx(expected, abs=1e-5 if dtype == torch.float32 else 1e-2)
    assert is_any


def test_the_float32_copies_of_short_weights_move_by_what_the_weights_cannot_show() -> None:
    model = Two(torch.bfloat16)
    given = subject(model)
    with torch.no_grad():
        shrink_perturb.create(shrink_perturb.Config(keep=0.9999)).apply(given)
    assert model.w.tolist() == [3.0, 1.0], "bfloat16 rounds it away"
    assert given.optimizer.masters["w"].tolist() == pytest.approx([2.9998, 0.9998], abs=1e-6)


@pytest.mark.parametrize(
    "intervention",
    [
        shrink_perturb.create(shrink_perturb.Config(keep=1)),
        base_fusion.create(base_fusion.Config(alpha=1)),
        average.create(average.Config(share=1)),
    ],
)
def test_keeping_all_is_nothing_bit_for_bit(intervention: Intervention) -> None:
    model = Two()
    with torch.no_grad():
        model.w[1] = -0.0
        given = subject(model)
        assert not intervention.apply(given).is_any
    assert model.w.detach().numpy().tobytes() == np.array([3.0, -0.0], np.float32).tobytes()


def test_noise_is_of_its_own_stream() -> None:
    noisy = shrink_perturb.create(shrink_perturb.Config(keep=1, noise=0.5))
    global_state = torch.random.get_rng_state()
    found = []
    for seed in (0, 0, 1):
        model = Two()
        given = subject(model, seed=seed)
        with torch.no_grad():
            assert noisy.apply(given).is_any
        found.append(model.w.tolist())
    assert found[0] == found[1] != found[2]
    assert torch.equal(torch.random.get_rng_state(), global_state)


def test_only_those_that_read_old_weights_say_so() -> None:
    reads = {
        "shrink": shrink_perturb.create(shrink_perturb.Config()).reads,
        "zero": shrink_perturb.create(shrink_perturb.Config(towards="zero")).reads,
        "average": average.create(average.Config()).reads,
    }
    assert reads == {"shrink": {"base"}, "zero": set(), "average": {"previous"}}


# --- ReDo -------------------------------------------------------------------------------------------------


def test_dormant_units_as_the_reference_counts_them() -> None:
    activity_U = torch.tensor([0.0, 0.01, 0.5, 1.49])
    assert redo.dormant_units(activity_U, 0.025).tolist() == [0, 1]
    assert redo.dormant_units(activity_U, 0.0).tolist() == [0]
    assert redo.dormant_units(torch.zeros(3), 0.0).tolist() == [0, 1, 2]


def llama() -> Any:
    """A gated MLP with units 1 and 3 of the first layer dead."""
    model = random_policy().model
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[[1, 3]] = 0
    return model


def gpt2() -> Any:
    """A plain MLP whose layers are written the other way round, with the same units dead."""
    with torch.random.fork_rng(devices=[]):
        model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_positions=32, n_embd=8, n_layer=2, n_head=2)).eval()
    with torch.no_grad():
        mlp = model.transformer.h[0].mlp
        mlp.c_fc.weight[:, [1, 3]], mlp.c_fc.bias[[1, 3]] = 0, 0
    return model


GATED, PLAIN = ("gate_proj", "up_proj", "down_proj"), ("c_fc.weight", "c_fc.bias", "c_proj.weight")
PLACES = {  # weight, dimension of its units
    llama: [(f"model.layers.0.mlp.{name}.weight", dim) for name, dim in zip(GATED, (0, 0, 1), strict=True)],
    gpt2: [(f"transformer.h.0.mlp.{name}", dim) for name, dim in zip(PLAIN, (1, 0, 0), strict=True)],
}
ROWS = [Row(np.array([1, 2, 3, 4, 5]), np.array([False, False, True, True, True])) for _ in range(2)]


def trained(model: Any) -> Optimizer:
    """An optimiser with moments, and weights as they were."""
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    optimizer = Optimizer(model, betas=(0.9, 0.99), weight_decay=0.0, clip_norm=1.0)
    for _ in range(3):
        for master in optimizer.masters.values():
            master.grad = torch.ones_like(master)
        optimizer.step(1e-3)
    with torch.no_grad():
        for name, one in model.named_parameters():
            one.copy_(before[name])
    return optimizer


@pytest.mark.parametrize("make", [llama, gpt2])
def test_dormant_units_are_born_again_and_the_function_stays(make: Any, tmp_path: Path) -> None:
    model = make()
    optimizer, ids = trained(model), torch.arange(1, 9)[None]
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    with torch.no_grad():
        logits = model(ids).logits
        change = redo.create(redo.Config(tau=1e-4)).apply(subject(model, optimizer, ROWS))
        assert torch.allclose(model(ids).logits, logits, atol=1e-6), "what they contributed was nothing"
    num_units = sum(mlp.num_units for mlp in redo.mlps_of(model))
    assert change.text == f"2 of {num_units:,} units are 0.0001-dormant, and born again"
    *incoming, (out, out_dim) = PLACES[make]
    now, others = dict(model.named_parameters()), torch.tensor([0, 2])
    dead = torch.tensor([1, 3])
    assert not now[out].index_select(out_dim, dead).any()
    for name, dim in incoming:
        reborn = now[name].index_select(dim, dead)
        assert bool(reborn.any()) == name.endswith("weight"), "drawn again; biases begin at 0"
    for name, dim in PLACES[make]:
        assert torch.equal(now[name].index_select(dim, others), before[name].index_select(dim, others))
        state = optimizer.adam.state[optimizer.masters[name]]
        assert float(state["step"]) == 0
        for moment in ("exp_avg", "exp_avg_sq"):
            assert not state[moment].index_select(dim, dead).any()
            assert state[moment].index_select(dim, others).all()
    touched = {name for name, _ in PLACES[make]}
    assert all(torch.equal(now[name], before[name]) for name in now.keys() - touched)
    # the counts are a part of the state
    optimizer.state().save(tmp_path)
    again = Optimizer(model, betas=(0.9, 0.99), weight_decay=0.0, clip_norm=1.0)
    again.load(tmp_path)
    steps = [
        {name: float(one.adam.state[master]["step"]) for name, master in one.masters.items()}
        for one in (optimizer, again)
    ]
    assert steps[0] == steps[1]
    assert {name for name, step in steps[0].items() if step == 0} == touched


def test_nothing_dormant_is_nothing_done() -> None:
    model = random_policy().model
    before = [one.detach().clone() for one in model.parameters()]
    with torch.no_grad():
        change = redo.create(redo.Config(tau=0)).apply(subject(model, trained(model), ROWS))
    assert not change.is_any
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_activity_is_that_of_the_tokens_that_the_policy_predicts() -> None:
    model = random_policy().model
    mlps = redo.mlps_of(model)
    seen: list[Tensor] = []
    hook = model.get_submodule(mlps[0].outgoing).register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    with torch.no_grad():
        found = redo.mean_activity(model, mlps, ROWS[:1])[0]
        model(torch.tensor([[1, 2, 3, 4, 5]]))
    hook.remove()
    assert torch.allclose(found, seen[-1][0, 1:4].abs().mean(0).double(), atol=1e-6)


def test_a_model_without_an_mlp_that_is_known_is_refused() -> None:
    with pytest.raises(PolicyError, match=r"redo finds no MLP that it knows in Two .*take shrink_perturb"):
        redo.create(redo.Config()).require_suited(Two())


def test_the_optimizer_is_reset_with_its_warm_up() -> None:
    model = Two()
    given = subject(model, trained(model))
    reset = reset_optimizer.create(reset_optimizer.Config())
    assert reset.apply(given).text == "moments of 3 updates forgotten"
    assert given.optimizer.num_updates == 0
    assert not given.optimizer.adam.state
    assert model.w.tolist() == NOW.tolist()
    assert not reset.apply(given).is_any, "there is nothing to forget"


@pytest.mark.parametrize("kind", [merge_adapters, reset_adapters])
def test_adapters_that_learnt_are_merged_or_reset_whenever_the_optimizer_began(kind: Any) -> None:
    policy = random_policy()
    policy.put_adapters(AdapterConfig(rank=2, alpha=4), 0, has_own_base=True)
    optimizer = Optimizer(policy.model, betas=(0.9, 0.99), weight_decay=0.0, clip_norm=1.0)
    given = replace(subject(policy.model, optimizer), policy=policy)
    own = adapters.adapter_weights(policy.model)
    with torch.no_grad():
        for name, one in own.items():
            one += 0.1 if ".lora_B." in name else 0.0
        done = kind.create(kind.Config())
        assert done.apply(given).is_any, "the optimiser has made no update since it was reset"
        assert not any(one.any() for name, one in own.items() if ".lora_B." in name)
        before = [one.clone() for one in own.values()]
        assert not done.apply(given).is_any
    assert all(torch.equal(a, b) for a, b in zip(before, own.values(), strict=True)), "nothing, bit for bit"


# --- when -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "text", "after"),
    [
        ("always", "always", [1, 2, 3, 4]),
        ("after stages 4, 2", "after stages 4, 2", [2, 4]),
        ({"after": [2]}, "after stages 2", [2]),
        ({"after": 3}, "after stages 3", [3]),
        ("every stage", "every stage", [1, 2, 3, 4]),
        ({"every": 2}, "every 2 stages", [2, 4]),
        ("dormant_0.025  >  .2", "dormant_0.025 > .2", [1, 2, 3, 4]),
    ],
)
def test_when_in_words_and_as_a_map(raw: Any, text: str, after: list[int]) -> None:
    config = redo.Config(when=raw)
    assert config.when == text
    assert [stage for stage in range(1, 5) if parse(config.when).may_hold(stage)] == after
    assert redo.Config.model_validate(config.model_dump()) == config


def test_a_comparison() -> None:
    condition = parse("pass_1 on my.words <= 1e-1")
    assert (condition.metric, condition.environment, condition.number) == ("pass_1", "my.words", 0.1)
    assert condition.holds(0.1)
    assert not condition.holds(0.11)
    assert condition.why(0.0625) == "pass_1 on my.words is 0.0625, <= 0.1"
    named = parse("cosine_my-env on b < -.5")
    assert (named.metric, named.environment, named.number) == ("cosine_my-env", "b", -0.5), "names have hyphens"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("sometimes", "'sometimes' is no condition; there are `always`"),
        ("pass_1 < low", "'low' is no number"),
        ("pass_1 < nan", "'nan' is no number"),
        ("pass_1 = 1", "is no condition"),
        ("after stages 0", "the first stage is 1"),
        ("every 0 stages", "At least 1"),
        ({"after": ["one"]}, "a map says `after:"),
        ({"until": 3}, "a map says `after:"),
    ],
)
def test_what_is_no_condition_is_refused_with_those_there_are(raw: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("`", ".")):
        redo.Config(when=raw)
