"""Any causal language model of the transformers library, by folder or by hub name."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer

from policies.config import PolicyConfig
from policies.errors import ModelNotFoundError, PolicyError
from policies.policy import Policy
from policies.weights import read_model


def load_pretrained(config: PolicyConfig, device: torch.device) -> Policy:
    """Load weights and tokenizer, from the hub's cache if there is no network."""
    known = architecture(config)  # first, because it is small: a wrong name is found at once
    source, options = locate(config), {**_hub_options(config), "config": known}
    tokenizer = read_tokenizer_of(config, known)
    try:
        model = read_model(source, getattr(torch, config.dtype), **options)
    except (OSError, ValueError) as error:
        raise explain(config, error) from error
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        raise PolicyError(
            f"{config.model}: a {type(model).__name__} keeps no key-value cache, which sampling needs"
        )
    return Policy(model.to(device), tokenizer, name=config.model, template=config.template)


def read_tokenizer_of(config: PolicyConfig, known: Any, *, is_offline: bool = False) -> Any:
    """Read the tokenizer of a model whose configuration is known; offline, as `architecture` does."""
    options = {**_hub_options(config), "config": known, "local_files_only": is_offline}
    try:
        return AutoTokenizer.from_pretrained(locate(config), **options)
    except (OSError, ValueError) as error:
        raise explain(config, error) from error


def architecture(config: PolicyConfig, *, is_offline: bool = False) -> Any:
    """Read the configuration of a model without its weights; offline, a hub name is looked up in the cache only."""
    try:
        return AutoConfig.from_pretrained(locate(config), local_files_only=is_offline, **_hub_options(config))
    except (OSError, ValueError) as error:
        raise explain(config, error) from error


def locate(config: PolicyConfig) -> str:
    """Give what the library should open; a folder must exist and hold a `config.json`."""
    if config.kind == "hub":
        return config.model
    folder = Path(config.model).expanduser()
    if not folder.is_dir():
        raise ModelNotFoundError(
            f"model folder {config.model!r} does not exist (looked for {folder.absolute()}). "
            "Give a folder written by `save_pretrained`, a hub name such as Qwen/Qwen2.5-0.5B, or `tiny`"
        )
    if not (folder / "config.json").is_file():
        raise ModelNotFoundError(
            f"model folder {config.model!r} has no config.json; it holds {_contents(folder)}. "
            "Expected a folder written by `save_pretrained`: config.json, *.safetensors, the tokenizer's files"
        )
    return str(folder)


def explain(config: PolicyConfig, error: Exception) -> PolicyError:
    """Turn the library's error into one that says what to do; its own first line is kept."""
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if "trust_remote_code" in str(error):
        return PolicyError(
            f"{config.model}: this model brings its own Python code. If you trust it, say "
            f"`trust_remote_code: true` in the policy section. ({reason})"
        )
    if config.kind == "folder":
        return ModelNotFoundError(
            f"model folder {config.model!r} cannot be read: {reason}. It holds {_contents(Path(config.model))}; "
            "expected config.json, *.safetensors and the tokenizer's files, as `save_pretrained` writes them"
        )
    return ModelNotFoundError(
        f"{config.model!r} is no folder here, and as a hub name it is neither in the local cache nor could it be "
        f"fetched: {reason}. Check the name and the network (gated models need `hf auth login`), or give a folder "
        "as ./name"
    )


def _hub_options(config: PolicyConfig) -> dict[str, Any]:
    return {"revision": config.revision, "trust_remote_code": config.trust_remote_code}


def _contents(folder: Path) -> str:
    names = sorted(path.name for path in folder.expanduser().iterdir())
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"
