"""The policy that a spec names: `tiny`, or any causal language model of the transformers library.

It is loaded by folder or by hub name, from the hub's cache if there is no network; or its size alone is computed.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from policies.config import PolicyConfig
from policies.encoder import Encoder, require_template
from policies.errors import ModelNotFoundError, PolicyError
from policies.models.tiny import (
    CONTEXT,
    VocabularySample,
    build_tokenizer,
    make_tiny,
    require_known,
    tiny_architecture,
)
from policies.policy import Endings, Policy, context_of, read_model, rows_of, width_of

LONGEST = 200  # characters of a name in a message


@dataclass(frozen=True)
class ModelSize:
    """What a policy will take, found from its configuration alone."""

    num_parameters: int
    width: int  # of the hidden states
    weights_bytes: int  # of the saved model
    optimizer_bytes: int  # of the saved optimiser state: two moments, and float32 copies of shorter weights


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


@dataclass(frozen=True)
class PromptReader:
    """What of a policy its prompts meet, and what ends its answers."""

    encoder: Encoder
    context: int | None  # most tokens in a row; None: the model sets no limit
    endings: Endings  # of its answers


def load_prompt_reader(config: PolicyConfig, sample: VocabularySample | None = None) -> PromptReader | None:
    """Load what reads prompts at a run's start, and no weights; None where a hub name's files are not here."""
    if config.kind == "tiny":
        is_closed = config.vocabulary == "closed"
        tokenizer = build_tokenizer(sample or VocabularySample({}), is_closed)
        check = partial(require_known, tokenizer) if is_closed else None
        endings = Endings.of(tokenizer, config.template, None, config.model)
        return PromptReader(Encoder(tokenizer, config.template, check), CONTEXT, endings)
    try:
        known = _architecture(config, is_offline=True)
        tokenizer = _read_tokenizer(config, known, is_offline=True)
    except ModelNotFoundError:
        if config.kind == "hub":
            return None
        raise
    require_template(tokenizer, config.template, config.model)
    endings = Endings.of(tokenizer, config.template, _generation_config(config, known), config.model)
    return PromptReader(Encoder(tokenizer, config.template, None, rows_of(known)), context_of(known), endings)


def describe_size(config: PolicyConfig, sample: VocabularySample | None = None) -> ModelSize:
    """Compute the size of a policy from its configuration; that of a hub name must be in the cache."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        if config.kind == "tiny":
            tokenizer = build_tokenizer(sample or VocabularySample({}), config.vocabulary == "closed")
            known = tiny_architecture(config, len(tokenizer))
        else:
            known = _architecture(config, is_offline=True)
        model = AutoModelForCausalLM.from_config(known, trust_remote_code=config.trust_remote_code)
    return size_of(model, config)


def size_of(model: Any, config: PolicyConfig) -> ModelSize:
    """Compute the size of a policy from its model, with its weights or without."""
    num = sum(parameter.numel() for parameter in model.parameters())
    num_bytes = torch.finfo(getattr(torch, config.dtype)).bits // 8  # of a weight
    return ModelSize(num, width_of(model.config), num * num_bytes, num * (8 if num_bytes == 4 else 12))


def _load_pretrained(config: PolicyConfig, device: torch.device) -> Policy:
    known = _architecture(config)  # first, because it is small: a wrong name is found at once
    tokenizer = _read_tokenizer(config, known)
    with _explained(config):
        dtype = getattr(torch, config.dtype)
        model = read_model(_locate(config), dtype, **_hub_options(config), config=known)
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        raise PolicyError(f"{config.model}: a {type(model).__name__} keeps no key-value cache, which sampling needs")
    return Policy(model.to(device), tokenizer, name=config.model, template=config.template)


def _read_tokenizer(config: PolicyConfig, known: Any, *, is_offline: bool = False) -> Any:
    options = {**_hub_options(config), "config": known, "local_files_only": is_offline}
    with _explained(config):
        tokenizer = AutoTokenizer.from_pretrained(_locate(config), **options)
    _require_rows(tokenizer, known, config)
    return tokenizer


