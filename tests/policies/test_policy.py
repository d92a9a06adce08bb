from __future__ import annotations

from pathlib import Path

import pytest
import torch

from policies.errors import CheckpointError, PolicyError
from policies.hardware import choose_device, cpu_threads
from policies.samplers.testing import random_policy


def test_saved_weights_load_in_place(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, target = random_policy(0), random_policy(1)
    parameters = list(target.model.parameters())
    source.save(tmp_path)
    target.load_weights(tmp_path)
    assert all(a is b for a, b in zip(target.model.parameters(), parameters, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(source.model.parameters(), target.model.parameters(), strict=True))
    assert capfd.readouterr().err == ""  # no progress bar for a checkpoint


def test_weights_of_another_shape_are_refused_by_name(tmp_path: Path) -> None:
    policy = random_policy()
    policy.save(tmp_path)
    policy.model.model.norm = torch.nn.LayerNorm(7)
    with pytest.raises(CheckpointError, match=r"model\.norm\.bias is missing there and \(7,\) here \(2 tensors"):
        policy.load_weights(tmp_path)


def test_the_device_is_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(PolicyError, match="finds no usable GPU"):
        choose_device("cuda")


def test_threads_are_restored_even_after_an_error() -> None:
    before = torch.get_num_threads()
    inside = []

    def fail() -> None:
        with cpu_threads(before + 1):
            inside.append(torch.get_num_threads())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert inside == [before + 1]
    assert torch.get_num_threads() == before
