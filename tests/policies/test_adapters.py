from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from policies import adapters
from policies.config import BASE, AdapterConfig, LearnerConfig, PolicyConfig
from policies.errors import CheckpointError, PolicyError
from policies.forward import head_of, score_rows
from policies.layers import down_projections
from policies.learner import Learner
from policies.models.description import ModelSize, describe_size, files_of
from policies.models.loader import load_policy, write_merged
from policies.models.memory import kept_bytes
from policies.models.tiny_tokenizer import VocabularySample
from policies.objectives.config import ObjectiveConfig
from policies.objectives.objective import Objective
from policies.plasticity.copies import full_copy
from policies.plasticity.dormant import output_norms
from policies.plasticity.weights import saved_weights, weight_sums
from policies.policy import Policy
from policies.reference import Reference
from policies.samplers.testing import random_policy
from tests.policies.fakes import random_batch, random_trajectories

SMALL = AdapterConfig(rank=4, alpha=8)
ROUNDING = 4e-6  # of float32 log-probs, of the largest of them; which bits are lost depends on the CPU


def adapted(config: AdapterConfig = SMALL, dtype: torch.dtype = torch.float32, has_own_base: bool = True) -> Policy:
    policy = random_policy()
    policy.model.to(dtype)
    policy.put_adapters(config, 1, has_own_base=has_own_base)
    return policy


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trained(policy: Policy, num: int = 3, **objective: Any) -> Learner:
    config = LearnerConfig(lr=0.02, warmup=0).resolved(PolicyConfig())
    learner = Learner(policy, config, keeps_reference=bool(objective))
    aim = Objective(ObjectiveConfig.model_validate({"preset": "rloo", **objective}))
    for seed in range(num):
        learner.learn(random_trajectories(policy.model.config.get_text_config().vocab_size, seed=seed), aim)
    return learner


def lp(model: Any, vocabulary: int = 40) -> Tensor:
    batch = random_batch(vocabulary)
    with torch.no_grad():
        return score_rows(model, batch.ids_BT, batch.mask_BT).lp_BT


def gap(a: Tensor, b: Tensor) -> float:
    """Largest difference, relative to the largest value: of random logits, tens."""
    return float((a - b).abs().max() / b.abs().max())


def frozen(policy: Policy) -> dict[str, Tensor]:
    return {name: one.clone() for name, one in adapters.base_state(policy.model.state_dict()).items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_backward_pass_needs_no_more_than_without_them(dtype: torch.dtype) -> None:
    policy = random_policy()
    policy.model.to(dtype)
    before = kept_bytes(policy.model)
    policy.put_adapters(SMALL, 1, has_own_base=True)
    assert kept_bytes(policy.model) <= before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_begins_as_the_model_to_the_last_bit_and_only_adapters_move(dtype: torch.dtype) -> None:
    policy = random_policy()
    policy.model.to(dtype)
    start, before = lp(policy.model), {name: one.clone() for name, one in policy.model.state_dict().items()}
    policy.put_adapters(SMALL, 1, has_own_base=True)
    assert torch.equal(lp(policy.model), start)
    assert policy.dtype is dtype
    learner = trained(policy)
    assert set(learner.optimizer.weights) == set(adapters.adapter_weights(policy.model))
    assert all(one.dtype is torch.float32 for one in learner.optimizer.weights.values())
    assert not torch.equal(lp(policy.model), start), "it learns"
    after = frozen(policy)
    assert after.keys() == before.keys()
    assert all(torch.equal(one, before[name]) for name, one in after.items()), "bitwise unmoved"
    off = {name: torch.zeros_like(one) for name, one in adapters.adapter_weights(policy.model).items()}
    with adapters.swapped_in(policy.model, off):
        assert torch.equal(lp(policy.model), start), "adapters off"
    assert not torch.equal(lp(policy.model), start), "and on again"


def test_it_learns_what_the_formula_says() -> None:
    policy = adapted()
    trained(policy)
    layer = policy.model.model.layers[0].self_attn.q_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert (a.shape[0], b.shape[1]) == (4, 4)
    assert torch.allclose(adapters.merged_weight(layer), layer.base_layer.weight + 8 / 4 * b @ a, atol=1e-7)


def test_one_merged_model_computes_the_same(tmp_path: Path) -> None:
    policy = adapted()
    trained(policy)
    now = lp(policy.model)
    policy.save_merged(tmp_path)
    read = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert gap(lp(read), now) < ROUNDING
    exact = adapted(dtype=torch.float64)
    trained(exact)
    there = lp(exact.model)
    exact.merge_adapters(generator(7))
    assert gap(lp(exact.model), there) < 1e-13
    assert dict(adapters.merged_weights(policy.model)).keys() == dict(read.named_parameters()).keys()
    policy.merge_adapters(generator(7))
    assert gap(lp(policy.model), now) < ROUNDING
    assert policy.has_own_base
    assert not any(one.any() for name, one in adapters.adapter_weights(policy.model).items() if ".lora_B." in name)


def test_reset_ones_are_fresh_and_the_seed_gives_them() -> None:
    policy, same = adapted(), adapted()
    start = lp(policy.model)
    for one in (policy, same):
        trained(one)
        adapters.reset(one.model, generator(5))
    assert torch.equal(lp(policy.model), start)
    for name, one in adapters.adapter_weights(policy.model).items():
        assert torch.equal(one, adapters.adapter_weights(same.model)[name])
        assert one.any() == (".lora_A." in name)


@pytest.mark.parametrize("has_own_base", [True, False])
def test_saved_ones_are_read_by_us_and_by_peft(tmp_path: Path, has_own_base: bool) -> None:
    from peft import PeftModel

    start = random_policy()
    start.save(tmp_path / "start")
    policy = adapted(has_own_base=has_own_base)
    trained(policy)
    policy.save(tmp_path / "own", {name: one.clone() for name, one in policy.state().items()})
    assert (tmp_path / "own" / BASE).is_dir() == has_own_base
    now = lp(policy.model)
    read = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "start"), tmp_path / "own")
    assert torch.equal(lp(read.base_model.model.eval()), now)

    config = PolicyConfig(model=str(tmp_path / "start"), template="none", adapter=SMALL)
    ours = load_policy(config, torch.device("cpu"), seed=3, saved=tmp_path / "own")
    assert torch.equal(lp(ours.model), now)
    assert ours.has_own_base == has_own_base
    write_merged(config, tmp_path / "own", tmp_path / "merged")
    assert gap(lp(AutoModelForCausalLM.from_pretrained(tmp_path / "merged")), now) < ROUNDING
    assert (tmp_path / "merged" / "tokenizer.json").is_file()
    assert not (tmp_path / "merged" / adapters.WEIGHTS_FILE).exists()

    with pytest.raises(CheckpointError, match="rank and targets"):
        load_policy(
            config.model_copy(update={"adapter": AdapterConfig(rank=8)}),
            torch.device("cpu"),
            seed=3,
            saved=tmp_path / "own",
        )
    with pytest.raises(PolicyError, match=r"policy\.adapter is null"):
        load_policy(config.model_copy(update={"adapter": None}), torch.device("cpu"), seed=3, saved=tmp_path / "own")