def _require_rows(tokenizer: Any, known: Any, config: PolicyConfig) -> None:
    """Refuse a tokenizer with ids beyond the embedding.

    Special tokens that no prompt gets by itself may lie there: the smallest Gemma 3 has one for images, and the
    library gives every Qwen2 an unknown token.
    """
    num_rows = rows_of(known)
    if num_rows is None:
        return
    named = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    template = str(tokenizer.chat_template) if config.template == "chat" else ""
    added = tokenizer.added_tokens_decoder
    vocabulary = tokenizer.get_vocab()
    if not any(
        index in named or token in template or index not in added or not added[index].special
        for token, index in vocabulary.items()
        if index >= num_rows
    ):
        return
    last = max(vocabulary.values())
    size = "len(tokenizer)" if len(tokenizer) > last else last + 1  # ids may have holes
    raise PolicyError(
        f"{config.model}: its tokenizer gives token ids up to {last}, but its embedding has {num_rows} rows, for ids "
        f"up to {num_rows - 1}. Call `model.resize_token_embeddings({size})`, then save both again"
    )


def _architecture(config: PolicyConfig, *, is_offline: bool = False) -> Any:
    """Read the configuration of a model without its weights; offline, a hub name is looked up in the cache only."""
    options = {**_hub_options(config), "local_files_only": is_offline}
    with _explained(config):
        return AutoConfig.from_pretrained(_locate(config), **options)


def _generation_config(config: PolicyConfig, known: Any) -> Any:
    """Read what a model with weights would be given: its file if there is one, else what its configuration says."""
    try:
        return GenerationConfig.from_pretrained(_locate(config), revision=config.revision, local_files_only=True)
    except OSError:
        return GenerationConfig.from_model_config(known)


def _locate(config: PolicyConfig) -> str:
    """Give what the library should open; a folder must exist and hold a `config.json`."""
    if config.kind == "hub":
        return config.model
    folder = Path(config.model).expanduser()
    if not os.path.isdir(folder):  # of a name too long for a path too, where `Path.is_dir` raises
        raise ModelNotFoundError(
            f"policy.model: the folder {config.model[:LONGEST]!r} does not exist (looked in "
            f"{folder.absolute().parent}: it begins where the command runs). "
            "Give a folder written by `save_pretrained`, a hub name such as Qwen/Qwen2.5-0.5B, or `tiny`"
        )
    if not (folder / "config.json").is_file():
        raise ModelNotFoundError(
            f"model folder {config.model!r} has no config.json; it holds {_contents(folder)}. "
            "Expected a folder written by `save_pretrained`: config.json, *.safetensors, the tokenizer's files"
        )
    return str(folder)


@contextmanager
def _explained(config: PolicyConfig) -> Iterator[None]:
    """Turn the library's errors into ones that say what to do; their own first line is kept.

    What the hub's client logs of every try is not shown: the error says what came of them.
    """
    hub_log = logging.getLogger("huggingface_hub")
    before = hub_log.level
    hub_log.setLevel(logging.ERROR)
    try:
        yield
    except (OSError, ValueError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0].rstrip(".") if lines else type(error).__name__
        if "trust_remote_code" in str(error):
            raise PolicyError(
                f"{config.model}: this model brings its own Python code. If you trust it, say "
                f"`trust_remote_code: true` in the policy section. ({reason})"
            ) from error
        if config.kind == "folder":
            raise ModelNotFoundError(
                f"model folder {config.model!r} cannot be read: {reason}. It holds {_contents(Path(config.model))}; "
                "expected config.json, *.safetensors and the tokenizer's files, as `save_pretrained` writes them"
            ) from error
        raise ModelNotFoundError(
            f"{config.model!r} is no folder here, and as a hub name it is neither in the local cache nor could it be "
            f"fetched: {reason}. Check the name and the network (gated models need `hf auth login`), or give a folder "
            "as ./name"
        ) from error
    finally:
        hub_log.setLevel(before)


def _hub_options(config: PolicyConfig) -> dict[str, Any]:
    return {"revision": config.revision, "trust_remote_code": config.trust_remote_code}


def _contents(folder: Path) -> str:
    names = sorted(path.name for path in folder.expanduser().iterdir())
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"
