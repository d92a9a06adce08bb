"""The policy that a spec names: `tiny`, or any causal language model of the transformers library.

It is loaded by folder or by hub name, from the hub's cache if there is no network.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import torch

from policies.config import PolicyConfig
from policies.errors import PolicyError
from policies.models.description import explained, hub_options, load_architecture, load_tokenizer, locate
from policies.models.tiny import make_tiny
from policies.models.tiny_tokenizer import VocabularySample
from policies.policy import Policy, read_model


def load_policy(
    config: PolicyConfig,
    device: torch.device,
    *,
    seed: int,
    sample: VocabularySample | None = None,
    saved: Path | None = None,
) -> Policy:
    """Make or load the policy. Only `tiny` uses the seed and the sample; no global random state is moved.

    With a folder that `Policy.save` wrote it goes on from there, with that vocabulary, whatever the environments are.
    """
    if config.kind != "tiny":
        policy = _load_pretrained(config, device)
    elif sample is None:
        raise PolicyError("model: tiny makes its vocabulary from the environments' prompts; pass a sample of them")
    else:
        policy = make_tiny(config, sample, seed, device, saved)
    if saved is not None:
        policy.load_weights(saved)
    return policy


def _load_pretrained(config: PolicyConfig, device: torch.device) -> Policy:
    known = load_architecture(config)  # first, because it is small: a wrong name is found at once
    tokenizer = load_tokenizer(config, known)
    with explained(config):
        dtype = getattr(torch, config.dtype)
        model = read_model(locate(config), dtype, **hub_options(config), config=known)
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        raise PolicyError(f"{config.model}: a {type(model).__name__} keeps no key-value cache, which sampling needs")
    return Policy(model.to(device), tokenizer, name=config.model, template=config.template)