def test_another_model_in_the_place_of_the_frozen_one_is_noticed(tmp_path: Path) -> None:
    start = random_policy()
    start.save(tmp_path / "start")
    policy = adapted(has_own_base=False)
    trained(policy)
    policy.save(tmp_path / "own")
    with torch.no_grad():
        next(start.model.parameters())[7, 7] += 0.01
    start.save(tmp_path / "start")
    config = PolicyConfig(model=str(tmp_path / "start"), template="none", adapter=SMALL)
    with pytest.raises(CheckpointError, match="trained beside other weights"):
        load_policy(config, torch.device("cpu"), seed=3, saved=tmp_path / "own")
    with pytest.raises(CheckpointError, match="trained beside other weights"):
        write_merged(config, tmp_path / "own", tmp_path / "merged")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_fingerprint_is_of_sums_that_every_device_finds(dtype: torch.dtype) -> None:
    """Worked out with Python's integers: what it was when a checkpoint was written, it is when that is read."""
    model = torch.nn.Linear(700, 3, bias=True, dtype=dtype)
    hasher = hashlib.sha256()
    for name, weight in (("weight", model.weight), ("bias", model.bias)):
        size = weight.element_size()
        content = weight.detach().flatten().view(torch.uint8).numpy().tobytes()
        bits = [int.from_bytes(content[at : at + size], "little", signed=True) for at in range(0, len(content), size)]
        sums = [(sum(bits[::step]) + 2**63) % 2**64 - 2**63 for step in (1, 2, 3)]
        ends = bits[:256] + bits[-256:]
        hasher.update(f"{name} {tuple(weight.shape)} {dtype} {sums} {ends}".encode())
    assert adapters.fingerprint(model) == hasher.hexdigest()


def test_adapters_go_on_a_whole_model_that_was_saved(tmp_path: Path) -> None:
    whole = random_policy()
    whole.save(tmp_path / "start")
    trained(whole)
    whole.save(tmp_path / "later")
    config = PolicyConfig(model=str(tmp_path / "start"), template="none", adapter=SMALL)
    policy = load_policy(config, torch.device("cpu"), seed=3, saved=tmp_path / "later")
    assert torch.equal(lp(policy.model), lp(whole.model))
    assert policy.has_own_base, "no name stands for it"


def test_the_reference_is_the_model_without_them_until_it_is_refreshed(tmp_path: Path) -> None:
    policy, batch = adapted(), random_batch(40)
    learner = trained(policy, kl=0.1)

    def reference() -> Reference:
        return Reference(policy, 1.0, 2048)

    assert learner.reference is not None
    now = lp(policy.model)
    assert torch.equal(learner.reference.lp(batch), Reference(random_policy(), 1.0, 2048).lp(batch))
    assert torch.equal(lp(policy.model), now), "and the policy is what it was"
    learner.reference.refresh()
    learner.reference.save(tmp_path)
    refreshed = reference().lp(batch)
    trained(policy)
    assert torch.equal(learner.reference.lp(batch), refreshed)
    again = reference()
    assert not torch.equal(again.lp(batch), refreshed)
    again.load(tmp_path)
    assert torch.equal(again.lp(batch), refreshed)


