"""A model as its files describe it, without its weights: its size, and what reads its prompts.

A folder, or a hub name whose files are in the cache. Torch and the library's models are imported where they are needed:
what is asked of `tiny` needs neither.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from policies.config import PolicyConfig
from policies.encoder import Encoder, require_template
from policies.errors import ModelNotFoundError, NoTokenizerError, PolicyError
from policies.model_facts import Endings, Experts, context_of, experts_of, rows_of, width_of
from policies.models.tiny_tokenizer import CONTEXT, VocabularySample, build_tokenizer, require_known

LONGEST = 200  # characters of a name in a message
WHOLE = "model.safetensors"  # weights in one file, as `save_pretrained` writes them
NO_TOKENIZER = "Couldn't instantiate the backend tokenizer"  # how the library begins, where it has no file to read
OTHER_KIND = "Unrecognized configuration class"  # how it begins, where it has no causal language model of this kind
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}  # of a weight


@dataclass(frozen=True)
class ModelSize:
    """What a policy will take, found from its configuration alone."""

    num_parameters: int  # without adapters
    width: int  # of the hidden states
    weights_bytes: int  # of the saved model
    optimizer_bytes: int  # of the saved optimiser state: two moments, and float32 copies of shorter weights
    num_adapted: int | None = None  # weights of the adapters; None: all weights learn
    experts: Experts | None = None  # None: every token meets all weights
    layers_kept: str | None = None  # why no layer can be run again in a backward pass; None: they can

    @classmethod
    def of(
        cls,
        num_parameters: int,
        width: int,
        config: PolicyConfig,
        num_adapted: int | None = None,
        *,
        saves_base: bool = True,
    ) -> ModelSize:
        """Work out the sizes of what is saved; `saves_base`: adapters with the model that they stand beside."""
        num_bytes = BYTES[config.dtype]
        whole = num_parameters * num_bytes
        if num_adapted is None:
            return cls(num_parameters, width, whole, num_parameters * (8 if num_bytes == 4 else 12))
        weights = num_adapted * BYTES["float32"] + (whole if saves_base else 0)
        return cls(num_parameters, width, weights, num_adapted * 8, num_adapted)


def training_bytes(num_parameters: int, num_adapted: int | None, num_shards: int) -> int:
    """Count what one rank trains with: its share of float32 weights, gradients and two moments, or all of adapters'."""
    num = 4 * BYTES["float32"] * (num_parameters if num_adapted is None else num_adapted)
    return num // num_shards if num_adapted is None else num


@dataclass(frozen=True)
class PromptReader:
    """What of a policy its prompts meet, and what ends its answers."""

    encoder: Encoder
    context: int | None  # most tokens in a row; None: the model sets no limit
    endings: Endings  # of its answers


def load_prompt_reader(
    config: PolicyConfig, sample: VocabularySample | None = None, *, is_needed: bool = True
) -> PromptReader | None:
    """Load what reads prompts at a run's start, and no weights; None where a hub name's files are not here.

    `is_needed`: a folder without a tokenizer is refused; else that gives None too.
    """
    if config.kind == "tiny":
        is_closed = config.vocabulary == "closed"
        tokenizer = build_tokenizer(sample or VocabularySample({}), is_closed)
        check = partial(require_known, tokenizer) if is_closed else None
        endings = Endings.of(tokenizer, config.template, None, config.model)
        return PromptReader(Encoder(tokenizer, config.template, check), CONTEXT, endings)
    try:
        known = load_architecture(config, is_offline=True)
        tokenizer = load_tokenizer(config, known, is_offline=True)
    except ModelNotFoundError as missing:
        if config.kind == "hub" or (isinstance(missing, NoTokenizerError) and not is_needed):
            return None
        raise
    require_template(tokenizer, config.template, config.model)
    endings = Endings.of(tokenizer, config.template, _generation_config(config, known), config.model)
    return PromptReader(Encoder(tokenizer, config.template, None, rows_of(known)), context_of(known), endings)


def describe_size(
    config: PolicyConfig, sample: VocabularySample | None = None, *, saves_base: bool = True
) -> ModelSize:
    """Compute the size of a policy from its configuration; that of a hub name must be in the cache."""
    if config.kind == "tiny":
        tokenizer = build_tokenizer(sample or VocabularySample({}), config.vocabulary == "closed")
        if config.adapter is None:
            return ModelSize.of(_num_weights(config, len(tokenizer)), config.hidden, config)
        from policies.models.tiny import tiny_architecture

        known = tiny_architecture(config, len(tokenizer))
    else:
        known = load_architecture(config, is_offline=True)
    import torch
    from transformers import AutoModelForCausalLM

    with explained(config), torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(known, trust_remote_code=config.trust_remote_code)
    from policies.forward import why_layers_are_kept

    num, own = sum(parameter.numel() for parameter in model.parameters()), None
    if config.adapter is not None:
        from policies import adapters

        own = adapters.num_weights(model, config.adapter, config.model)
    size = ModelSize.of(num, width_of(model.config), config, own, saves_base=saves_base)
    return replace(size, experts=experts_of(model), layers_kept=why_layers_are_kept(model))


