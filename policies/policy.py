"""The policy: a causal language model with its tokenizer, and the few facts about them that all others need."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.core_model_loading import revert_weight_conversion
from transformers.utils import logging as library

from policies import adapters
from policies.config import BASE, AdapterConfig
from policies.encoder import Encoder, Message, TurnTokens, plain_turn_tokens, require_template
from policies.errors import CheckpointError, PolicyError
from policies.forward import evaluating, score_rows
from policies.hardware import deterministic_kernels, free_cached_memory, nondeterministic_operation_of
from policies.layers import freeze_beside_text
from policies.model_facts import Endings, context_of, rows_of, width_of

LARGEST_FILE = "5GB"  # of weights: of those on a GPU, one file at a time is on the host while they are written
WRITTEN = ("transformers_version", "architectures", "dtype")  # of a configuration, by the library when it saves it
LONG_S = 10.0  # of reading weights, before a progress bar is drawn


@dataclass
class Policy:
    """A language model that learns. Its weights change in place; `version` counts how often."""

    model: Any  # a transformers causal language model, in eval mode
    tokenizer: Any  # its transformers tokenizer
    name: str  # as the spec has it
    template: Literal["chat", "none"] = "chat"
    version: int = 0  # of the weights: 0 as loaded, one more after every step that moved them
    check_text: Callable[[str], None] | None = None  # raises for text that the tokenizer would drop
    adapter: AdapterConfig | None = None  # what learns, where the rest is frozen
    num_merges: int = 0  # how often adapters were merged into the model
    kernels: Literal["torch", "liger"] = "torch"  # what computes norms, rotary embeddings and gated MLPs
    base_fingerprint: str | None = None  # of what is frozen, while it is the model of this name; None: it is not
    free_memory: Callable[[], None] = free_cached_memory  # gives back what GPUs keep for later tensors of its learner

    def __post_init__(self) -> None:
        require_template(self.tokenizer, self.template, self.name)
        endings = Endings.of(self.tokenizer, self.template, self.model.generation_config, self.name)
        self.end_id, self.stop_ids = endings.end_id, endings.stop_ids

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        dtype: torch.dtype = next(self.model.parameters()).dtype
        return dtype

    @cached_property
    def nondeterministic_operation(self) -> str | None:
        """Name the operation of its passes that gives other last bits each time on the device; None: none does."""
        if self.device.type != "cuda":
            return None
        ids_BT = torch.tensor([[self.pad_id] * 3], device=self.device)

        def differentiate() -> None:
            weights = [weight for weight in self.model.parameters() if weight.requires_grad]
            with torch.enable_grad():
                scored = score_rows(self.model, ids_BT, ids_BT.new_tensor([[0, 1, 1]], dtype=torch.bool))
                torch.autograd.grad(scored.lp_BT.sum(), weights, allow_unused=True)

        with evaluating(self.model):
            return nondeterministic_operation_of(differentiate)

    def deterministic(self) -> AbstractContextManager[None]:
        """Have its gradients come out the same to the last bit each time inside the block, where the model can."""
        return deterministic_kernels(self.device, strict=self.nondeterministic_operation is None)

    @property
    def num_parameters(self) -> int:
        """Weights, tied ones counted once and adapters left out."""
        return sum(one.numel() for name, one in self.model.named_parameters() if not adapters.is_of_adapter(name))

    @property
    def context(self) -> int | None:
        """Most tokens in a row, prompt and answer together; None: the model sets no limit."""
        return context_of(self.model.config)

    @property
    def width(self) -> int:
        """Of the hidden states."""
        return width_of(self.model.config)

    @property
    def pad_id(self) -> int:
        """Some valid token id; padding is never read, so any will do."""
        pad: int | None = self.tokenizer.pad_token_id
        return 0 if pad is None else pad

    @property
    def endings(self) -> Endings:
        """What ends its answers."""
        return Endings(self.end_id, self.stop_ids)

    @property
    def encoder(self) -> Encoder:
        """What reads its prompts."""
        return Encoder(self.tokenizer, self.template, self.check_text, rows_of(self.model.config))

    def encode(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Give the token ids of a conversation, up to where the policy's next answer begins."""
        return self.encoder.encode(messages)

    def encode_answer(self, text: str, *, ends: bool = True) -> tuple[int, ...]:
        """Give the token ids of an answer, followed by the end-of-turn token unless told otherwise."""
        if self.check_text is not None:
            self.check_text(text)
        ids = self.encoder.within(self.tokenizer(text, add_special_tokens=False).input_ids)
        return (*ids, self.endings.require_end(self.name)) if ends else ids

    def bridge(self, replies: Sequence[Message], asked: Sequence[Message]) -> tuple[int, ...]:
        """Give the token ids between two answers; `PolicyError` for a template that changes earlier turns.

        `asked`: how the conversation begins.
        """
        if self.check_text is not None:
            for reply in replies:
                self.check_text(reply["content"])
        if self.template == "none":
            return self.encoder.within(plain_turn_tokens(self.tokenizer, replies))
        return self.encoder.within(self._turn_tokens(replies, self.encoder.opening(asked)))

    @cached_property
    def _turn_tokens(self) -> TurnTokens:
        """Made with the first second turn: a template that only ever sees one need not append."""
        return TurnTokens(self.tokenizer, self.end_id, self.name)

    def decode(self, ids: Sequence[int]) -> str:
        """Give the text of an answer, special tokens left out. Never encode it again: ids may differ."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text

    @property
    def has_own_base(self) -> bool:
        """Whether adapters stand beside a model that is not the one of this name, so that it is saved with them."""
        return self.adapter is not None and self.base_fingerprint is None

    def put_adapters(self, config: AdapterConfig, seed: int, *, has_own_base: bool) -> None:
        """Freeze the model and have adapters beside it learn; until they do, it is the same to the last bit.

        `has_own_base`: it is not the model of the policy's name, but was made here or trained before.
        """
        adapters.inject(self.model, config, torch.Generator().manual_seed(seed), self.name)
        self.adapter = config
        self.base_fingerprint = None if has_own_base else adapters.fingerprint(self.model)

    def merge_adapters(self, generator: torch.Generator) -> None:
        """Add what adapters learnt to the model, and begin with fresh ones."""
        adapters.merge(self.model, generator)
        self.num_merges += 1
        self.base_fingerprint = None

    def digests(self) -> dict[str, str]:
        """Hash what it is beside its weights, a word for each part, whatever the folder that it was read from."""
        known = json.loads(self.model.config.to_json_string())
        configuration = {name: value for name, value in known.items() if name not in WRITTEN}
        tokenizer = {str(name): content.hex() for name, content in self._tokenizer_files.items()}
        parts = {"configuration": configuration, "tokenizer": tokenizer, "ends of answers": vars(self.endings)}
        texts = {name: json.dumps(part, sort_keys=True) for name, part in parts.items()}
        return {name: hashlib.sha256(text.encode()).hexdigest()[:12] for name, text in texts.items()}

    def state(self) -> dict[str, Tensor]:
        """Give the tensors that `save` writes, those that move: adapters alone, where the rest has a name."""
        state: dict[str, Tensor] = self.model.state_dict()
        if self.adapter is None or self.has_own_base:
            return state
        return {name: one for name, one in state.items() if adapters.is_of_adapter(name)}

    def save(self, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write weights, configuration and tokenizer in the layout that `from_pretrained` reads.

        Of a policy with adapters these, as peft reads them; what is frozen beside them, in a folder of its own, where
        the policy's name does not stand for it. `weights`: a copy of `state`, and the model's own is then not looked
        at; a thread may write it beside training.
        """
        state = self.state() if weights is None else weights
        if self.adapter is None:
            self._save_model(folder, state)
        else:
            adapters.save(self.model, folder, state, self.name, self.base_fingerprint)
            if self.has_own_base:
                self._save_model(folder / BASE, adapters.base_state(state))
        self._save_tokenizer(folder)

    def save_base(self, folder: Path) -> None:
        """Write the model that adapters stand beside, in the layout that `from_pretrained` reads, without tokenizer."""
        self._save_model(folder, adapters.base_state(self.model.state_dict()))

    def save_adapters(self, folder: Path) -> None:
        """Write the adapters alone, in peft's layout."""
        adapters.save(self.model, folder, adapters.adapter_weights(self.model), self.name, None)

    def save_merged(self, folder: Path, *, tokenizer: bool = True) -> None:
        """Write one plain model that computes the same, in the layout that `from_pretrained` reads."""
        self._save_model(folder, self.model.state_dict() if self.adapter is None else adapters.merged_state(self.model))
        if tokenizer:
            self._save_tokenizer(folder)

    def plain_weights(self) -> Iterable[tuple[str, Tensor]]:
        """Give names and tensors as `save_merged` writes them, tied ones once, those of this model itself if it can.

        Adapters are added to one weight after the other, as it is asked for, unless files have other matrices.
        """
        state: dict[str, Tensor] = self.model.state_dict()
        named = {name for name, _ in (*self.model.named_parameters(), *self.model.named_buffers())}  # tied ones once
        own = adapters.base_state({name: one for name, one in state.items() if name in named})
        in_files: dict[str, Tensor] = revert_weight_conversion(self.model, own)
        if self.adapter is None:
            return in_files.items()
        merged = ((name, weight.detach()) for name, weight in adapters.merged_weights(self.model))
        if in_files.keys() == own.keys():
            learnt = {adapters.plain_name(name) for name, _ in self.model.named_parameters()}
            return chain(merged, ((name, one) for name, one in own.items() if name not in learnt))
        converted: dict[str, Tensor] = revert_weight_conversion(self.model, own | dict(merged))
        return converted.items()

    def _save_model(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        with without_progress_bars():
            self.model.save_pretrained(folder, state_dict=dict(state), max_shard_size=LARGEST_FILE)

    def _save_tokenizer(self, folder: Path) -> None:
        for name, content in self._tokenizer_files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)

    @cached_property
    def _tokenizer_files(self) -> Mapping[Path, bytes]:
        """By relative path. They never change; and a tokenizer is not written by one thread while another encodes."""
        with TemporaryDirectory() as folder:
            self.tokenizer.save_pretrained(folder)
            files = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
            return {path.relative_to(folder): path.read_bytes() for path in files}

    def load_weights(self, folder: Path) -> None:
        """Read weights that `save` wrote into this model, in place; names and shapes must agree in both directions."""
        if self.adapter is not None:
            own = adapters.adapter_weights(self.model)
            adapters.require_base(folder, self.base_fingerprint, self.name)
            self.model.load_state_dict(adapters.saved(folder, own), strict=False)
            return
        state = self.model.state_dict()
        with without_progress_bars():
            saved = read_model(str(folder), next(iter(state.values())).dtype, self.model).state_dict()
        there, here = ({name: tuple(one.shape) for name, one in found.items()} for found in (saved, state))
        if wrong := sorted({name for name, _ in there.items() ^ here.items()}):
            raise CheckpointError(
                f"the weights in {folder} do not fit: {wrong[0]} is {there.get(wrong[0], 'missing')} there and "
                f"{here.get(wrong[0], 'missing')} here ({len(wrong)} tensors differ). Use the spec they were saved with"
            )
        self.model.load_state_dict(saved)


