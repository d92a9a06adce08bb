from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from policies.errors import CheckpointError
from policies.optimizer import Optimizer
from policies.samplers.testing import random_policy


def make(dtype: torch.dtype = torch.float32, on_host: bool = False) -> tuple[torch.nn.Module, Optimizer]:
    model = random_policy().model.to(dtype)
    return model, Optimizer(model, betas=(0.9, 0.99), weight_decay=0.0, clip_norm=1.0, on_host=on_host)


def push(model: torch.nn.Module, optimizer: Optimizer, lr: float, size: float = 1e-3, seed: int = 0) -> float:
    """One update with a random gradient; gives its norm."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator) * size
        (parameter * noise.to(parameter.dtype)).sum().backward()
    optimizer.gather_gradients()
    return optimizer.step(lr)[0]


def weights(model: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_bfloat16_weights_move_at_a_rate_that_rounding_would_swallow() -> None:
    model, optimizer = make(torch.bfloat16)
    before, masters = weights(model), [m.detach().clone() for m in optimizer.masters.values()]
    for _ in range(200):
        push(model, optimizer, lr=1e-6)
    moved = torch.cat([(a != b).flatten() for a, b in zip(before, weights(model), strict=True)])
    shift = torch.cat([(m - n).flatten() for m, n in zip(optimizer.masters.values(), masters, strict=True)])
    assert float(shift.detach().abs().median()) == pytest.approx(200e-6, rel=0.05)
    assert moved.float().mean() > 0.05
    for weight, master in zip(model.parameters(), optimizer.masters.values(), strict=True):
        assert torch.equal(weight, master.to(torch.bfloat16))


def test_float32_weights_have_no_copies() -> None:
    model, optimizer = make()
    assert all(a is b for a, b in zip(model.parameters(), optimizer.masters.values(), strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_on_the_host_it_does_the_same_and_saves_the_same(tmp_path: Path, dtype: torch.dtype) -> None:
    (model, optimizer), (other, on_host) = make(dtype), make(dtype, on_host=True)
    assert not any(a is b for a, b in zip(other.parameters(), on_host.masters.values(), strict=True))
    for seed in range(3):
        assert push(model, optimizer, 1e-3, seed=seed) == push(other, on_host, 1e-3, seed=seed)
    assert all(map(torch.equal, weights(model), weights(other)))
    optimizer.state().save(tmp_path / "here")
    on_host.state().save(tmp_path / "host")
    for file in (tmp_path / "here").iterdir():
        assert file.read_bytes() == (tmp_path / "host" / file.name).read_bytes()
    on_host.load(tmp_path / "here")
    push(model, optimizer, 1e-3, seed=9)
    push(other, on_host, 1e-3, seed=9)
    assert all(map(torch.equal, weights(model), weights(other)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a GPU beside the host")
def test_on_the_host_it_takes_nothing_of_the_gpu() -> None:
    model = random_policy().model.to("cuda", torch.bfloat16)
    optimizer = Optimizer(model, (0.9, 0.99), 0.0, 1.0, on_host=True)
    push(model, optimizer, lr=1e-3)
    assert {one.device.type for one in optimizer.masters.values()} == {"cpu"}
    assert all(parameter.grad is None for parameter in model.parameters())


def test_gradients_of_short_weights_are_summed_in_float32() -> None:
    model, optimizer = make(torch.bfloat16)
    weight = next(model.parameters())
    for _ in range(300):
        weight.sum().backward()
        optimizer.gather_gradients()
    master = next(iter(optimizer.masters.values()))
    assert master.grad is not None
    assert torch.equal(master.grad, torch.full_like(master, 300.0))  # bfloat16 cannot count past 256


def test_the_gradient_is_shortened_to_the_clip_norm() -> None:
    model, optimizer = make()
    norm = push(model, optimizer, lr=0.0, size=1.0)
    assert norm > 10
    total = sum(float((state["exp_avg"] * 10).square().sum()) for state in optimizer.adam.state.values())
    assert total**0.5 == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_moves_nothing(dtype: torch.dtype, bad: float) -> None:
    model, optimizer = make(dtype)
    push(model, optimizer, lr=1e-3)
    before, state = weights(model), copy.deepcopy(optimizer.adam.state_dict()["state"])
    (next(model.parameters()) * bad).sum().backward()
    optimizer.gather_gradients()
    norm, was_applied = optimizer.step(1e-3)
    assert not was_applied
    assert not norm < float("inf")
    assert optimizer.num_updates == 1
    assert all(torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))
    for index, moments in optimizer.adam.state_dict()["state"].items():
        assert all(torch.equal(moments[name], state[index][name]) for name in moments)
    assert push(model, optimizer, lr=1e-3) < 100  # nothing of it is left


def test_weights_without_a_gradient_count_as_having_a_zero_one() -> None:
    model, optimizer = make()
    push(model, optimizer, lr=1e-3)
    before = weights(model)
    norm, was_applied = optimizer.step(1e-3)
    assert (norm, was_applied) == (0.0, True)
    assert not torch.equal(before[0], weights(model)[0])  # the momentum goes on


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saved_state_goes_on_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    model, optimizer = make(dtype)
    for seed in range(3):
        push(model, optimizer, lr=1e-3, seed=seed)
    optimizer.state().save(tmp_path)
    twin, other = make(dtype)
    twin.load_state_dict(model.state_dict())
    other.load(tmp_path)
    for seed in range(3, 6):
        push(model, optimizer, lr=1e-3, seed=seed)
        push(twin, other, lr=1e-3, seed=seed)
    assert all(torch.equal(a, b) for a, b in zip(weights(model), weights(twin), strict=True))
    assert other.num_updates == 6


def test_state_saved_before_any_update_loads(tmp_path: Path) -> None:
    _, optimizer = make()
    optimizer.state().save(tmp_path)
    model, other = make()
    other.load(tmp_path)
    assert other.num_updates == 0
    assert push(model, other, lr=1e-3) > 0


def test_state_of_another_policy_is_refused_by_name(tmp_path: Path) -> None:
    model, optimizer = make()
    push(model, optimizer, lr=1e-3)
    optimizer.state().save(tmp_path)
    model.lm_head = torch.nn.Linear(32, 7, bias=False)
    with pytest.raises(CheckpointError, match=r"lm_head.weight.exp_avg is absent there and should be \(7, 32\)"):
        Optimizer(model, (0.9, 0.99), 0.0, 1.0).load(tmp_path)


def test_saved_files_hold_no_pickle_and_are_the_same_twice(tmp_path: Path) -> None:
    model, optimizer = make(torch.bfloat16)
    push(model, optimizer, lr=1e-3)
    for folder in ("a", "b"):
        optimizer.state().save(tmp_path / folder)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["optimizer.json", "optimizer.safetensors"]
    assert all((tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in names)


def test_a_reset_keeps_what_was_learnt_below_the_rounding_of_a_short_type() -> None:
    """One update of 1e-6 moves no bfloat16 weight; with a reset after each, hundreds would move none either."""
    model, optimizer = make(torch.bfloat16)
    for seed in range(3):
        push(model, optimizer, lr=1e-6, seed=seed)
        learnt = {name: one.detach().clone() for name, one in optimizer.masters.items()}
        optimizer.reset()
        assert all(torch.equal(one, learnt[name]) for name, one in optimizer.masters.items())
    assert all(torch.equal(one, learnt[name]) for name, one in optimizer.masters.items())
    assert any(not torch.equal(one.bfloat16().float(), one) for one in learnt.values())
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2)
    optimizer.reset()
    assert all(torch.equal(one, optimizer.weights[name].float()) for name, one in optimizer.masters.items())


def test_a_reset_forgets_the_moments_and_keeps_the_weights() -> None:
    model, optimizer = make(torch.bfloat16)
    push(model, optimizer, lr=1e-3)
    before = weights(model)
    optimizer.reset()
    assert optimizer.num_updates == 0
    assert not optimizer.adam.state
    optimizer.step(0.0)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))
