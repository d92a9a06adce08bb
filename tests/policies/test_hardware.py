from __future__ import annotations

from typing import Any

import pytest
import torch

from orchestrator.runs.assembly import lay_foundation
from orchestrator.spec import load_spec
from policies.hardware import deterministic_kernels, nondeterministic_operation_of
from policies.policy import Policy
from tests.orchestrator.specs import small


def put() -> torch.Tensor:
    """An operation that torch has in one way only, on a CPU too."""
    return torch.zeros(3).put_(torch.tensor([0]), torch.ones(1))


def switches() -> tuple[int, bool]:
    deterministic: Any = torch.utils.deterministic
    return torch.get_deterministic_debug_mode(), deterministic.fill_uninitialized_memory


def test_an_operation_that_cannot_repeat_is_named() -> None:
    before = switches()
    assert nondeterministic_operation_of(put) == "put_"
    assert nondeterministic_operation_of(lambda: torch.ones(2, 2) @ torch.ones(2)) is None
    assert switches() == before


def test_other_errors_are_not_taken_for_that() -> None:
    before = switches()
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        nondeterministic_operation_of(lambda: torch.ones(2, 3) @ torch.ones(2, 3))
    assert switches() == before


def test_on_a_cpu_nothing_is_switched() -> None:
    before = switches()
    with deterministic_kernels(torch.device("cpu")):
        assert switches() == before
        put()


def test_a_run_says_that_it_will_not_be_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any("bit for bit" in text for text in lay_foundation(load_spec(small())).remarks)
    monkeypatch.setattr(Policy, "nondeterministic_operation", "cumsum_cuda_kernel")
    (said,) = (text for text in lay_foundation(load_spec(small())).remarks if "bit for bit" in text)
    assert said.startswith("tiny computes with cumsum_cuda_kernel, which has no kernel for a GPU")
