"""Making the policy that a spec names, and telling its size without reading any weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from policies.config import PolicyConfig
from policies.encoder import Encoder, require_template
from policies.errors import ModelNotFoundError, PolicyError
from policies.models.pretrained import architecture, load_pretrained, read_tokenizer_of
from policies.models.tiny import CONTEXT, make_tiny, tiny_architecture
from policies.models.tokenizer import VocabularySample, build_tokenizer, require_known
from policies.policy import Policy, context_of


@dataclass(frozen=True)
class ModelSize:
    """What a policy will take, found from its configuration alone."""

    num_parameters: int
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

    `saved` is a folder that `Policy.save` wrote: the policy then goes on from there, vocabulary included, also
    when the environments have changed since.
    """
    policy = _fresh(config, device, seed, sample, saved)
    if saved is not None:
        policy.load_weights(saved)
    return policy


def _fresh(
    config: PolicyConfig,
    device: torch.device,
    seed: int,
    sample: VocabularySample | None,
    saved: Path | None,
) -> Policy:
    if config.kind != "tiny":
        return load_pretrained(config, device)
    if sample is None:
        raise PolicyError(
            "model: tiny makes its vocabulary from the environments' prompts; pass a sample of them"
        )
    return make_tiny(config, sample, seed, device, saved)


@dataclass(frozen=True)
class PromptReader:
    """What of a policy its prompts meet."""

    encoder: Encoder
    context: int | None  # most tokens in a row; None: the model sets no limit


def load_prompt_reader(config: PolicyConfig, sample: VocabularySample | None = None) -> PromptReader | None:
    """Load what reads a policy's prompts, and no weights; None where a hub name's files are not here: none is fetched.

    That of `tiny` is the one that a run begins with; a resumed run has its own.
    """
    if config.kind == "tiny":
        is_closed = config.vocabulary == "closed"
        tokenizer = build_tokenizer(sample or VocabularySample({}), is_closed)
        check = partial(require_known, tokenizer) if is_closed else None
        return PromptReader(Encoder(tokenizer, config.template, check), CONTEXT)
    try:
        known = architecture(config, is_offline=True)
        tokenizer = read_tokenizer_of(config, known, is_offline=True)
    except ModelNotFoundError:
        if config.kind == "hub":
            return None
        raise
    require_template(tokenizer, config.template, config.model)
    return PromptReader(Encoder(tokenizer, config.template), context_of(known))


def describe_size(config: PolicyConfig, sample: VocabularySample | None = None) -> ModelSize:
    """Compute the size of a policy from its configuration; that of a hub name must be in the cache."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            _architecture(config, sample), trust_remote_code=config.trust_remote_code
        )
    num = sum(parameter.numel() for parameter in model.parameters())
    width = torch.finfo(getattr(torch, config.dtype)).bits // 8
    return ModelSize(num, num * width, num * (8 if width == 4 else 12))


def _architecture(config: PolicyConfig, sample: VocabularySample | None) -> object:
    if config.kind != "tiny":
        return architecture(config, is_offline=True)
    tokenizer = build_tokenizer(sample or VocabularySample({}), config.vocabulary == "closed")
    return tiny_architecture(config, len(tokenizer))
