from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from types import MethodType, ModuleType
from typing import Any

import pytest
import torch
from transformers.models.llama import modeling_llama

from policies import kernels
from policies.config import LearnerConfig, PolicyConfig
from policies.errors import PolicyError
from policies.follower import read_start, write_settings
from policies.gradients import gradient_products
from policies.learner import Learner
from policies.models import loader
from policies.models.loader import load_policy
from policies.models.tiny_tokenizer import VocabularySample
from policies.objectives.padding import pad
from policies.policy import Policy
from policies.samplers.testing import PROMPTS, random_policy
from tests.policies.fakes import random_trajectories

LOSSES_OFF = {"cross_entropy": False, "fused_linear_cross_entropy": False}
HAS_LIGER = all(importlib.util.find_spec(name) is not None for name in kernels.PACKAGES)


class StandIn:
    """Puts a rotary embedding into the library's module and a norm into the model, as Liger does."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale, self.calls = scale, list[dict[str, Any]]()

    def change(self, model: Any, **options: Any) -> None:
        self.calls.append(options)
        modeling_llama.apply_rotary_pos_emb = rotated
        norm = model.model.norm
        norm.scale = self.scale
        norm.__dict__["forward"] = MethodType(normed, norm)


def rotated(*given: Any, **options: Any) -> Any:
    return ROTATED(*given, **options)


def normed(self: Any, hidden: torch.Tensor) -> torch.Tensor:
    return type(self).forward(self, hidden) * self.scale


ROTATED = modeling_llama.apply_rotary_pos_emb


@pytest.fixture
def liger(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    stand_in = StandIn()
    package, transformers, patch = (
        ModuleType(name)
        for name in ("liger_kernel", "liger_kernel.transformers", "liger_kernel.transformers.monkey_patch")
    )
    patch.MODEL_TYPE_TO_APPLY_LIGER_FN = {"llama": None, "qwen3": None}  # type: ignore[attr-defined]
    transformers._apply_liger_kernel_to_instance = stand_in.change  # type: ignore[attr-defined]
    for module in (package, transformers, patch):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(kernels, "require_usable", lambda device: None)
    yield stand_in
    kernels.put_back()


def load(**options: Any) -> Policy:
    config = PolicyConfig(layers=1, hidden=16, mlp=32, heads=2, kv_heads=1, **options)
    return load_policy(config, torch.device("cpu"), seed=0, sample=VocabularySample({"questions": PROMPTS}))


def test_a_loaded_model_is_changed_and_liger_makes_no_loss(liger: StandIn) -> None:
    policy = load(kernels="liger")
    assert liger.calls == [LOSSES_OFF]
    assert policy.kernels == "liger"
    assert policy.model.model.norm.forward.__func__ is normed


def test_a_copy_computes_with_its_own_weights(liger: StandIn) -> None:
    policy = load(kernels="liger")
    copied = deepcopy(policy.model)
    assert copied.model.norm.forward.__self__ is copied.model.norm
    with torch.no_grad():
        copied.model.norm.weight.zero_()
        ids = torch.tensor([[1, 2, 3]])
        assert not copied(ids).logits.any()
        assert policy.model(ids).logits.any()


def test_a_policy_without_them_gets_the_librarys_rotary_embedding_back(liger: StandIn) -> None:
    load(kernels="liger")
    load(kernels="liger")
    assert modeling_llama.apply_rotary_pos_emb is rotated
    load()
    assert modeling_llama.apply_rotary_pos_emb is ROTATED


def test_kernels_that_compute_something_else_are_refused(liger: StandIn) -> None:
    liger.scale = 1.01
    with pytest.raises(PolicyError, match=r"logits of tiny differ by 0\.01 of their norm.*kernels: torch"):
        load(kernels="liger")


def test_an_architecture_that_liger_does_not_know_is_refused_before_its_weights_are_read(
    liger: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    monkeypatch.delattr(loader, "_read_named")
    config = PolicyConfig(model=str(tmp_path), kernels="liger")
    with pytest.raises(PolicyError, match=r"none for .*a 'gpt2': say `kernels: torch`. It knows llama, qwen3"):
        load_policy(config, torch.device("cpu"), seed=0)


def test_without_the_packages_the_error_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "PACKAGES", ("surely_not_here",))
    with pytest.raises(PolicyError, match=r"needs surely_not_here.*pip install 'evergreen-rl\[liger\]'"):
        kernels.require_installed()


def test_a_policy_on_the_cpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "PACKAGES", ())
    with pytest.raises(PolicyError, match="the policy is on the CPU"):
        load(kernels="liger")


def test_a_follower_computes_with_the_same_kernels(liger: StandIn, tmp_path: Path) -> None:
    policy = load(kernels="liger")
    more = {"size": 2, "threads": 1, "temperature": 1.0, "search_path": None, "policy_config": {}}
    write_settings(tmp_path, policy, LearnerConfig().resolved(PolicyConfig()), {}, **more)
    follower, _ = read_start(tmp_path, torch.device("cpu"))
    assert liger.calls == [LOSSES_OFF, LOSSES_OFF]
    assert follower.kernels == "liger"
    assert follower.model.model.norm.forward.__func__ is normed


class OneBackward(torch.autograd.Function):
    """A gated MLP's product as Liger's: the backward pass writes over what the forward pass kept."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.kept = gate, up
        return gate * up

    @staticmethod
    def backward(ctx: Any, *given: Any) -> tuple[torch.Tensor, torch.Tensor]:
        gate, up = ctx.kept
        found = given[0] * up, given[0] * gate
        gate.data.zero_()
        up.data.zero_()
        return found


def test_gradients_by_component_take_a_forward_each() -> None:
    """As one of Liger's bears one backward pass."""
    policy = random_policy()

    def gated(self: Any, hidden: torch.Tensor) -> torch.Tensor:
        gate, up = self.act_fn(self.gate_proj(hidden)), self.up_proj(hidden)
        return self.down_proj(OneBackward.apply(gate.clone(), up.clone()) if clobbers else gate * up)

    for layer in policy.model.model.layers:
        layer.mlp.__dict__["forward"] = MethodType(gated, layer.mlp)
    learner = Learner(policy, LearnerConfig(warmup=0).resolved(PolicyConfig()), 0.7)
    batch = pad(random_trajectories(len(policy.tokenizer), num_groups=3))
    rng = torch.Generator().manual_seed(0)
    advantages = [torch.randn(batch.mask_BT.shape, generator=rng) for _ in range(3)]
    clobbers = False
    expected = gradient_products(learner.passes, batch, advantages)
    clobbers = True
    torch.testing.assert_close(gradient_products(learner.passes, batch, advantages), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not HAS_LIGER, reason="needs liger-kernel and triton")
def test_the_kernels_compute_what_the_library_does_to_float32_rounding() -> None:
    command = [sys.executable, "-m", "tests.policies.interpreted_kernels"]
    done = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    gaps = json.loads(done.stdout.splitlines()[-1])
    assert {name: found for name, found in gaps.items() if max(found.values()) > 1e-5} == {}
