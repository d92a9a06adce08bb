"""What a model's configuration and tokenizer say of it, without its weights; torch is not imported here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from policies.errors import PolicyError

END_REMEDY = (
    "Set `tokenizer.eos_token` to one of the model's tokens and save the tokenizer again, or save it with a chat "
    "template that puts a special token behind a turn"
)


# of a layer, and of these that a token meets, as configurations call their numbers
NUM_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
MET_EXPERTS = ("num_experts_per_tok", "top_k_experts", "moe_topk", "moe_k")
EXPERTS = "experts"  # the module whose weights they are


@dataclass(frozen=True)
class Endings:
    """The tokens that end an answer."""

    end_id: int | None  # what a template puts behind one, else the tokenizer's; None: neither has any
    stop_ids: tuple[int, ...]  # this one, the tokenizer's and those of the generation config

    @classmethod
    def of(cls, tokenizer: Any, template: str, generation: Any, name: str) -> Endings:
        """Find them; `generation`: the model's generation config, if it has one."""
        end_id = _end_of_turn(tokenizer, template, name)
        configured = None if generation is None else generation.eos_token_id
        listed = configured if isinstance(configured, list) else [configured]
        stops = {token for token in (*listed, tokenizer.eos_token_id, end_id) if token is not None}
        return cls(end_id, tuple(sorted(stops)))

    def require_end(self, name: str) -> int:
        """Give the token to write behind an answer; PolicyError if there is none."""
        if self.end_id is None:
            raise PolicyError(
                f"{name}: neither template nor tokenizer has a token that ends an answer, so a warm start cannot teach "
                f"one. {END_REMEDY}"
            )
        return self.end_id


def _end_of_turn(tokenizer: Any, template: str, name: str) -> int | None:
    """Find the token that ends an answer: the first special one that the template puts after it."""
    if template == "chat":
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "42"}]
        try:
            tail = tokenizer.apply_chat_template(turns, tokenize=False).rpartition("42")[2]
        except TemplateError as error:
            raise PolicyError(
                f"{name}: its chat template does not take a question and its answer: {error}. Save the tokenizer with "
                "another template, or say `template: none` in the policy section"
            ) from error
        added = tokenizer.added_tokens_decoder
        for token in tokenizer(tail, add_special_tokens=False).input_ids:
            if token in added and added[token].special:
                return int(token)
    eos: int | None = tokenizer.eos_token_id
    return eos


def width_of(architecture: Any) -> int:
    """Read from a model's configuration how wide its hidden states are."""
    return int(architecture.get_text_config().hidden_size)


def context_of(architecture: Any) -> int | None:
    """Read from a model's configuration how many tokens in a row it takes; None: it sets no limit."""
    limit: int | None = getattr(architecture.get_text_config(), "max_position_embeddings", None)
    return limit


def rows_of(architecture: Any) -> int | None:
    """Read from a model's configuration how many rows its embedding has; None: it does not say."""
    num: int | None = getattr(architecture.get_text_config(), "vocab_size", None)
    return num


@dataclass(frozen=True)
class Experts:
    """The experts of a model in whose layers a token meets some of them, picked by a router."""

    num_weights: int  # of all of them; those that every token meets (shared ones, the router) are not among these
    share: float | None  # of them that a token meets; None: not known

    def unmet(self, num_tokens: int) -> float:
        """Count the weights that none of so many tokens meets, where each picks evenly and for itself."""
        assert self.share is not None
        return self.num_weights * (1 - self.share) ** num_tokens


def experts_of(model: Any) -> Experts | None:
    """Find a model's experts, which may be without memory; None: every token meets all weights.

    Theirs are the weights below a module `experts`, and where its name is another those that hold a matrix for each.
    """
    text = model.config.get_text_config()
    num, met = _first(text, NUM_EXPERTS), _first(text, MET_EXPERTS)
    own = sum(
        weight.numel()
        for name, weight in model.named_parameters()
        if EXPERTS in name.split(".") or (weight.ndim == 3 and weight.shape[0] == num)
    )
    if not own and (num is None or num == 1):
        return None
    return Experts(own, min(1.0, met / num) if own and num and met else None)


def _first(architecture: Any, names: Sequence[str]) -> int | None:
    """Read the first of these numbers that a configuration has."""
    return next((number for name in names if (number := getattr(architecture, name, None))), None)
