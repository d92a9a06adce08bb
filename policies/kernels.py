"""Liger's Triton kernels in the place of a model's own RMSNorm, rotary embedding and gated MLP (arXiv 2410.10989).

The loaded model is changed, not its class: names, weights and what is saved stay. Liger's losses stay off, since logits
are made a chunk at a time here (`forward.py`). Rotary embeddings are a function of the library's module, which Liger
replaces for the whole process: `put_back` restores it when another policy is loaded.

Its gated MLPs write gradients over what their forward kept, so that one forward bears one backward pass and no more.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

from policies.errors import PolicyError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PACKAGES = ("liger_kernel", "triton")
LARGEST_GAP = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.05}  # of logits, relative to their norm
CHECKED = 16  # tokens on which both are compared

_replaced: dict[tuple[str, str], Any] = {}  # by module and name: what the library has there


def require_installed() -> None:
    """Refuse where Liger or Triton is not installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise PolicyError(
            f"policy.kernels: liger needs {' and '.join(missing)}, not here: pip install 'evergreen-rl[liger]', or say "
            "`kernels: torch`"
        )


def require_usable(device: torch.device) -> None:
    """Refuse where Liger is not installed, or its kernels have no GPU to run on."""
    require_installed()
    if device.type != "cuda":
        raise PolicyError(
            "policy.kernels: liger, and the policy is on the CPU: its kernels are compiled for a GPU. Say `kernels: "
            "torch`, or run it where there is one"
        )


def require_known(model_type: str, name: str) -> None:
    """Refuse an architecture, by its `model_type`, that Liger has no kernels for."""
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN as KNOWN

    if model_type not in KNOWN:
        raise PolicyError(
            f"policy.kernels: liger has none for {name}, a {model_type!r}: say `kernels: torch`. It knows "
            f"{', '.join(sorted(KNOWN))}"
        )


def put_into(model: Any, name: str) -> None:
    """Have a model compute with Liger's kernels from now on; copies that are made of it do too."""
    from liger_kernel.transformers import _apply_liger_kernel_to_instance as change

    require_known(model.config.model_type, name)
    module = sys.modules[type(model).__module__]
    before = dict(vars(module))
    # which of rope, rms_norm, swiglu and geglu an architecture has is Liger's default for it
    change(model=model, cross_entropy=False, fused_linear_cross_entropy=False)
    for key, now in vars(module).items():
        if key in before and before[key] is not now:
            _replaced.setdefault((module.__name__, key), before[key])


def put_into_checked(model: Any, name: str) -> None:
    """Do what `put_into` does; `PolicyError` if the model then computes something else than before, beyond rounding."""
    expected = _logits(model)
    put_into(model, name)
    gap = float((_logits(model) - expected).norm() / expected.norm())
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    if not gap <= LARGEST_GAP[dtype]:
        raise PolicyError(
            f"policy.kernels: with Liger's kernels the logits of {name} differ by {gap:.2g} of their norm, at most "
            f"{LARGEST_GAP[dtype]:g} is rounding: they do not fit this model (its activation?). Say `kernels: torch`"
        )


def put_back() -> None:
    """Restore what the library's modules had; a model that was changed keeps its norms and MLPs."""
    for (module, key), original in _replaced.items():
        setattr(sys.modules[module], key, original)
    _replaced.clear()


def _logits(model: Any) -> Tensor:
    import torch

    num, device = model.config.get_text_config().vocab_size, next(model.parameters()).device
    ids = torch.arange(1, 1 + CHECKED, device=device) * 7919 % num
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids[None], use_cache=False).logits
    return logits.double()