def weights_in(folder: Path, like: Mapping[str, Tensor], model: Any) -> dict[str, Tensor]:
    """Read weights of a model that `save` wrote, by the names of these and in their dtype, on the CPU."""
    if any(map(adapters.is_of_adapter, like)):
        return adapters.saved(folder, like)
    with without_progress_bars():
        saved = dict(read_model(str(folder), next(iter(like.values())).dtype, model).named_parameters())
    wrong = [name for name, one in like.items() if name not in saved or saved[name].shape != one.shape]
    if wrong:
        raise CheckpointError(
            f"the weights in {folder} are of another model: {wrong[0]} differs, and {len(wrong) - 1} others"
        )
    return {name: saved[name].detach() for name in like}


def read_model(source: str, dtype: torch.dtype, like: Any = None, **options: Any) -> Any:
    """Read a model on the CPU, in eval mode, what reads images and sound frozen; no global random state is moved.

    `like`: one of its class, so that no code of the folder's own is asked for. Raises PolicyError where its files lack
    weights, which the library would draw at random, have them in other shapes, or are damaged.
    """
    kind = AutoModelForCausalLM if like is None else type(like)
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        with torch.random.fork_rng(devices=[]), late_progress_bars():
            model, found = kind.from_pretrained(source, dtype=dtype, **options)
    except SafetensorError as damaged:
        raise PolicyError(f"{source}: a file of weights is damaged ({damaged}): fetch or save it again") from damaged
    if lacking := sorted(found["missing_keys"]):
        more = f" and {len(lacking) - 1:,} more" if lacking[1:] else ""
        raise PolicyError(
            f"{source} has no weights for {lacking[0]}{more}, which its configuration asks for: fetch or save all of "
            "the model's files again"
        )
    if others := sorted(found["mismatched_keys"]):
        name, there, here = others[0]
        raise PolicyError(
            f"{source}: {name} is {tuple(there)} in its files and {tuple(here)} by its configuration"
            f"{f', and so {len(others) - 1} others differ' if others[1:] else ''}: they are of two models"
        )
    freeze_beside_text(model.eval())
    return model


@contextmanager
def late_progress_bars() -> Iterator[None]:
    """Have the library draw a progress bar for what takes long, and for nothing else."""

    def draw(bar: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        return bar(*arguments, **{"delay": LONG_S, **options})

    before = library.set_tqdm_hook(draw)
    try:
        yield
    finally:
        library.set_tqdm_hook(before)


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keep the library from drawing a progress bar for every checkpoint."""
    was_enabled = library.is_progress_bar_enabled()
    library.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            library.enable_progress_bar()