def test_a_probe_trains_fresh_ones_on_a_copy_of_what_the_policy_is() -> None:
    policy = adapted()
    trained(policy)
    state = {name: one.clone() for name, one in policy.model.state_dict().items()}
    with full_copy(policy) as copy:
        assert gap(lp(copy.model), lp(policy.model)) < ROUNDING
        own = adapters.adapter_weights(copy.model)
        assert not any(one.any() for name, one in own.items() if ".lora_B." in name)
        trained(copy)
    assert all(torch.equal(one, state[name]) for name, one in policy.model.state_dict().items())


@pytest.mark.parametrize("has_own_base", [True, False])
def test_weights_are_measured_as_one_model(tmp_path: Path, has_own_base: bool) -> None:
    policy = adapted(has_own_base=has_own_base)
    trained(policy)
    policy.save(tmp_path)
    then = {name: one.clone() for name, one in adapters.merged_weights(policy.model)}
    trained(policy)
    now = dict(adapters.merged_weights(policy.model))
    with saved_weights(tmp_path, policy.model) as read:
        found = weight_sums(policy.model, read)
    assert not found.missing
    squares = sum(float((now[name] - then[name]).double().square().sum()) for name in now)
    assert sum(found.places[kind, -1].difference for kind in ("", "_embedding", "_vector")) == pytest.approx(squares)
    projection = (down_projections(policy.model) or [])[0]
    name = "model.layers.0.mlp.down_proj.weight"
    assert torch.allclose(output_norms(projection), now[name].double().norm(dim=0))


@pytest.mark.parametrize("place", ["what it was", "replaced", "gone"])
def test_what_was_saved_before_a_merge_stood_beside_the_model_of_the_name(tmp_path: Path, place: str) -> None:
    named, before = tmp_path / "named", tmp_path / "before"
    random_policy().save(named)
    policy = adapted(has_own_base=False)
    trained(policy)
    policy.save(before)
    then = {name: one.clone() for name, one in adapters.merged_weights(policy.model)}
    policy.merge_adapters(generator(3))
    trained(policy)
    if place == "replaced":
        random_policy(seed=1).save(named)
    if place == "gone":
        shutil.rmtree(named)
    config = PolicyConfig(model=str(named) if place != "gone" else "nobody/has-this")
    with saved_weights(before, policy.model, files_of(config)) as read:
        found = weight_sums(policy.model, read)
    assert bool(found.missing) == (place != "what it was")
    if not found.missing:
        now = dict(adapters.merged_weights(policy.model))
        squares = sum(float((now[name] - then[name]).double().square().sum()) for name in now)
        assert found.places["", -1].difference == pytest.approx(squares)


def test_conv1d_layers_are_merged_the_other_way_round() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        shape = GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=64, resid_pdrop=0)
        model = GPT2LMHeadModel(shape).eval()
    count = adapters.num_weights(model, SMALL, "gpt2")
    adapters.inject(model, SMALL, generator(0), "gpt2")
    assert adapters.num_weights(model, SMALL, "gpt2") == count
    for one in adapters.adapter_weights(model).values():
        torch.nn.init.normal_(one, std=0.1, generator=generator(0))
    now = lp(model)
    adapters.merge(model, generator(0))
    assert gap(lp(model), now) < ROUNDING


def test_the_head_is_still_found_and_never_adapted() -> None:
    policy = adapted()
    assert head_of(policy.model) is policy.model.lm_head
    for wrong in (("lm_head",), ("query",), ("q_proj", "queri")):
        with pytest.raises(PolicyError, match=r"no linear layer inside .*; it has .*q_proj"):
            adapted(AdapterConfig(targets=wrong))


@pytest.mark.parametrize("targets", ["all", ("q_proj", "down_proj")])
def test_its_size_is_told_beforehand(targets: Any) -> None:
    adapter = AdapterConfig(rank=4, targets=targets)
    config = PolicyConfig(adapter=adapter)
    size = describe_size(config, VocabularySample({}))
    policy = load_policy(PolicyConfig(), torch.device("cpu"), seed=0, sample=VocabularySample({}))
    assert size.num_parameters == policy.num_parameters
    policy.put_adapters(adapter, 0, has_own_base=True)
    num = sum(one.numel() for one in adapters.adapter_weights(policy.model).values())
    assert size == ModelSize(size.num_parameters, 96, 4 * (size.num_parameters + num), 8 * num, num)
    assert describe_size(config, VocabularySample({}), saves_base=False).weights_bytes == 4 * num


def test_global_random_numbers_are_left_alone() -> None:
    state = torch.get_rng_state()
    policy = adapted()
    policy.merge_adapters(generator(3))
    assert torch.equal(torch.get_rng_state(), state)
