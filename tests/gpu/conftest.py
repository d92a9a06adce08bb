"""The device of these tests: a GPU. With EVERGREEN_TEST_DEVICE=cpu they show that they run."""

from __future__ import annotations

import os

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Give the device; skip where there is none."""
    name = os.environ.get("EVERGREEN_TEST_DEVICE", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device here")
    return torch.device(name, 0) if name == "cuda" else torch.device(name)