def _num_weights(config: PolicyConfig, vocabulary_size: int) -> int:
    """Count the weights of `tiny`: embedding, tied to the head; per layer attention, MLP, two norms; the last norm."""
    width = config.hidden
    key_value = width // config.heads * config.kv_heads
    layer = 2 * width * width + 2 * width * key_value + 3 * width * config.mlp + 2 * width
    return vocabulary_size * width + config.layers * layer + width


def load_tokenizer(config: PolicyConfig, known: Any, *, is_offline: bool = False) -> Any:
    """Read the tokenizer of a model with this configuration; refused if its ids go beyond the embedding."""
    from transformers import AutoTokenizer

    options = {**hub_options(config), "config": known, "local_files_only": is_offline}
    with explained(config):
        tokenizer = AutoTokenizer.from_pretrained(locate(config), **options)
    if _is_empty(tokenizer):
        raise _no_tokenizer(config)
    _require_rows(tokenizer, known, config)
    return tokenizer


def _is_empty(tokenizer: Any) -> bool:
    """Whether it has special tokens alone: what the library makes of some architectures where there are no files."""
    special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    return set(tokenizer.get_vocab().values()) <= special


def _no_tokenizer(config: PolicyConfig) -> NoTokenizerError:
    if config.kind == "folder":
        where = f"model folder {config.model!r} has no tokenizer; it holds {_contents(Path(config.model))}"
    else:
        where = f"{config.model!r} has no tokenizer"
    return NoTokenizerError(
        f"{where}. Save the model's own beside it: `AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER)`"
    )


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


def weights_fault(config: PolicyConfig) -> str | None:
    """Say why a run could not read a folder's weights, as far as names and headers of files tell; None: it could."""
    if config.kind != "folder":
        return None
    from safetensors import SafetensorError, safe_open

    folder = Path(config.model).expanduser()
    index, names = folder / f"{WHOLE}.index.json", [WHOLE]
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError):
            return f"{index} is damaged: fetch or save the model again"
    elif not (folder / WHOLE).is_file():
        is_of_another_kind = any(folder.glob("*.safetensors")) or any(folder.glob("*.bin"))
        return None if is_of_another_kind else f"{config.model} holds no weights, which a run needs: {WHOLE}"
    for name in names:
        if not (folder / name).is_file():
            return f"{config.model} lacks {name}, which its index names: fetch or save the model again"
        try:
            with safe_open(folder / name, "np"):
                pass
        except SafetensorError as damaged:
            return f"{folder / name} is damaged ({damaged}): fetch or save the model again"
    return None


def load_architecture(config: PolicyConfig, *, is_offline: bool = False) -> Any:
    """Read the configuration of a model without its weights; offline, a hub name is looked up in the cache only."""
    from transformers import AutoConfig

    options = {**hub_options(config), "local_files_only": is_offline}
    with explained(config):
        return AutoConfig.from_pretrained(locate(config), **options)


def _generation_config(config: PolicyConfig, known: Any) -> Any:
    """Read what a model with weights would be given: its file if there is one, else what its configuration says."""
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(locate(config), revision=config.revision, local_files_only=True)
    except OSError:
        return GenerationConfig.from_model_config(known)


def locate(config: PolicyConfig) -> str:
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


def files_of(config: PolicyConfig) -> Path:
    """Say in which folder a model's files are, without the network; of a hub name that is not here this very name."""
    if config.kind == "hub":
        from transformers.utils import cached_file

        try:
            found = cached_file(config.model, "config.json", revision=config.revision, local_files_only=True)
        except OSError:
            return Path(config.model)
        return Path(found).parent
    return Path(config.model).expanduser()


@contextmanager
def explained(config: PolicyConfig) -> Iterator[None]:
    """Turn the library's errors into ones that say what to do; their own first line is kept.

    What the hub's client logs of every try is not shown: the error says what came of them.
    """
    hub_log = logging.getLogger("huggingface_hub")
    before = hub_log.level
    hub_log.setLevel(logging.ERROR)
    try:
        yield
    except (PolicyError, MemoryError):
        raise
    except Exception as error:  # of a damaged file the library raises whatever it comes upon
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines[: 1 + lines[0].endswith(":")]).rstrip(".") if lines else type(error).__name__
        if "trust_remote_code" in str(error):
            raise PolicyError(
                f"{config.model}: this model brings its own Python code. If you trust it, say "
                f"`trust_remote_code: true` in the policy section. ({reason})"
            ) from error
        if reason.startswith(NO_TOKENIZER):
            raise _no_tokenizer(config) from error
        if reason.startswith(OTHER_KIND):
            raise PolicyError(
                f"{config.model} is no causal language model, which writes one token after the other, or none that "
                f"transformers knows; an encoder-decoder such as T5 is none. ({reason})"
            ) from error
        if not isinstance(error, OSError | ValueError):
            raise PolicyError(
                f"{config.model}: transformers cannot read it ({type(error).__name__}: {reason}). Fetch or save all of "
                "its files again; of a model that is newer than the installed transformers, install a newer one"
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


def hub_options(config: PolicyConfig) -> dict[str, Any]:
    """Give what every reading of the library takes."""
    return {"revision": config.revision, "trust_remote_code": config.trust_remote_code}


def _contents(folder: Path) -> str:
    names = sorted(path.name for path in folder.expanduser().iterdir())
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"
