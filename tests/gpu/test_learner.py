"""A learner on a GPU: what it computes is what a CPU does, and the same bits each time."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.random_models import letters_tokenizer, random_qwen2
from orchestrator.registry import OBJECTIVES, listing
from policies import kernels
from policies.config import AdapterConfig, LearnerConfig, PolicyConfig, WarmStartConfig
from policies.encoder import Example
from policies.learner import Learner
from policies.objectives.by_environment import make_objective
from policies.objectives.config import ObjectiveConfig
from policies.objectives.contracts import Trajectory
from policies.policy import Policy
from policies.ranks import Ranks
from policies.samplers.testing import random_policy
from policies.warm_start import warm_start
from tests.policies.fakes import random_trajectories
from tests.policies.families import FAMILIES, made

pytestmark = pytest.mark.gpu
PRESETS = [method.name for method in listing(OBJECTIVES)]
WIDE: dict[str, Any] = {  # enough for every kernel to share its work among many blocks
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 512,
    "vocab_size": 8192,
    "max_position_embeddings": 1024,
}
ENVIRONMENTS = ["words", "book"]


def on(policy: Policy, device: torch.device, dtype: torch.dtype = torch.float64) -> Policy:
    return replace(policy, model=deepcopy(policy.model).to(device, dtype))


def learner_of(policy: Policy, objective: Any, **options: Any) -> tuple[Learner, Any]:
    made_of = make_objective(ObjectiveConfig.model_validate(objective), ENVIRONMENTS)
    own = {name: options.pop(name) for name in ("work", "optimizes_on_host") if name in options}
    config = LearnerConfig(**{"lr": 0.01, "warmup": 0, "micro_tokens": 64, **options}).resolved(PolicyConfig())
    return Learner(policy, config, 1.0, made_of.may_need_reference, **own), made_of


def played(policy: Policy, seed: int) -> list[Trajectory]:
    return [
        replace(one, arm=f"{ENVIRONMENTS[one.group % 2]}/{one.group // 2 % 2}")
        for one in random_trajectories(len(policy.tokenizer), seed=seed)
    ]


def trained(policy: Policy, objective: Any, **options: Any) -> dict[str, Tensor]:
    """Do two steps; give the weights, on the CPU in float64."""
    learner, own = learner_of(policy, objective, **options)
    for seed in range(2):
        learner.learn(played(policy, seed), own)
    return {name: one.detach().double().cpu() for name, one in policy.model.named_parameters()}


def largest_gap(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def require_a_cpus_gradient(policy: Policy, device: torch.device, objective: str) -> None:
    """Compare gradients, by the moments of one update: AdamW's own step makes much of the rounding of small ones.

    Weights are float64; norms and rotary embeddings of the library's models are float32 whatever the weights are.
    """
    found = []
    for where in (device, torch.device("cpu")):
        learner, own = learner_of(on(policy, where), objective, updates=1)
        said = learner.learn(played(policy, 0), own)
        moments = [state["exp_avg"].flatten().cpu() for state in learner.optimizer.adam.state.values()]
        found.append((torch.cat(moments), said.metrics))
    (there, told), (here, expected) = found
    assert float((there - here).norm()) <= 1e-5 * float(here.norm())
    assert told == pytest.approx(expected, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_the_gradient_of_a_cpu(device: torch.device, preset: str) -> None:
    require_a_cpus_gradient(random_policy(), device, preset)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_the_gradient_of_a_cpu(device: torch.device, family: str) -> None:
    policy = random_policy()
    policy.model = made(family, len(policy.tokenizer), seed=1)
    require_a_cpus_gradient(policy, device, "repo_r")


def wide_policy(device: torch.device, dtype: torch.dtype) -> Policy:
    model = random_qwen2(seed=0, device=device, dtype=dtype, **WIDE)
    return Policy(model, letters_tokenizer(128, end_id=1), name="random", template="none")


def wide_trajectories(device: torch.device, seed: int = 0, shares: bool = True) -> list[Trajectory]:
    """Groups of eight with prompts of up to 300 tokens, in common or not, and answers of up to 300; fewer on a CPU."""
    rng, most = np.random.default_rng(seed), 300 if device.type == "cuda" else 20

    def draw() -> NDArray[np.int64]:
        return rng.integers(1, WIDE["vocab_size"], rng.integers(most // 2, most))

    found = []
    for group in range(4):
        prompt = draw()
        for member in range(8):
            own = prompt if shares else draw()
            ids = np.concatenate([own, draw()])
            mask = np.arange(len(ids)) >= len(own)
            logprobs = (mask * -9.0).astype(np.float32)
            found.append(Trajectory(ids, mask, logprobs, None, float(member % 2), group))
    return found


REPEATED: dict[str, dict[str, Any]] = {
    "prompts shared": {},
    "rows with their own prompts": {"shares": False},
    "layers run again": {"activation_checkpointing": True},
    "gradient of the entropy": {"objective": "entropy_bonus"},
    "a nucleus": {"objective": "siren"},
    "sums over a sequence": {"objective": "gspo"},
    "an optimiser on the host": {"optimizes_on_host": True},
    "adapters": {"adapter": 8},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("case", REPEATED)
def test_an_update_gives_the_same_bits_each_time(device: torch.device, case: str, dtype: torch.dtype) -> None:
    options = dict(REPEATED[case])
    shares, objective, rank = options.pop("shares", True), options.pop("objective", "grpo"), options.pop("adapter", 0)

    def once() -> list[Tensor]:
        policy = wide_policy(device, dtype)
        if rank:
            policy.put_adapters(AdapterConfig(rank=rank), seed=0, has_own_base=True)
        learner, own = learner_of(policy, objective, lr=1e-3, micro_tokens=8192, **options)
        for step in range(2):
            learner.learn(wide_trajectories(device, step, shares), own)
        return [*policy.model.parameters(), *learner.optimizer.masters.values()]

    first, second = once(), once()
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_a_model_with_an_operation_that_cannot_repeat_learns_all_the_same(device: torch.device) -> None:
    """Added after these tests had last been run on a GPU."""
    policy = wide_policy(device, torch.float32)
    policy.model.model.norm.register_forward_hook(lambda module, given, out: out + 0 * out.cumsum(-1))
    assert policy.nondeterministic_operation == ("cumsum_cuda_kernel" if device.type == "cuda" else None)
    learner, own = learner_of(policy, "grpo", lr=1e-3, micro_tokens=8192)
    assert learner.learn(wide_trajectories(device), own).num_updates == 1


def test_a_warm_start_gives_the_same_bits_each_time(device: torch.device) -> None:
    def once() -> list[Tensor]:
        policy = on(random_policy(), device, torch.float32)
        example = Example([{"role": "user", "content": "2 + 3 ="}], "5", ends=True)
        config = WarmStartConfig(environments=("words",), batches=4, batch_size=64)
        warm_start(policy, lambda num: [example] * num, config)
        return list(policy.model.parameters())

    assert all(torch.equal(one, other) for one, other in zip(once(), once(), strict=True))


def test_an_optimiser_on_the_host_moves_weights_as_one_on_the_device(device: torch.device) -> None:
    here, there = (
        trained(on(random_policy(), device, torch.float32), "repo_r", lr=1e-3, optimizes_on_host=on_host)
        for on_host in (False, True)
    )
    assert largest_gap(here, there) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_one_rank_moves_weights_as_a_process_alone(device: torch.device, tmp_path: Path, dtype: torch.dtype) -> None:
    alone = trained(on(random_policy(), device, dtype), "repo_adaptive", lr=1e-3)
    work = Ranks.join(tmp_path / "meeting", 0, 1, device)
    try:
        together = trained(on(random_policy(), device, dtype), "repo_adaptive", lr=1e-3, work=work)
    finally:
        work.leave()
    assert largest_gap(alone, together) < (1e-9 if dtype == torch.float64 else 1e-6)


def test_adapters_learn_beside_a_frozen_model(device: torch.device) -> None:
    policy = wide_policy(device, torch.bfloat16)
    before = {name: one.detach().clone() for name, one in policy.model.named_parameters()}
    policy.put_adapters(AdapterConfig(rank=8), seed=0, has_own_base=True)
    learner, own = learner_of(policy, "grpo", lr=1e-3, micro_tokens=8192)
    learner.learn(wide_trajectories(device), own)
    now = {name.replace(".base_layer", ""): one for name, one in policy.model.named_parameters()}
    assert all(torch.equal(now[name], one) for name, one in before.items())
    moved = [one for name, one in now.items() if "lora_B" in name]
    assert all(bool(one.any()) for one in moved)
    assert len(moved) == 7 * WIDE["num_hidden_layers"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral", "gemma3"])
def test_liger_s_kernels_give_the_gradients_of_the_library_s(
    device: torch.device, family: str, dtype: torch.dtype
) -> None:
    pytest.importorskip("liger_kernel")
    if device.type != "cuda":
        pytest.skip("its kernels are compiled for a GPU")
    policy = random_policy()
    policy.model = made(family, len(policy.tokenizer), seed=1).to(device, dtype)
    fused = on(policy, device, dtype)
    kernels.put_into_checked(fused.model, "fused")
    try:
        ids = torch.randint(0, len(policy.tokenizer), (4, 40), device=device)
        found = []
        for one in (policy, fused):
            logits = one.model(input_ids=ids, use_cache=False).logits.float()
            torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()
            found.append(torch.cat([w.grad.double().flatten() for w in one.model.parameters() if w.grad is not None]))
        gap = float((found[0] - found[1]).norm() / found[0].norm())
        assert gap < (1e-4 if dtype == torch.float32 else 0.05)
    finally:
        kernels.put_back()
