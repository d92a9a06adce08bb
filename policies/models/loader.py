"""The policy that a spec names: `tiny`, or any causal language model of the transformers library.

It is loaded by folder or by hub name, from the hub's cache if there is no network.
"""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from typing import Any

import torch

from policies import adapters, kernels
from policies.config import BASE, PolicyConfig
from policies.errors import PolicyError
from policies.models.description import explained, hub_options, load_architecture, load_tokenizer, locate
from policies.models.tiny import make_tiny
from policies.models.tiny_tokenizer import VocabularySample
from policies.policy import LARGEST_FILE, Policy, read_model, without_progress_bars


def load_policy(
    config: PolicyConfig,
    device: torch.device,
    *,
    seed: int,
    sample: VocabularySample | None = None,
    saved: Path | None = None,
) -> Policy:
    """Make or load the policy, without adapters; only `tiny` uses the seed and the sample.

    With a folder that `Policy.save` wrote it goes on from there, with that vocabulary, whatever the environments are;
    then with the adapters that the folder holds, or, where it holds a whole model, with fresh ones that the seed gives.
    No global random state is moved.
    """
    if config.adapter is not None:
        adapters.require_installed()
    if config.kernels == "liger":
        kernels.require_usable(device)
    if config.kind != "tiny":
        policy = _load_pretrained(config, device)
    elif sample is None:
        raise PolicyError("model: tiny makes its vocabulary from the environments' prompts; pass a sample of them")
    else:
        policy = make_tiny(config, sample, seed, device, saved)
    if config.kernels == "liger":
        kernels.put_into_checked(policy.model, policy.name)
    else:
        kernels.put_back()
    policy.kernels = config.kernels
    if saved is None:
        return policy
    has_adapters = adapters.is_saved_in(saved)
    if has_adapters and config.adapter is None:
        raise PolicyError(
            f"{saved} holds adapters, and policy.adapter is null: say the adapter that it was trained with, or make "
            "one model of both with `evergreen weights`"
        )
    base = saved / BASE if has_adapters else saved
    has_own_base = base.is_dir()
    if has_own_base:
        policy.load_weights(base)
    if config.adapter is not None:
        policy.put_adapters(config.adapter, seed, has_own_base=has_own_base)
        if has_adapters:
            policy.load_weights(saved)
    return policy


def write_merged(config: PolicyConfig, saved: Path, folder: Path) -> None:
    """Make one plain model of saved adapters and what they stand beside, in a new folder, with the tokenizer."""
    assert config.adapter is not None
    base = saved / BASE
    if base.is_dir():
        dtype = getattr(torch, config.dtype)
        model = read_model(str(base), dtype, trust_remote_code=config.trust_remote_code)
    else:
        model = _read_named(config, load_architecture(config))
        adapters.require_base(saved, adapters.fingerprint(model), config.model)
    adapters.inject(model, config.adapter, torch.Generator(), config.model)
    model.load_state_dict(adapters.saved(saved, adapters.adapter_weights(model)), strict=False)
    with without_progress_bars():
        model.save_pretrained(folder, state_dict=adapters.merged_state(model), max_shard_size=LARGEST_FILE)
    for path in saved.iterdir():
        if path.is_file() and path.name not in adapters.FILES:
            shutil.copyfile(path, folder / path.name)


def _load_pretrained(config: PolicyConfig, device: torch.device) -> Policy:
    known = load_architecture(config)  # first, because it is small: a wrong name is found at once
    if config.kernels == "liger":
        kernels.require_known(known.model_type, config.model)
    tokenizer = load_tokenizer(config, known)
    model = _read_named(config, known)
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        raise PolicyError(f"{config.model}: a {type(model).__name__} keeps no key-value cache, which sampling needs")
    return Policy(model.to(device), tokenizer, name=config.model, template=config.template)


def _read_named(config: PolicyConfig, known: Any) -> Any:
    """Read the weights of a folder or hub name, whose configuration is known."""
    with explained(config):
        return read_model(locate(config), getattr(torch, config.dtype), **hub_options(config), config=known)
